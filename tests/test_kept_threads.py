"""Threads are used again, each time as if they were new."""

import os
import threading
import time
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue

import numpy as np
import pytest
import sklearn
import torch
from stacking import in_time

from sktorch.engine import kept_threads as threads
from sktorch.engine.kept_threads import each_in_threads

in_thread = partial(threads.in_thread, name="sktorch-test", n_threads=1)


def call(function):
    """Return what a function returns in a kept thread, which is idle then."""
    known, results = threading.Event(), SimpleQueue()
    in_thread(lambda: known.wait(10) and results.put(function()))
    others = [*idle()]
    known.set()
    result = in_time(results.get, 10)
    wait_for(lambda: any(queue not in others for queue in [*idle()]))
    return result


def idle():
    return threads._idle["sktorch-test", 1]


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_thread_is_used_again_once_it_is_idle():
    first, second = call(threading.current_thread), call(threading.current_thread)
    assert first is second
    assert first.daemon


def test_a_thread_is_used_by_those_alone_who_ask_for_its_name():
    first = call(threading.current_thread)
    results = SimpleQueue()
    threads.in_thread(lambda: results.put(threading.current_thread()), "sktorch-other", 1)
    other = in_time(results.get, 10)
    assert other is not first
    assert [first.name, other.name] == ["sktorch-test", "sktorch-other"]


def test_each_of_a_list_is_served_once_by_as_many_threads_as_may():
    used, lock, barrier = [], threading.Lock(), threading.Barrier(3)

    def use(number):
        if number < 3:
            barrier.wait(10)
        with lock:
            used.append((number, threading.get_ident()))

    each_in_threads(use, [*range(20)], 3, "sktorch-test")
    assert sorted(number for number, _ in used) == [*range(20)]
    assert len({thread for _, thread in used}) == 3


def test_an_error_with_one_of_a_list_is_raised_and_no_more_are_begun():
    used = []

    def use(number):
        used.append(number)
        if number == 1:
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        each_in_threads(use, [0, 1, 2, 3], 1, "sktorch-test")
    assert used == [0, 1]


def test_where_a_thread_cannot_be_started_those_that_were_have_ended(monkeypatch):
    used, started, real = [], [], threads.in_thread

    def use(number):
        time.sleep(0.05)
        used.append(number)

    def start(*given):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(given)
        real(*given)

    monkeypatch.setattr(threads, "in_thread", start)
    with pytest.raises(RuntimeError, match="new thread"):
        each_in_threads(use, [0, 1, 2, 3], 2, "sktorch-test")
    ended = [*used]
    time.sleep(0.2)
    assert used == ended


def test_functions_that_wait_for_each_other_have_threads_of_their_own():
    barrier = threading.Barrier(5)
    ended = SimpleQueue()
    for _ in range(5):
        in_thread(lambda: ended.put(barrier.wait(10)))
    assert sorted(in_time(ended.get, 10) for _ in range(5)) == [*range(5)]


def test_an_idle_thread_ends(monkeypatch):
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)
    results = SimpleQueue()
    in_thread(lambda: results.put(threading.current_thread()))
    thread = in_time(results.get, 10)
    thread.join(10)
    assert not thread.is_alive()
    in_thread(lambda: results.put(3))
    assert in_time(results.get, 10) == 3


def test_nothing_that_a_function_sets_in_its_context_is_left():
    variable = ContextVar("variable", default=0)
    call(lambda: (variable.set(1), np.seterr(all="raise")))
    assert call(lambda: (variable.get(), np.geterr())) == (0, np.geterr())


SETTINGS = {
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "threads": (lambda: torch.set_num_threads(2), torch.get_num_threads),
    "default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "output of transformers": (
        lambda: sklearn.set_config(transform_output="pandas"),
        lambda: sklearn.get_config()["transform_output"],
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_that_a_function_sets_for_its_thread_is_left(name):
    change, read = SETTINGS[name]
    before = torch.get_num_threads()
    value = call(read)
    results = SimpleQueue()
    try:
        in_thread(lambda: results.put((threading.current_thread(), change())))
        changed, _ = in_time(results.get, 10)
        changed.join(10)
        assert not changed.is_alive()
        assert call(read) == value
    finally:
        # That of torch is for threads that start later, too.
        torch.set_num_threads(before)


def test_torch_computes_with_as_many_as_asked_for_there_and_as_before_elsewhere():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert call(torch.get_num_threads) == 1
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert [torch.get_num_threads(), *elsewhere] == [2, 2]
    finally:
        torch.set_num_threads(before)


# Python warns of any fork where there are threads, and that there are is what is tried here.
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_process_has_threads_of_its_own():
    call(lambda: None)
    child = os.fork()
    if not child:
        done = threading.Event()
        in_thread(done.set)
        os._exit(0 if done.wait(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
