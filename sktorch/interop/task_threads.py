"""Threads for tasks, kept for a while for the next ones.

To start one, and to compute in it for the first time, takes a tenth of what a search spends on a
small fit.
"""

import os
import threading
from contextvars import Context
from queue import Empty, SimpleQueue

import sklearn
import torch

from sktorch.engine.threads import set_threads

__all__ = ["IDLE_SECONDS", "in_thread"]

# A thread that has nothing to do for so long ends, and so does a process.
IDLE_SECONDS = 300

# What each idle thread waits for, the last to fall idle at the end.
_idle = []
_lock = threading.Lock()


def in_thread(function):
    """Call a function in a thread in which torch computes with one processor."""
    with _lock:
        queue = _idle.pop() if _idle else None
    if queue is None:
        queue = SimpleQueue()
        threading.Thread(target=_serve, args=(queue,), name="sktorch-task", daemon=True).start()
    queue.put(function)


def _serve(queue):
    """Call the functions that come, each as in a new thread."""
    set_threads(1)
    fresh = _settings()
    while (function := _next(queue)) is not None:
        Context().run(function)
        # What it holds is not kept while the thread waits.
        del function
        if _settings() != fresh:
            return
        with _lock:
            _idle.append(queue)


def _settings():
    """Return what a task may have set for its thread alone."""
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.get_default_device(),
        torch.cuda.current_device() if torch.cuda.is_initialized() else None,
        sklearn.get_config(),
    )


def _next(queue):
    """Wait for a function; return None where none comes."""
    try:
        return queue.get(timeout=IDLE_SECONDS)
    except Empty:
        with _lock:
            if queue in _idle:
                _idle.remove(queue)
                return None
        return queue.get()


def _forget():
    """Leave the threads to the process that this one was forked from."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
