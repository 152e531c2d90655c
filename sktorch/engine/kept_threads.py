"""Threads that are kept for a while, for others to use.

To start one, and to compute in it for the first time, takes a tenth of what a search spends on a
small fit. And each has memory of its own, which it keeps: new ones for each search hold more and
more of it.
"""

import os
import threading
from collections import defaultdict, deque
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import Empty, SimpleQueue

import torch

from sktorch.engine.device import default_device
from sktorch.engine.threads import set_threads

__all__ = ["IDLE_SECONDS", "SETTINGS", "each_in_threads", "in_thread"]

# A thread that has nothing to do for so long ends, and so does a process.
IDLE_SECONDS = 300

# What reads what a function may have set for its thread alone. Who knows of more adds it.
SETTINGS = [
    torch.get_num_threads,
    torch.is_grad_enabled,
    torch.is_inference_mode_enabled,
    partial(torch.is_autocast_enabled, "cpu"),
    partial(torch.is_autocast_enabled, "cuda"),
    default_device,
    lambda: torch.cuda.current_device() if torch.cuda.is_initialized() else None,
]

# What each idle thread waits for, by its name and number, the last to fall idle at the end.
_idle = defaultdict(list)
_lock = threading.Lock()


def in_thread(function, name, n_threads):
    """Call a function in a thread that has been idle, or a new one.

    Parameters
    ----------
    function : callable
        Without arguments. What it returns is lost, and it must raise nothing.
    name : str
        Of the thread. One serves only functions that ask for the same name: those who need memory
        are to find that of those before them.
    n_threads : int
        With how many torch computes in it.
    """
    kind = name, n_threads
    with _lock:
        queue = _idle[kind].pop() if _idle[kind] else None
    if queue is None:
        queue = SimpleQueue()
        threading.Thread(target=_serve, args=(queue, kind), name=name, daemon=True).start()
    queue.put(function)


def each_in_threads(function, items, most_at_once, name):
    """Call a function with each of a list, several at a time; raise what one of them raised.

    Parameters
    ----------
    function : callable
    items : list
    most_at_once : int
    name : str
        Of the threads, in which torch computes with as many as in this one.
    """
    left, ends, n_threads = iter(items), [], torch.get_num_threads()
    try:
        for _ in items[:most_at_once]:
            end = Future()
            in_thread(partial(_call_with_each, function, left, end), name, n_threads)
            ends.append(end)
    except BaseException:
        _drop(left)
        raise
    finally:
        wait(ends)
    while ends:
        ends.pop().result()


def _call_with_each(function, left, end):
    try:
        for item in left:
            function(item)
    except BaseException as error:
        _drop(left)
        end.set_exception(error)
        # It holds the error, which holds this frame.
        del end
    else:
        end.set_result(None)


def _drop(left):
    """Let no thread begin with what is left."""
    deque(left, maxlen=0)


def _serve(queue, kind):
    """Call the functions that come, each in a context of its own."""
    _, n_threads = kind
    with suppress(RuntimeError):
        # Where the system gives no more threads; somebody waits for this one.
        set_threads(n_threads)
    fresh = _settings()
    while (function := _next(queue, kind)) is not None:
        Context().run(function)
        # What it holds is not kept while the thread waits.
        del function
        if _settings() != fresh:
            return
        with _lock:
            _idle[kind].append(queue)


def _settings():
    return [read() for read in SETTINGS]


def _next(queue, kind):
    """Wait for a function; return None where none comes."""
    try:
        return queue.get(timeout=IDLE_SECONDS)
    except Empty:
        with _lock:
            if queue in _idle[kind]:
                _idle[kind].remove(queue)
                return None
        return queue.get()


def _forget():
    """Leave the threads to the process that this one was forked from."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
