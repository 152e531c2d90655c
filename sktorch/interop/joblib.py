"""The joblib backend "sktorch": fits that run at the same time train as one.

Each task runs in a thread of its own, as it would anywhere, until an estimator of sktorch is to
train. There it waits. Once every task that could run waits, all the waiting fits are trained
together, and the tasks go on.
"""

from contextlib import contextmanager, nullcontext

from joblib import register_parallel_backend
from joblib.parallel import ParallelBackendBase

from sktorch.interop.meeting import MOST_ALIVE, Meeting, Pool, current_meeting

__all__ = ["SktorchBackend", "register"]


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
        self.is_inner = meeting is not None
        self.meeting = meeting
        self.pool = None

    def effective_n_jobs(self, n_jobs):
        """Return how many tasks may be alive."""
        if n_jobs == 0:
            raise ValueError("n_jobs must not be 0: pass -1 for as many as memory allows, or 2.")
        return MOST_ALIVE if n_jobs is None or n_jobs < 0 else n_jobs

    def configure(self, n_jobs=1, parallel=None, **kwargs):
        """Prepare for a call; return how many tasks may be alive."""
        self.parallel = parallel
        if self.meeting is None or (self.meeting.is_cancelled and not self.is_inner):
            self.meeting = Meeting()
        self.pool = Pool(self.meeting, self.effective_n_jobs(n_jobs))
        with self.meeting.lock:
            self.meeting.pools.append(self.pool)
        return self.pool.most_alive

    def get_nested_backend(self):
        """Return what calls inside a task use: their fits meet those of the others."""
        level = (self.nesting_level or 0) + 1
        return SktorchBackend(nesting_level=level, meeting=self.meeting), None

    def start_call(self):
        """Begin to hand in tasks."""
        self._hand_in(True)

    def stop_call(self):
        """End the call."""
        self._hand_in(False)

    def _hand_in(self, value):
        pool = self.pool
        with pool.meeting.lock:
            pool.is_handing_in = value
            pool.meeting.advance()

    @contextmanager
    def retrieval_context(self):
        """Wait for results, while no more tasks come from here."""
        pool, meeting = self.pool, self.pool.meeting
        inside = current_meeting() is meeting
        self._hand_in(False)
        with meeting.idle() if inside else nullcontext():
            pool.awaits = inside
            try:
                yield
            finally:
                pool.awaits = False

    def submit(self, func, callback=None):
        """Queue a task."""
        pool = self.pool
        with pool.meeting.lock:
            pool.add(func, callback)

    def retrieve_result_callback(self, out):
        """Return what a task returned, or raise what it raised."""
        result, error = out
        if error is not None:
            raise error
        return result

    def terminate(self):
        """Let go of the tasks of the call once they have ended."""
        pool = self.pool
        with pool.meeting.lock:
            pool.is_closed = True
            pool.meeting.advance()

    def abort_everything(self, ensure_ready=True):
        """Drop the tasks that have not begun, and end the training of those that have."""
        if not self.is_inner:
            self.meeting.cancel()
        self.pool.abort()
        self.terminate()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel)


def register():
    """Make the backend known to joblib."""
    register_parallel_backend("sktorch", SktorchBackend)
