"""The joblib backend "sktorch": fits that run at the same time train as one.

Each task runs in a thread of its own, as it would anywhere, until an estimator of sktorch is to
train. There it waits. Once every task that could run waits, all the waiting fits are trained
together, and the tasks go on.
"""

import os
import threading
import warnings
from collections import deque
from contextlib import contextmanager

from joblib import register_parallel_backend
from joblib.parallel import ParallelBackendBase

from sktorch.engine import loop
from sktorch.engine.memory import available_bytes, bytes_of
from sktorch.engine.stacked import run_together

__all__ = ["SktorchBackend", "run"]

# Tasks that may be begun and unfinished where ``n_jobs`` does not say.
_MOST_ALIVE = 256

# Share of the memory that is available which they may take.
_MEMORY_SHARE = 0.5
_here = threading.local()


class CancelledError(Exception):
    """Ends the tasks of a call that was interrupted, or of which another task failed."""


def run(state):
    """Train a fit: with the others that wait, inside a task of the backend; else at once."""
    meeting = getattr(_here, "meeting", None)
    if meeting is None:
        loop.run(state)
    else:
        meeting.train(state)


class Meeting:
    """Where the tasks of one call of joblib, and of calls inside these, wait for each other.

    A thread is *busy* while it runs Python code of a task, and at most as many are as there are
    processors; it is not while it waits for others. Training begins when none is busy, none could
    start, and nobody is still handing in tasks.
    """

    def __init__(self):
        self.changed = threading.Condition()
        self.most_busy = max(1, len(os.sched_getaffinity(0)))
        self.busy = 0
        self.handing_in = 0
        self.training = False
        self.guests = []
        self.pools = []
        self.most_alive = _MOST_ALIVE
        self.is_cancelled = False
        self.warned = set()

    # Being busy -------------------------------------------------------------------------------

    def begin_work(self):
        """Wait until the calling thread may be busy."""
        with self.changed:
            self.changed.wait_for(lambda: self.busy < self.most_busy)
            self.busy += 1

    def end_work(self):
        """Tell that the calling thread ends or waits for others."""
        with self.changed:
            self.busy -= 1
            self.changed.notify_all()
            self.advance()

    @contextmanager
    def idle(self):
        """Let others be busy inside."""
        self.end_work()
        try:
            yield
        finally:
            self.begin_work()

    def advance(self):
        """Start what can start; to be called with the lock whenever something has changed."""
        for pool in self.pools:
            pool.start_threads()
        if self.is_quiet() and self.guests and not self.training:
            self.training = True
            leader = threading.Thread(target=self._lead, name="sktorch-train", daemon=True)
            leader.start()

    def is_quiet(self):
        """Whether nobody is busy, about to be, or handing in tasks."""
        return not (self.busy or self.handing_in or any(pool.starting for pool in self.pools))

    # Training ---------------------------------------------------------------------------------

    def train(self, state):
        """Wait until the fit of ``state`` is trained; raise what it raised."""
        guest = _Guest(state)
        with self.changed:
            self._check()
            self.guests.append(guest)
            self.most_alive = min(self.most_alive, _affordable(state))
        with self.idle(), self.changed:
            self.changed.wait_for(lambda: guest.is_done or self.is_cancelled)
        if guest.error is not None:
            raise guest.error
        if not guest.is_done:
            self._check()

    def _lead(self):
        """Train all who wait, in a thread of its own."""
        with self.changed:
            guests, self.guests = self.guests, []
        try:
            errors = run_together([guest.state for guest in guests], self._warn, self._check)
        except BaseException as error:
            # One for each: an error that is raised in many threads gathers all their tracebacks.
            errors = [_copied(error) for _ in guests]
        with self.changed:
            for guest, error in zip(guests, errors, strict=True):
                guest.error, guest.is_done = error, True
            self.training = False
            self.changed.notify_all()
            self.advance()

    def _check(self):
        if self.is_cancelled:
            raise CancelledError("another task of this call failed, or it was interrupted")

    def _warn(self, reason):
        if reason in self.warned:
            return
        self.warned.add(reason)
        warnings.warn(
            f'backend "sktorch" trains some fits one by one: {reason}. The results are the same. '
            "Change it to train them as one, or use another backend.",
            UserWarning,
            stacklevel=2,
        )

    def cancel(self):
        """End what runs as soon as it can be ended."""
        with self.changed:
            self.is_cancelled = True
            self.changed.notify_all()


def _affordable(state):
    """Return how many fits like this one there is memory for."""
    available = available_bytes(state.device)
    if available is None:
        return _MOST_ALIVE
    # Each task has the data once more, as it was before it was placed.
    return max(2, int(_MEMORY_SHARE * available / (2 * bytes_of(state))))


def _copied(error):
    own = RuntimeError(f"training together failed: {type(error).__name__}: {error}")
    own.__cause__ = error
    return own


class _Guest:
    """A fit that waits to be trained."""

    def __init__(self, state):
        self.state = state
        self.error = None
        self.is_done = False


class SktorchBackend(ParallelBackendBase):
    """Trains the fits of many tasks as one: ``joblib.parallel_config(backend="sktorch")``.

    ``n_jobs`` is how many tasks may be begun and unfinished, each with its data and its net. Unset
    or -1, it is as many as half of the memory holds, and at most 256; with 1 nothing is stacked.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    def __init__(self, nesting_level=None, inner_max_num_threads=None, meeting=None, **kwargs):
        super().__init__(nesting_level, inner_max_num_threads, **kwargs)
        self.outer = meeting

    def effective_n_jobs(self, n_jobs):
        """Return how many tasks may be alive."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return _MOST_ALIVE if n_jobs is None or n_jobs < 0 else n_jobs

    def configure(self, n_jobs=1, parallel=None, **kwargs):
        """Prepare for a call; return how many tasks may be alive."""
        self.parallel = parallel
        self.meeting = self.outer or Meeting()
        self.pool = _Pool(self.meeting, self.effective_n_jobs(n_jobs))
        with self.meeting.changed:
            self.meeting.pools.append(self.pool)
        return self.pool.n_alive

    def get_nested_backend(self):
        """Return what calls inside a task use: its fits meet those of the others."""
        level = (self.nesting_level or 0) + 1
        return SktorchBackend(nesting_level=level, meeting=self.meeting), None

    def start_call(self):
        """Begin to hand in tasks."""
        with self.meeting.changed:
            self.meeting.handing_in += 1

    def stop_call(self):
        """Stop handing in."""
        with self.meeting.changed:
            self.meeting.handing_in -= 1
            self.meeting.advance()

    @contextmanager
    def retrieval_context(self):
        """Wait for results, while no more tasks come from here."""
        self.stop_call()
        nested = getattr(_here, "meeting", None) is self.meeting
        try:
            if nested:
                with self.meeting.idle():
                    yield
            else:
                yield
        finally:
            self.start_call()

    def submit(self, func, callback=None):
        """Queue a task."""
        with self.meeting.changed:
            self.pool.tasks.append((func, callback))
            self.meeting.advance()

    def retrieve_result_callback(self, out):
        """Return what a task returned, or raise what it raised."""
        result, error = out
        if error is not None:
            raise error
        return result

    def terminate(self):
        """Let go of the pool."""
        with self.meeting.changed:
            if self.pool in self.meeting.pools:
                self.meeting.pools.remove(self.pool)

    def abort_everything(self, ensure_ready=True):
        """Drop the tasks that have not begun, and end the training of those that have."""
        with self.meeting.changed:
            self.pool.tasks.clear()
        if self.outer is None:
            self.meeting.cancel()
        self.terminate()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


class _Pool:
    """The tasks of one call, and the threads that run them."""

    def __init__(self, meeting, n_alive):
        self.meeting = meeting
        self.n_alive = n_alive
        self.tasks = deque()
        self.alive = 0
        self.starting = 0

    def start_threads(self):
        """Begin tasks while there are processors for them; called with the lock."""
        meeting = self.meeting
        while (
            len(self.tasks) > self.starting
            and self.alive < min(self.n_alive, meeting.most_alive)
            and meeting.busy + sum(pool.starting for pool in meeting.pools) < meeting.most_busy
        ):
            self.alive += 1
            self.starting += 1
            threading.Thread(target=self._run, name="sktorch-task", daemon=True).start()

    def _run(self):
        """Run tasks while there are any."""
        meeting = self.meeting
        _here.meeting = meeting
        with meeting.changed:
            self.starting -= 1
            meeting.busy += 1
        while True:
            with meeting.changed:
                if not self.tasks:
                    self.alive -= 1
                    break
                task, callback = self.tasks.popleft()
            try:
                outcome = task(), None
            except BaseException as error:
                outcome = None, error
            if callback is not None:
                callback(outcome)
        meeting.end_work()


register_parallel_backend("sktorch", SktorchBackend)
