"""The joblib backend "sktorch": fits that run at the same time train as one.

Each task runs in a thread of its own, as it would anywhere, until an estimator of sktorch is to
train. There it waits. Once every task that could run waits, all the waiting fits are trained
together, and the tasks go on.
"""

import math
import threading
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import current_process
from numbers import Integral

from joblib import cpu_count, register_parallel_backend
from joblib.parallel import FallbackToBackend, ParallelBackendBase

from sktorch.interop.crew import Crew
from sktorch.interop.meeting import MOST_ALIVE, Meeting, Room, current_meeting
from sktorch.interop.pool import Pool

__all__ = ["SktorchBackend", "register"]

# What a backend holds of the call that it serves.
_OF_A_CALL = {"parallel": None, "pool": None, "crew": None, "ended": None}

# Seconds after which a call looks itself whether it has its results.
_LOOK_SECONDS = 1.0


class SktorchBackend(ParallelBackendBase):
    """Trains the fits of many tasks as one: ``joblib.parallel_config(backend="sktorch")``.

    ``n_jobs`` is how many tasks may be begun and unfinished, each with its data and its net. Unset
    or -1, it is as many as half of the memory holds, and at most 256; with 1 nothing is stacked.

    Parameters
    ----------
    n_processes : int, default=1
        Processes that share the tasks, the calling one among them; each trains its share as one.
        -1 is one for each processor.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(
        self,
        nesting_level=None,
        inner_max_num_threads=None,
        meeting=None,
        n_processes=1,
        **kwargs,
    ):
        super().__init__(nesting_level, inner_max_num_threads, **kwargs)
        self.is_inner = meeting is not None
        self.meeting = meeting
        vars(self).update(_OF_A_CALL)
        self.n_processes = _checked(n_processes)
        self.uses_threads = self.supports_sharedmem = self.n_processes == 1

    def __getstate__(self):
        # In another process it is of the meeting that its task takes part in.
        return {**vars(self), **_OF_A_CALL, "meeting": None}

    def _twin(self):
        """Return a backend like this one, for another call at the same time."""
        twin = SktorchBackend()
        vars(twin).update(vars(self), **_OF_A_CALL)
        if not self.is_inner:
            # Of its own, since a call that fails cancels its meeting.
            twin.meeting = None
        return twin

    def effective_n_jobs(self, n_jobs):
        """Return how many tasks may be alive."""
        if n_jobs == 0:
            raise ValueError("n_jobs must not be 0: pass -1 for as many as memory allows, or 2.")
        return MOST_ALIVE if n_jobs is None or n_jobs < 0 else n_jobs

    def configure(self, n_jobs=1, parallel=None, **kwargs):
        """Prepare for a call; return how many tasks may be alive."""
        if self.pool is not None and not self.pool.is_closed:
            # A call inside the making of another's tasks, or while a generator is being read.
            raise FallbackToBackend(self._twin())
        self.parallel = parallel
        if self.is_inner:
            self.meeting = self.meeting or current_meeting()
        elif self.meeting is None or self.meeting.is_cancelled:
            self.meeting = Meeting(Room.of(self.n_processes))
        most_alive = self.effective_n_jobs(n_jobs)
        self._open(math.ceil(most_alive / self.n_processes))
        return most_alive

    def _open(self, most_alive):
        """Begin with new tasks, so many of which may be alive in each process."""
        self.pool = Pool(self.meeting, most_alive)
        # A process that must not start others has nobody to share with.
        if self.n_processes > 1 and not current_process().daemon:
            environment = self._prepare_worker_env(self.n_processes)
            self.crew = Crew(self.pool, self.n_processes, environment)

    def get_nested_backend(self):
        """Return what calls inside a task use: their fits meet those of the others."""
        level = (self.nesting_level or 0) + 1
        return SktorchBackend(nesting_level=level, meeting=self.meeting), None

    def start_call(self):
        """Begin to hand in tasks."""
        self.ended = threading.Event()
        if self.crew is not None:
            self.crew.gather()
        self.pool.hand_in(True)

    def stop_call(self):
        """End the call."""
        self.pool.hand_in(False)

    @contextmanager
    def retrieval_context(self):
        """Wait for results, while no more tasks come from here."""
        pool, meeting, crew = self.pool, self.pool.meeting, self.crew
        inside = current_meeting() is meeting
        # Of a call that has failed in the making of its tasks none is begun.
        if crew is not None and not self.parallel._aborting:
            crew.hand_out()
        pool.hand_in(False)
        with meeting.idle() if inside else nullcontext():
            pool.awaits = inside
            try:
                self._wait()
                yield
            except BaseException:
                if crew is not None:
                    # The error is worth more than a warning that is one.
                    with suppress(Warning):
                        crew.tell()
                raise
            finally:
                pool.awaits = False
        if crew is not None:
            crew.release()
            crew.tell()

    def _wait(self):
        """Wait for all results, where they are wanted all at once.

        Joblib looks for them a hundred times a second, and each look interrupts a task.
        """
        if self.parallel.return_generator or self.parallel.timeout is not None:
            return
        while not _has_ended(self.parallel) and not self.ended.wait(_LOOK_SECONDS):
            pass

    def submit(self, func, callback=None):
        """Queue a task."""
        parallel, ended = self.parallel, self.ended

        def report(outcome):
            callback(outcome)
            if _has_ended(parallel):
                ended.set()

        if self.crew is None or not self.crew.takes(func, report):
            self.pool.add(func, report)

    def retrieve_result_callback(self, out):
        """Return what a task returned, or raise what it raised."""
        result, error = out
        if error is not None:
            raise error
        return result

    def terminate(self):
        """Let go of the tasks of the call once they have ended."""
        self.pool.close()
        if self.crew is not None:
            self.crew.release()

    def abort_everything(self, ensure_ready=True):
        """Drop the tasks that have not begun, and end the training of those that have."""
        if not self.is_inner:
            self.meeting.cancel()
        self.pool.abort()
        if self.crew is not None:
            self.crew.kill()
        self.terminate()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


def _has_ended(parallel):
    """Whether a call of joblib has all results of the tasks that it has handed in, or an error."""
    return parallel._aborting or parallel.n_completed_tasks >= parallel.n_dispatched_tasks


def _checked(n_processes):
    """Return how many processes are meant."""
    whole = isinstance(n_processes, Integral) and not isinstance(n_processes, bool)
    if not whole or (n_processes < 1 and n_processes != -1):
        raise ValueError(
            'n_processes of backend "sktorch" must be a whole number of 1 or more, or -1 for one '
            f"each processor, got {n_processes!r}."
        )
    return cpu_count() if n_processes == -1 else int(n_processes)


def register():
    """Make the backend known to joblib."""
    register_parallel_backend("sktorch", SktorchBackend)
