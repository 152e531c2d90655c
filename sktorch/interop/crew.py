"""The processes that share the tasks of a call, each of which trains the fits of its share as one.

Threads of one process take turns in Python, which is half of what a search of small nets does.
"""

import threading
import warnings

from sktorch.interop.worker import Worker, packed

__all__ = ["Crew"]


class Crew:
    """The other processes of a call.

    Tasks wait until no more are being handed in; then each process gets as many. Those that follow
    when others are done go where these were.

    Parameters
    ----------
    pool : Pool
        Of the calling process.
    n_processes : int
        With the calling one.
    environment : dict of str to str
        Variables of the others.
    """

    def __init__(self, pool, n_processes, environment):
        self.pool = pool
        self.n_processes = n_processes
        self.environment = environment
        self.waiting = None
        self.workers = []
        self.warnings = []
        self._here = threading.local()

    def gather(self):
        """Let tasks wait from now on."""
        self.waiting = []

    def takes(self, task, callback):
        """Take a task, unless it is for the calling process at once."""
        waiting = getattr(self._here, "following", self.waiting)
        if waiting is not None:
            waiting.append((task, callback))
        return waiting is not None

    def hand_out(self):
        """Give each process as many of the tasks that wait."""
        waiting, self.waiting = self.waiting or [], None
        own, *others = (waiting[first :: self.n_processes] for first in range(self.n_processes))
        for share in filter(None, others):
            tasks = self._packed(share)
            if tasks is None:
                own += share
                continue
            worker = Worker.borrow(self.environment)
            self.workers.append(worker)
            threading.Thread(
                target=self._follow, args=(worker, tasks, share), name="sktorch-crew", daemon=True
            ).start()
        self.pool.add_all(own)

    def _packed(self, share):
        """Return tasks as bytes, or None where they cannot be sent."""
        try:
            return packed([task for task, _ in share])
        except Exception as error:
            words = (
                f'backend "sktorch": some tasks ran in this process, since they cannot be sent to '
                f"another ({type(error).__name__}: {error}). Make what they hold picklable, or set "
                "n_processes=1."
            )
            self.warnings.append((words, UserWarning, __file__, 1))
            return None

    def _follow(self, worker, tasks, share):
        """Let a worker run tasks, and those that follow from them, and hand over the outcomes."""
        room, most_alive = self.pool.meeting.room, self.pool.most_alive
        while tasks is not None:
            try:
                outcomes, told = worker.run(tasks, room, most_alive)
            except Exception as error:
                outcomes, told = [(None, error, None)] * len(share), []
            self.warnings += told
            self._here.following = []
            for (_, callback), (result, error, where) in zip(share, outcomes, strict=True):
                if where is not None:
                    error.__cause__ = RemoteTraceback(where)
                self.pool.report(callback, (result, error))
            share = self._here.following
            tasks = self._packed(share) if share else None
        self.pool.add_all(share)

    def tell(self):
        """Give the warnings that had to wait, those of the other processes among them."""
        told, self.warnings = self.warnings, []
        for message, category, filename, lineno in told:
            warnings.warn_explicit(message, category, filename, lineno)

    def release(self):
        """Let other calls have the processes."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.give_back()

    def kill(self):
        """End the processes, whatever they do, and drop the tasks that wait."""
        self.waiting = None
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.kill()


class RemoteTraceback(Exception):
    """Where in another process an error was raised, as text."""
