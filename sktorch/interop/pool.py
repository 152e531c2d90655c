"""Tasks, and the threads that run them as members of a meeting."""

import threading
import warnings
from collections import deque
from functools import partial

from sktorch.engine.kept_threads import in_thread
from sktorch.interop.meeting import Meeting, current_meeting, here

__all__ = ["Pool", "run_tasks"]


class Pool:
    """The tasks of one call, and the threads that run them.

    Parameters
    ----------
    meeting : Meeting
    most_alive : int
        Tasks that may be begun and unfinished.

    Attributes
    ----------
    is_handing_in : bool
        Whether more tasks are to come.
    awaits : bool
        Whether the call is inside a task of the meeting, and waits for its results.
    """

    def __init__(self, meeting, most_alive):
        self.meeting = meeting
        self.most_alive = most_alive
        self.place = (*getattr(here, "place", ()), next(meeting.calls))
        self.n_tasks = 0
        self.tasks = deque()
        self.alive = 0
        self.starting = 0
        self.is_handing_in = False
        self.awaits = False
        self.is_closed = False
        self.is_aborted = False
        self._reporting = threading.RLock()
        self._filters = warnings.filters, [*warnings.filters]
        with meeting.lock:
            meeting.pools.append(self)

    def add(self, task, callback):
        """Queue a task; ``callback`` is called with what it returned, and what it raised."""
        self.add_all([(task, callback)])

    def add_all(self, tasks):
        """Queue pairs of a task and its callback."""
        with self.meeting.lock:
            for task, callback in tasks:
                self.tasks.append(((*self.place, self.n_tasks), task, callback))
                self.n_tasks += 1
            self.meeting.advance()

    def hand_in(self, more):
        """Tell whether more tasks are to come."""
        with self.meeting.lock:
            self.is_handing_in = more
            self.meeting.advance()

    def close(self):
        """Let go of the tasks once they have ended."""
        with self.meeting.lock:
            self._mend_filters()
            self.is_closed = True
            self.meeting.advance()

    def is_over(self):
        """Whether the call has ended and nothing of it is left."""
        return self.is_closed and not self.tasks and not self.alive

    def is_finished(self):
        """Whether the call waits for results that are all there."""
        return self.awaits and not self.tasks and not self.alive

    def start_threads(self):
        """Begin tasks while there are processors for them; called with the lock."""
        meeting = self.meeting
        while (
            len(self.tasks) > self.starting
            and self.alive < min(self.most_alive, meeting.most_alive)
            and meeting.soon_busy() < meeting.room.n_busy
        ):
            in_thread(self._run, "sktorch-task", n_threads=1)
            self.alive += 1
            self.starting += 1

    def _run(self):
        """Run tasks while there are any."""
        meeting = self.meeting
        here.meeting = meeting
        here.is_busy = True
        with meeting.lock:
            self.starting -= 1
            meeting.busy += 1
        while (queued := self._next()) is not None:
            here.place, task, callback = queued
            try:
                outcome = task(), None
            except BaseException as error:
                outcome = None, error
            del task, queued
            self.report(callback, outcome)
            del callback, outcome
        meeting.end_work()
        # The thread may be kept.
        vars(here).clear()

    def _next(self):
        with self.meeting.lock:
            self._mend_filters()
            if self.tasks:
                return self.tasks.popleft()
            self.alive -= 1
            return None

    def _mend_filters(self):
        """Put back the filters of warnings where tasks have emptied them.

        scikit-learn sets them in each task, in a way that is not for several threads at once. What
        holds them afterwards may be another list than before.
        """
        before, known = self._filters
        for filters in (before, warnings.filters):
            if not filters:
                filters[:] = known

    def report(self, callback, outcome):
        """Hand over what a task returned or raised.

        In there joblib makes the next task, with a lock that others need to be done with theirs: a
        fit in the making of a task must not wait for them.
        """
        meeting, here.meeting = current_meeting(), None
        try:
            with self._reporting:
                if not self.is_aborted:
                    callback(outcome)
        finally:
            here.meeting = meeting

    def abort(self):
        """Begin no more tasks, and report of none: the next call might take it for its own."""
        with self._reporting:
            self.is_aborted = True
        with self.meeting.lock:
            self.tasks.clear()


def run_tasks(tasks, room, most_alive):
    """Run tasks in threads, fits that wait at the same time being trained together.

    Parameters
    ----------
    tasks : sequence of callable
    room : Room
    most_alive : int
        Tasks that may be begun and unfinished.

    Returns
    -------
    outcomes : list of (object, BaseException or None)
        What each returned, and what it raised.
    """
    outcomes, n_left, ended = [None] * len(tasks), len(tasks), threading.Event()

    def note(outcome, number):
        nonlocal n_left
        outcomes[number] = outcome
        n_left -= 1
        if not n_left:
            ended.set()

    pool = Pool(Meeting(room), most_alive)
    pool.hand_in(True)
    pool.add_all([(task, partial(note, number=number)) for number, task in enumerate(tasks)])
    pool.hand_in(False)
    ended.wait()
    pool.close()
    return outcomes
