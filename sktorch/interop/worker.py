"""Another process that runs tasks, its fits being trained together as in this one."""

import atexit
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
import weakref
from multiprocessing.connection import wait
from typing import NamedTuple

import cloudpickle
import torch
from joblib.externals.loky.backend import get_context

from sktorch.engine.kept_threads import IDLE_SECONDS
from sktorch.interop.pool import run_tasks
from sktorch.persistence import in_transit

__all__ = ["Worker", "packed"]

# The exit code of a process that has had no work for long; the next takes some seconds to start.
_WITHOUT_WORK = 75

_idle = []
_started = weakref.WeakSet()
_lending = threading.Lock()


def _forget():
    """Leave the processes to the one that this one was forked from."""
    global _lending
    _lending = threading.Lock()
    _idle.clear()
    _started.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Settings(NamedTuple):
    """What of torch decides how a process computes, so that all compute alike."""

    dtype: torch.dtype
    deterministic: bool
    warn_only: bool

    @classmethod
    def now(cls):
        """Return those of this process."""
        return cls(
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )

    def apply(self):
        """Make them those of this process."""
        torch.set_default_dtype(self.dtype)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)


def packed(value):
    """Return a value as bytes for another process."""
    with in_transit():
        return cloudpickle.dumps(value)


class Worker:
    """A process to run tasks in, which ends with the one it was started from.

    Parameters
    ----------
    environment : dict of str to str
        Variables to set in it.
    """

    def __init__(self, environment):
        self.environment = environment
        self._start()
        _started.add(self)

    def _start(self):
        # Of joblib: it does not run the script anew, which then needs no guard.
        context = get_context("loky")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), env=self.environment)
        self.process.start()
        theirs.close()

    @classmethod
    def borrow(cls, environment):
        """Return one that nobody uses, or a new one."""
        with _lending:
            _idle[:] = [worker for worker in _idle if worker.process.is_alive()]
            # The last one given back knows most of what it is asked for.
            for worker in reversed(_idle):
                if worker.environment == environment:
                    _idle.remove(worker)
                    return worker
        return cls(environment)

    def give_back(self):
        """Let others use it."""
        with _lending:
            _idle.append(self)

    def run(self, tasks, room, most_alive):
        """Run tasks; the parameters are those of ``run_tasks``, the tasks ``packed``.

        Returns
        -------
        outcomes : list of (object, BaseException or None, str or None)
            What each returned, what it raised, and where.
        told : list of tuple
            Warnings, as ``warnings.warn_explicit`` takes them.

        Raises
        ------
        RuntimeError
            If the process ended instead.
        """
        request = tasks, room, most_alive, Settings.now()
        reply = self._ask(request)
        if reply is None and self.process.exitcode == _WITHOUT_WORK:
            # It ended just when there was some.
            self._start()
            reply = self._ask(request)
        if reply is None:
            raise RuntimeError(
                f"a process of n_processes ended with exit code {self.process.exitcode} before its "
                "tasks did. It was killed, perhaps for want of memory: lower n_jobs or n_processes."
            )
        reply = cloudpickle.loads(reply)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _ask(self, request):
        """Return what the process answers, packed, or None if it ends instead."""
        try:
            self.connection.send(request)
            if self.connection in wait([self.connection, self.process.sentinel]):
                return self.connection.recv_bytes()
        except (EOFError, OSError):
            pass
        self.process.join()
        return None

    def kill(self):
        """End it, whatever it does."""
        self.process.terminate()


@atexit.register
def _end():
    for worker in _started:
        if worker in _idle:
            # It ends by itself once nothing can come any more.
            worker.connection.close()
        else:
            worker.kill()


# In the other process ---------------------------------------------------------------------------


def _serve(connection):
    """Run what is sent until nothing comes any more."""
    # Interrupting is for the process that started this one, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while connection.poll(IDLE_SECONDS):
            connection.send_bytes(_answer(*connection.recv()))
            # What is left is here to stay. Python would look through it, some hundred thousand
            # objects of torch for the most part, in the middle of a search that takes a second.
            gc.collect()
            gc.freeze()
    except (EOFError, OSError):
        return
    sys.exit(_WITHOUT_WORK)


def _answer(tasks, room, most_alive, settings):
    """Return what ``Worker.run`` does, or an error, packed."""
    settings.apply()
    with warnings.catch_warnings(record=True) as told:
        # The process that shows them has filters of its own.
        warnings.simplefilter("always")
        try:
            outcomes = run_tasks(cloudpickle.loads(tasks), room, most_alive)
        except Exception as error:
            words = f"tasks cannot be read in another process ({type(error).__name__}: {error})"
            return packed(
                RuntimeError(f"{words}. Make what they hold importable, or set n_processes=1.")
            )
    told = [(each.message, each.category, each.filename, each.lineno) for each in told]
    outcomes = [(result, error, _traceback(error)) for result, error in outcomes]
    return _sent((outcomes, told)) or packed(
        ([*map(_sendable, outcomes)], [*filter(_sent, told)]),
    )


def _traceback(error):
    return None if error is None else "\n" + "".join(traceback.format_exception(error))


def _sendable(outcome):
    """Return an outcome, or an error that says why it cannot be sent."""
    if _sent(outcome):
        return outcome
    result, error, where = outcome
    if error is None:
        words = f"the result of a task, {type(result).__name__}, cannot be sent between processes"
    else:
        words = f"{type(error).__name__}: {error}"
    return None, RuntimeError(f"{words}. Set n_processes=1 to have it as it is."), where


def _sent(value):
    """Return a value packed, or None where it cannot be sent, or not be had on the other side."""
    try:
        data = packed(value)
        cloudpickle.loads(data)
    except Exception:
        return None
    return data
