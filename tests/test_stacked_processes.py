"""With ``n_processes`` the backend "sktorch" shares tasks among processes; the results stay."""

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (imported for its effect)
from sklearn.model_selection import HalvingGridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stacking import (
    assert_same_fits,
    assert_same_results,
    in_time,
    interrupted,
    make_rows,
    search,
    small,
    stacked,
)
from torch import nn

from sktorch.callbacks import Callback
from sktorch.interop.worker import Worker

X, y = make_rows(80)
LR = {"lr": [0.01, 0.03, 0.1]}
NET = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
# Other processes take some seconds to start.
SECONDS = 60


def cheap(**settings):
    return small(**{"max_epochs": 2, **settings})


def two(**settings):
    return stacked(n_processes=2, **settings)


def within(run):
    """Return what ``run()`` gives where two processes share the tasks."""

    def inside():
        with two():
            return run()

    return in_time(inside, SECONDS)


def process_of(number):
    return number, os.getpid()


def fail(number):
    raise ArithmeticError(number)


def die():
    os._exit(7)


class Reading(Callback):
    def on_batch_end(self, state, batch, loss, y_pred):
        pass


RUNS = {
    "a search": lambda: search(
        make_pipeline(StandardScaler(), small(early_stopping=True, max_epochs=9)),
        {"torchclassifier__lr": [1e-3, 0.05], "torchclassifier__patience": [2, 5]},
        cv=3,
    ).fit(X, y),
    "a search in rounds": lambda: HalvingGridSearchCV(
        cheap(), LR, cv=2, min_resources=24, random_state=0
    ).fit(X, y),
    "fitted estimators": lambda: cross_validate(cheap(), X, y, cv=5, return_estimator=True),
    "a search in each task": lambda: cross_val_score(search(cheap(), LR), X, y, cv=3),
    "a module": lambda: search(cheap(net=NET), LR).fit(X, y),
}


@pytest.mark.parametrize("name", RUNS)
def test_results_are_the_same(name):
    plain, result = RUNS[name](), within(RUNS[name])
    if hasattr(plain, "cv_results_"):
        assert_same_results(plain, result)
    elif isinstance(plain, dict):
        assert_same_fits(plain, result)
        np.testing.assert_array_equal(plain["test_score"], result["test_score"])
    else:
        np.testing.assert_array_equal(plain, result)


@pytest.mark.parametrize("n_tasks", [1, 2, 7, 30])
@pytest.mark.parametrize("n_jobs", [2, 3, -1])
def test_each_task_runs_once_and_processes_share_them(n_tasks, n_jobs):
    def run():
        with two(n_jobs=n_jobs):
            return Parallel()(delayed(process_of)(number) for number in range(n_tasks))

    numbers, processes = zip(*in_time(run, SECONDS), strict=True)
    assert numbers == tuple(range(n_tasks))
    assert len({*processes}) == min(2, n_tasks)
    if n_jobs == -1:
        assert processes.count(os.getpid()) == -(-n_tasks // 2)


def test_a_process_is_used_again():
    first, second = (within(lambda: Parallel()([delayed(process_of)(0)] * 4)) for _ in range(2))
    assert {*first} == {*second}


def test_results_may_come_as_a_generator():
    def run():
        with two():
            return [*Parallel(return_as="generator")(delayed(process_of)(n) for n in range(9))]

    assert [number for number, _ in in_time(run, SECONDS)] == [*range(9)]


def test_a_failure_is_raised_with_where_it_was_and_the_backend_can_be_used_again():
    def run():
        with pytest.raises(ArithmeticError) as caught:
            Parallel()([delayed(process_of)(0), delayed(fail)(1), delayed(process_of)(2)])
        return caught.value, search(cheap(), LR).fit(X, y)

    error, result = within(run)
    assert "in fail" in str(error.__cause__)
    assert_same_results(search(cheap(), LR).fit(X, y), result)


def test_a_failure_is_its_members_alone():
    def run():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FitFailedWarning)
            warnings.filterwarnings("ignore", message="(?s).*non-finite")
            rates = {"lr": [0.01, 1e30, 0.1, 1e30]}
            return search(
                cheap(optimizer="sgd", max_epochs=6), rates, cv=3, error_score=np.nan
            ).fit(X, y)

    plain, result = run(), within(run)
    assert np.isnan(plain.cv_results_["mean_test_score"]).sum() == 2
    assert_same_results(plain, result)


def test_tasks_of_a_call_that_fails_in_their_making_never_run(tmp_path):
    def tasks():
        for _ in range(2):
            yield delayed((tmp_path / "ran").touch)()
        raise ArithmeticError

    def run():
        # joblib hands in as many tasks at a time as n_jobs says.
        with two(n_jobs=2):
            with pytest.raises(ArithmeticError):
                Parallel()(tasks())
            return Parallel()(delayed(process_of)(number) for number in range(4))

    assert [number for number, _ in in_time(run, SECONDS)] == [0, 1, 2, 3]
    assert not (tmp_path / "ran").exists()


def test_a_process_that_dies_is_told_and_replaced():
    def run():
        with pytest.raises(RuntimeError, match=r"exit code 7.*n_processes"):
            Parallel()([delayed(process_of)(0), delayed(die)()])
        return Parallel()(delayed(process_of)(number) for number in range(4))

    assert [number for number, _ in within(run)] == [0, 1, 2, 3]


def test_a_process_that_ended_while_idle_is_not_lent():
    worker = Worker.borrow({})
    worker.kill()
    worker.process.join()
    worker.give_back()
    assert Worker.borrow({}) is not worker


def test_processes_are_used_again_within_one_object():
    def run():
        with Parallel() as parallel:
            return [{*parallel([delayed(process_of)(0)] * 4)} for _ in range(3)]

    first, *others = within(run)
    assert all(other == first for other in others)


def test_calls_while_a_generator_waits():
    def run():
        waiting = Parallel(return_as="generator")(delayed(process_of)(n) for n in range(5))
        between = Parallel()(delayed(process_of)(n) for n in range(3))
        return between, [*waiting]

    between, after = within(run)
    assert [number for number, _ in between] == [0, 1, 2]
    assert [number for number, _ in after] == [0, 1, 2, 3, 4]


def test_torch_is_set_alike_in_all_processes():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = within(lambda: Parallel()([delayed(torch.get_default_dtype)()] * 4))
    finally:
        torch.set_default_dtype(before)
    assert found == [torch.float64] * 4


def test_what_cannot_be_sent_runs_here():
    lock = threading.Lock()

    def task(number):
        with lock:
            return process_of(number)

    def run():
        with pytest.warns(UserWarning, match="cannot be sent to another.*n_processes=1"):
            return Parallel()(delayed(task)(number) for number in range(4))

    assert within(run) == [(number, os.getpid()) for number in range(4)]


class Unsendable(Exception):
    def __init__(self, one, other):
        super().__init__(one)


def raise_unsendable():
    raise Unsendable(1, 2)


def test_an_error_that_cannot_be_sent_is_told():
    def run():
        with pytest.raises(RuntimeError, match=r"Unsendable: 1\. Set n_processes=1"):
            Parallel()([delayed(process_of)(0), delayed(raise_unsendable)()])

    within(run)


def test_a_result_that_cannot_be_sent_is_told():
    def run():
        with pytest.raises(RuntimeError, match=r"result of a task.*n_processes=1"):
            Parallel()([delayed(process_of)(0), delayed(threading.Lock)()])

    within(run)


def test_warnings_of_other_processes_arrive():
    def run():
        with pytest.warns(UserWarning, match="one by one") as told:
            search(cheap(callbacks=[Reading()]), LR).fit(X, y)
        return told

    assert 1 <= len(within(run)) <= 2


def test_memory_that_is_shared_stays_shared():
    forest = RandomForestClassifier(9, random_state=0, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(within(lambda: forest.predict_proba(X)), forest.predict_proba(X))


def test_several_calls_at_once():
    outcomes = {}

    def one(number):
        with two():
            outcomes[number] = search(cheap(), LR).fit(X, y)

    def run():
        threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_time(run, 2 * SECONDS)
    plain = search(cheap(), LR).fit(X, y)
    for number in range(3):
        assert_same_results(plain, outcomes[number])


@pytest.mark.parametrize("n_processes", [0, -2, 1.5, True, "two"])
def test_other_numbers_of_processes_are_refused(n_processes):
    with pytest.raises(ValueError, match=r"n_processes.*whole number"):
        joblib.parallel_config(backend="sktorch", n_processes=n_processes)


def test_threads_of_a_process_are_as_before():
    before = torch.get_num_threads()
    within(RUNS["a search"])
    assert torch.get_num_threads() == before


INTERRUPTED = """
import signal, sys, time
from joblib import Parallel, delayed
from test_stacked_processes import *

# Ignored where the shell runs the tests in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
endless = dict(max_epochs=10**6, patience=10**6, min_delta=0.0)
with two():
    print("warm", len(Parallel()(delayed(process_of)(n) for n in range(4))), flush=True)
    threading.Timer(1.0, lambda: print("training", flush=True)).start()
    try:
        search(cheap(**endless), LR).fit(X, y)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    print("works", len(Parallel()(delayed(process_of)(n) for n in range(4))), flush=True)
"""


def test_an_interrupt_ends_the_training_in_all_processes():
    assert interrupted(INTERRUPTED) == ["warm 4", "training", "stopped", "works 4"]


SCRIPT = """
import time
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from joblib import parallel_config
from sktorch import TorchClassifier

def make_net(n_features_in, n_outputs):
    from torch import nn
    return nn.Linear(n_features_in, n_outputs)

with parallel_config(backend="sktorch", n_processes=2):
    found = GridSearchCV(TorchClassifier(make_net), {"lr": [0.01, 0.1]}).fit(
        *load_iris(return_X_y=True))
print(found.best_score_ > 0.5)
"""


def test_a_script_needs_no_guard_and_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.stdout.split() == ["True"]
    assert not done.stderr
    # What was started would hold the pipes open.
    assert time.monotonic() - started < SECONDS
