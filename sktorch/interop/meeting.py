"""Where fits that run in many threads wait for each other, to be trained together."""

import itertools
import threading
import time
import warnings
from contextlib import contextmanager
from typing import NamedTuple

import sklearn
import torch
from joblib import cpu_count

from sktorch.engine import loop
from sktorch.engine.kept_threads import SETTINGS, in_thread
from sktorch.engine.memory import available_bytes, bytes_of
from sktorch.engine.stacked import run_together

__all__ = ["MOST_ALIVE", "Meeting", "Room", "current_meeting", "here", "run"]

# Tasks that may be begun and unfinished where nobody says how many.
MOST_ALIVE = 256

# Seconds to wait for what is about to happen, and for what should have happened long ago. They
# decide how many fits train together, and never what comes of them.
_SOON = 0.05
_NO_LONGER_HANDING_IN = 1.0
_TOO_LONG = 10.0

# scikit-learn's configuration is that of a thread.
SETTINGS.append(sklearn.get_config)

# What a thread takes part in: its meeting, the place of its task, and whether it is busy.
here = threading.local()


class CancelledError(Exception):
    """Ends the tasks of a call that was interrupted, or of which another task failed."""


def current_meeting():
    """Return the meeting that the task of this thread belongs to, or None."""
    return getattr(here, "meeting", None)


def run(state):
    """Train a fit: with the others that wait, inside a task of the backend; else at once."""
    meeting = current_meeting()
    if meeting is None:
        loop.run(state)
    else:
        meeting.train(state)


class Room(NamedTuple):
    """What a meeting may use of the machine.

    Parameters
    ----------
    n_busy : int
        Threads that run Python code.
    n_threads : int
        Threads that compute.
    memory : float
        Share of what is available.
    """

    n_busy: int
    n_threads: int
    memory: float

    @classmethod
    def of(cls, n_processes):
        """Return that of one of several processes."""
        return cls(
            n_busy=max(2, cpu_count() // n_processes),
            n_threads=max(1, torch.get_num_threads() // n_processes),
            memory=0.5 / n_processes,
        )


class Meeting:
    """Where the tasks of one call of joblib, and of calls inside these, wait for each other.

    A thread is *busy* while it runs Python code of a task, and at most as many are as there are
    processors; it is not while it waits. Training begins when nobody is busy, no task could start,
    and no more are being handed in.

    Parameters
    ----------
    room : Room
    """

    def __init__(self, room):
        self.room = room
        # Of torch, where the call came from. The room says with how many it trains.
        self.n_threads = torch.get_num_threads()
        self.lock = threading.RLock()
        self.slot = threading.Condition(self.lock)
        self.settled = threading.Condition(self.lock)
        self.most_alive = MOST_ALIVE
        self.busy = 0
        self.resuming = 0
        self.guests = []
        self.pools = []
        self.is_training = False
        self.is_cancelled = False
        self.last_change = time.monotonic()
        self.warned = set()
        self.calls = itertools.count()

    # Being busy -------------------------------------------------------------------------------

    def begin_work(self):
        """Wait until the calling thread may be busy."""
        with self.lock:
            self.slot.wait_for(lambda: self.busy < self.room.n_busy, _TOO_LONG)
            self.busy += 1
            here.is_busy = True

    def end_work(self):
        """Tell that the calling thread ends, or waits for others."""
        with self.lock:
            self.busy -= 1
            here.is_busy = False
            self.advance()

    @contextmanager
    def idle(self):
        """Let others be busy inside, if the calling thread is."""
        if not getattr(here, "is_busy", False):
            yield
            return
        self.end_work()
        try:
            yield
        finally:
            self.begin_work()

    def advance(self):
        """Start what can start; called with the lock whenever something has changed."""
        self.last_change = time.monotonic()
        self.pools = [pool for pool in self.pools if not pool.is_over()]
        for pool in self.pools:
            pool.start_threads()
        self.slot.notify(max(0, self.room.n_busy - self.busy))
        self.settled.notify()
        self._lead_if_quiet()

    def _is_quiet(self):
        """Whether nobody is busy or about to be, and no more tasks are being handed in."""
        silent = time.monotonic() - self.last_change
        handing_in = any(pool.is_handing_in for pool in self.pools)
        if handing_in and silent < _NO_LONGER_HANDING_IN:
            return False
        # Whoever is busy with something that itself waits for a fit would be waited for in vain.
        return self.soon_busy() == 0 or silent > _TOO_LONG

    def soon_busy(self):
        """Return how many threads are busy or about to be."""
        return self.busy + self.resuming + sum(pool.starting for pool in self.pools)

    # Training ---------------------------------------------------------------------------------

    def train(self, state):
        """Wait until the fit of ``state`` is trained; raise what it raised."""
        guest = _Guest(state)
        with self.lock:
            self.check()
            self.guests.append(guest)
            is_first = self.guests[0] is guest
            if is_first:
                self.most_alive = min(self.most_alive, self._affordable(state))
        with self.idle():
            # One of them looks whether something that was to happen has not.
            while not guest.done.wait(_NO_LONGER_HANDING_IN if is_first else None):
                with self.lock:
                    self._lead_if_quiet()
        with self.lock:
            self.resuming -= 1
        if guest.error is not None:
            raise guest.error

    def _lead_if_quiet(self):
        if self.guests and not self.is_training and self._is_quiet():
            in_thread(self._lead, "sktorch-train", self.n_threads)
            self.is_training = True

    def _lead(self):
        """Train all who wait, in a thread of its own."""
        with self.lock:
            # A call inside a task that has all its results is about to go on.
            self.settled.wait_for(lambda: not any(p.is_finished() for p in self.pools), _SOON)
            if not self._is_quiet():
                self.is_training = False
                return
            # In the order of their tasks, whichever thread was faster.
            guests, self.guests = sorted(self.guests, key=lambda guest: guest.place), []
        try:
            states = [guest.state for guest in guests]
            errors = run_together(
                states, self.room.n_threads, self._warn, self.check, self.room.memory
            )
        except BaseException as error:
            # One for each: an error that is raised in many threads gathers all their tracebacks.
            errors = [_copied(error) for _ in guests]
        with self.lock:
            self.is_training = False
            self._dismiss(guests, errors)

    def _dismiss(self, guests, errors):
        """Let those who waited go on; called with the lock."""
        self.resuming += len(guests)
        for guest, error in zip(guests, errors, strict=True):
            guest.error = error
            guest.done.set()
        self.advance()

    def _affordable(self, state):
        """Return how many fits like this one there is memory for."""
        available = available_bytes(state.device)
        if available is None:
            return MOST_ALIVE
        # Each task has the data once more, as it was before it was placed.
        return max(2, int(self.room.memory * available / (2 * bytes_of(state))))

    def check(self):
        """Raise where the call has been interrupted."""
        if self.is_cancelled:
            raise _cancelled()

    def cancel(self):
        """End what runs as soon as it can be ended."""
        with self.lock:
            self.is_cancelled = True
            guests, self.guests = self.guests, []
            self._dismiss(guests, [_cancelled() for _ in guests])

    def _warn(self, reason):
        with self.lock:
            if reason in self.warned:
                return
            self.warned.add(reason)
        warnings.warn(
            f'backend "sktorch" trains some fits one by one: {reason}. The results are the same. '
            "Change it to train them as one, or use another backend.",
            UserWarning,
            stacklevel=2,
        )


class _Guest:
    """A fit that waits to be trained."""

    def __init__(self, state):
        self.state = state
        self.place = getattr(here, "place", ())
        self.error = None
        self.done = threading.Event()


def _cancelled():
    return CancelledError("another task of this call failed, or it was interrupted")


def _copied(error):
    own = RuntimeError(f"training together failed: {type(error).__name__}: {error}")
    own.__cause__ = error
    return own
