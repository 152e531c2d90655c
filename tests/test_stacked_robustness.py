"""Whatever happens to a task of the backend "sktorch", all others end as they would without it."""

import gc
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from nets import UserMLP
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from stacking import (
    assert_same_fits,
    assert_same_results,
    both,
    in_time,
    interrupted,
    make_rows,
    search,
    small,
    stacked,
)

from sktorch.callbacks import Callback
from sktorch.engine import kept_threads
from sktorch.exceptions import FitDivergedError
from sktorch.interop import meeting

X, y = make_rows(64)
N_JOBS = [None, 1, 2, 3, -1]
LR = {"lr": [0.01, 0.05, 0.1]}


def cheap(**settings):
    return small(**{"max_epochs": 2, **settings})


class Sighing(BaseEstimator, TransformerMixin):
    """A stage of a pipeline that fails where it is told to."""

    def __init__(self, fails=False):
        self.fails = fails

    def fit(self, X, y=None):
        if self.fails:
            raise ArithmeticError("no more")
        return self

    def transform(self, X):
        return X


class FailingForward(UserMLP):
    """Fails in training once it has been called some times, so that the first trial passes."""

    def __init__(self, n_features_in, n_outputs, good_for=10**9):
        super().__init__(n_features_in, n_outputs, 8)
        self.good_for = good_for

    def forward(self, x):
        if self.training:
            self.good_for -= 1
        if self.good_for < 0:
            raise ArithmeticError("no more")
        return super().forward(x)


class FailingToPredict(UserMLP):
    """Fails outside of training alone, once it has been tried."""

    def __init__(self, n_features_in, n_outputs, good_for=10**9):
        super().__init__(n_features_in, n_outputs, 8)
        self.good_for = good_for

    def forward(self, x):
        if not self.training:
            self.good_for -= 1
        if self.good_for < 0:
            raise ArithmeticError("no more")
        return super().forward(x)


class FailingHook(Callback):
    """Fails in one of the hooks."""

    def __init__(self, hook, epoch=1):
        self.hook = hook
        self.epoch = epoch

    def __repr__(self):
        return f"FailingHook({self.hook}, {self.epoch})"

    def on_fit_begin(self, state):
        self._fail("on_fit_begin", state)

    def on_epoch_begin(self, state):
        self._fail("on_epoch_begin", state)

    def on_epoch_end(self, state):
        self._fail("on_epoch_end", state)

    def on_fit_end(self, state):
        self._fail("on_fit_end", state)

    def _fail(self, hook, state):
        if hook == self.hook and state.epoch in (0, self.epoch):
            raise ArithmeticError("no more")


def failing_scorer(estimator, X, y):
    if estimator.lr == 0.05:
        raise ArithmeticError("no more")
    return estimator.score(X, y)


FAILURES = {
    "a rate that diverges": lambda: search(
        cheap(optimizer="sgd", max_epochs=6), {"lr": [0.01, 1e30, 0.1]}, error_score=np.nan
    ),
    "a forward": lambda: search(
        cheap(net=FailingForward),
        {"net__good_for": [10**9, 3], "lr": [0.01, 0.1]},
        error_score=np.nan,
    ),
    "a forward in evaluation": lambda: search(
        cheap(net=FailingToPredict, loss="focal", early_stopping=True),
        {"net__good_for": [10**9, 1], "loss__gamma": [1.0, 2.0]},
        error_score=np.nan,
    ),
    "a stage of the pipeline": lambda: search(
        make_pipeline(Sighing(), cheap()),
        {"sighing__fails": [False, True], "torchclassifier__lr": [0.01, 0.1]},
        error_score=np.nan,
    ),
    **{
        f"a callback in {hook}": lambda hook=hook: search(
            cheap(),
            {"callbacks": [None, [FailingHook(hook)], [FailingHook(hook, epoch=2)]]},
            error_score=np.nan,
        )
        for hook in ("on_fit_begin", "on_epoch_begin", "on_epoch_end", "on_fit_end")
    },
    "a scorer": lambda: search(cheap(), LR, scoring=failing_scorer, error_score=np.nan),
    "settings": lambda: search(
        cheap(), {"loss": ["cross_entropy", "no such loss"], "lr": [0.01, 0.1]}, error_score=np.nan
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_its_members_alone(name):
    def run():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FitFailedWarning)
            warnings.filterwarnings("ignore", message="(?s).*(non-finite|Scoring failed)")
            return FAILURES[name]().fit(X, y)

    plain, result, _ = in_time(lambda: both(run))
    assert np.isnan(plain.cv_results_["mean_test_score"]).any()
    assert np.isfinite(plain.cv_results_["mean_test_score"]).any()
    assert_same_results(plain, result)


RAISING = {
    "a rate that diverges": (
        lambda: search(cheap(optimizer="sgd", max_epochs=6), {"lr": [0.01, 1e30, 0.1]}),
        FitDivergedError,
    ),
    "a forward": (
        lambda: search(cheap(net=FailingForward), {"net__good_for": [10**9, 3]}),
        ArithmeticError,
    ),
    "a forward in evaluation": (
        lambda: search(
            cheap(net=FailingToPredict, loss="focal", early_stopping=True),
            {"net__good_for": [10**9, 1]},
        ),
        ArithmeticError,
    ),
    "a stage of the pipeline": (
        lambda: search(make_pipeline(Sighing(), cheap()), {"sighing__fails": [False, True]}),
        ArithmeticError,
    ),
    "a scorer": (lambda: search(cheap(), LR, scoring=failing_scorer), ArithmeticError),
    "a callback": (
        lambda: search(cheap(), {"callbacks": [None, [FailingHook("on_epoch_end")]]}),
        ArithmeticError,
    ),
}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("name", RAISING)
@pytest.mark.filterwarnings("ignore:(?s).*one by one")
def test_a_failure_is_raised_and_the_backend_can_be_used_again(name, n_jobs):
    make, error = RAISING[name]

    def run():
        with stacked(n_jobs=n_jobs):
            with pytest.raises(error):
                make().fit(X, y)
            return search(cheap(), LR).fit(X, y)

    assert_same_results(search(cheap(), LR).fit(X, y), in_time(run))


NESTED = {
    "a search in a cross-validation": lambda: cross_val_score(search(cheap(), LR), X, y, cv=2),
    "one against the rest in a search": lambda: (
        search(OneVsRestClassifier(cheap()), {"estimator__lr": LR["lr"]})
        .fit(X, y)
        .cv_results_["mean_test_score"]
    ),
    "three levels": lambda: cross_val_score(
        search(OneVsRestClassifier(cheap(max_epochs=1)), {"estimator__lr": [0.01, 0.1]}), X, y, cv=2
    ),
}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("name", NESTED)
def test_calls_inside_of_calls_end_and_give_the_same(name, n_jobs):
    def run():
        with stacked(n_jobs=n_jobs):
            return NESTED[name]()

    np.testing.assert_allclose(in_time(run), NESTED[name](), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_failure_two_levels_down_is_raised(n_jobs):
    def run():
        with stacked(n_jobs=n_jobs):
            inner = search(cheap(), {"callbacks": [None, [FailingHook("on_epoch_end")]]})
            with pytest.raises(ArithmeticError):
                cross_val_score(inner, X, y, cv=2, error_score="raise")
            return cross_val_score(search(cheap(), LR), X, y, cv=2)

    np.testing.assert_array_equal(in_time(run), cross_val_score(search(cheap(), LR), X, y, cv=2))


def test_several_searches_at_once_from_several_threads():
    plain = search(cheap(), LR).fit(X, y)
    found = {}

    def one(i):
        # The context of joblib is of the thread, so each opens its own.
        with stacked(n_jobs=[None, 2, 3][i]):
            found[i] = search(cheap(), LR).fit(X, y)

    def run():
        threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_time(run)
    for result in found.values():
        assert_same_results(plain, result)
    assert len(found) == 3


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_n_jobs_is_how_many_fits_are_alive(n_jobs):
    alive, most, lock = [0], [0], threading.Lock()

    def task(lr):
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        fitted = cheap(lr=lr).fit(X, y)
        with lock:
            alive[0] -= 1
        return fitted

    rates = [0.01 * k for k in range(1, 8)]

    def run():
        with stacked():
            return Parallel(n_jobs=n_jobs)(delayed(task)(lr) for lr in rates)

    result = in_time(run)
    assert most[0] == (n_jobs if n_jobs in (1, 2, 3) else 7)
    assert_same_fits([cheap(lr=lr).fit(X, y) for lr in rates], result)


def test_no_jobs_at_all_is_refused():
    with stacked(), pytest.raises(ValueError, match="n_jobs"):
        in_time(lambda: Parallel(n_jobs=0, backend="sktorch")(delayed(abs)(i) for i in range(2)))


@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_results_may_come_as_a_generator(how, n_jobs):
    rates = [0.01 * k for k in range(1, 7)]

    def run():
        tasks = (delayed(cheap(lr=lr).fit)(X, y) for lr in rates)
        results = Parallel(n_jobs, return_as=how, backend="sktorch")(tasks)
        return sorted(results, key=lambda clf: clf.lr)

    assert_same_fits([cheap(lr=lr).fit(X, y) for lr in rates], in_time(run))


@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_a_generator_may_be_left_midway(how):
    def run():
        for _ in range(2):
            tasks = (delayed(cheap(lr=0.01 * k).fit)(X, y) for k in range(1, 9))
            results = Parallel(2, return_as=how, backend="sktorch")(tasks)
            assert hasattr(next(results), "net_")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*tasks (have been|which were still)")
                results.close()
        return Parallel(2, backend="sktorch")(delayed(cheap().fit)(X, y) for _ in "ab")

    assert_same_fits([cheap().fit(X, y) for _ in "ab"], in_time(run))


def test_a_task_may_fit_between_the_results_of_its_own_tasks():
    def task(lr):
        tasks = (delayed(cheap(lr=rate).fit)(X, y) for rate in (lr, 2 * lr, 3 * lr))
        results = Parallel(return_as="generator")(tasks)
        return [(each, cheap(lr=each.lr / 2).fit(X, y)) for each in results]

    def run():
        return Parallel()(delayed(task)(lr) for lr in (0.01, 0.02))

    plain, result, _ = in_time(lambda: both(run))
    assert_same_fits(plain, result)


def test_tasks_that_fit_nothing_of_ours():
    def run():
        with stacked():
            return (
                Parallel()(delayed(pow)(i, 2) for i in range(50)),
                search(LogisticRegression(), {"C": [0.1, 1.0]}).fit(X, y).best_score_,
                Parallel()([]),
            )

    squares, score, nothing = in_time(run)
    assert squares == [i**2 for i in range(50)]
    assert score == search(LogisticRegression(), {"C": [0.1, 1.0]}).fit(X, y).best_score_
    assert nothing == []


def test_tasks_that_fit_several_times_and_tasks_that_do_not():
    def task(i):
        return [cheap(lr=0.01 * (i + 1), random_state=k).fit(X, y) for k in range(i)]

    def run():
        return Parallel()(delayed(task)(i) for i in range(4))

    plain, result, _ = in_time(lambda: both(run))
    assert_same_fits(plain, result)


def test_more_tasks_than_may_be_alive():
    def run():
        with stacked():
            return Parallel(verbose=0)(delayed(abs)(-i) for i in range(1500))

    assert in_time(run) == list(range(1500))


def test_one_object_for_several_calls():
    def run():
        with Parallel(backend="sktorch") as parallel:
            return [
                parallel(delayed(cheap(lr=lr).fit)(X, y) for lr in rates)
                for rates in ((0.01, 0.1), (0.02, 0.2), (0.01, 0.1))
            ]

    first, _, again = in_time(run)
    assert_same_fits([cheap(lr=lr).fit(X, y) for lr in (0.01, 0.1)], first)
    assert_same_fits(first, again, tolerance=0)


def fail(_):
    raise ArithmeticError("no more")


@pytest.mark.parametrize("failing", [fail, lambda i: cheap(lr=1e30, optimizer="sgd").fit(X, y)])
def test_one_object_for_several_calls_of_which_one_fails(failing):
    def run():
        with Parallel(backend="sktorch") as parallel:
            for _ in range(2):
                with pytest.raises((ArithmeticError, FitDivergedError)):
                    parallel(delayed(failing)(i) for i in range(3))
            return parallel(delayed(cheap(lr=lr).fit)(X, y) for lr in (0.01, 0.1))

    assert_same_fits([cheap(lr=lr).fit(X, y) for lr in (0.01, 0.1)], in_time(run))


def test_tasks_whose_making_fails():
    def tasks():
        for lr in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08):
            yield delayed(cheap(lr=lr).fit)(X, y)
        raise ArithmeticError("no more")

    def run():
        for n_jobs in (2, None):
            with pytest.raises(ArithmeticError):
                Parallel(n_jobs, backend="sktorch")(tasks())

    in_time(run)


@pytest.mark.parametrize("n_jobs", [2, None])
def test_tasks_in_whose_making_something_is_fitted(n_jobs):
    def tasks():
        for lr in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09):
            cheap().fit(X, y)
            yield delayed(cheap(lr=lr).fit)(X, y)

    result = in_time(lambda: Parallel(n_jobs, backend="sktorch")(tasks()))
    assert_same_fits([cheap(lr=clf.lr).fit(X, y) for clf in result], result)


def test_a_fit_in_another_thread_of_a_task_is_a_fit_by_itself():
    def task(lr):
        found = []
        thread = threading.Thread(target=lambda: found.append(cheap(lr=lr).fit(X, y)), daemon=True)
        thread.start()
        thread.join()
        return found

    def run():
        return Parallel()(delayed(task)(lr) for lr in (0.01, 0.1))

    plain, result, _ = in_time(lambda: both(run))
    assert_same_fits(plain, result)


def test_a_fit_that_holds_a_lock_others_need_goes_on(monkeypatch):
    monkeypatch.setattr("sktorch.interop.meeting._TOO_LONG", 0.2)
    lock = threading.Lock()

    def task(lr):
        with lock:
            return cheap(lr=lr).fit(X, y)

    def run():
        return Parallel()(delayed(task)(lr) for lr in (0.01, 0.02, 0.03))

    plain, result, _ = in_time(lambda: both(run))
    assert_same_fits(plain, result)


def test_another_backend_inside_of_a_task():
    def task(lr):
        with joblib.parallel_config("threading", n_jobs=2):
            return search(cheap(), {"lr": [lr, 2 * lr]}).fit(X, y)

    def run():
        return Parallel()(delayed(task)(lr) for lr in (0.01, 0.1))

    plain, result, _ = in_time(lambda: both(run))
    assert_same_fits(plain, result)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_call_in_the_making_of_the_tasks_of_another(n_processes):
    def tasks():
        for lr in (0.01, 0.1):
            scores = Parallel()(delayed(cross_val_score)(cheap(lr=lr), X, y, cv=2) for _ in "ab")
            yield delayed(search(cheap(), {"lr": [lr, float(np.mean(scores))]}).fit)(X, y)

    def run():
        with stacked(n_processes=n_processes):
            return Parallel()(tasks())

    plain = Parallel()(tasks())
    assert_same_fits(plain, in_time(run))


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_call_that_fails_in_the_making_of_the_tasks_of_another_is_alone_in_that(n_processes):
    def tasks():
        for lr in (0.01, 0.1):
            yield delayed(cheap(lr=lr).fit)(X, y)
            with pytest.raises(ArithmeticError):
                Parallel()(delayed(fail)(i) for i in (3, 4))

    def run():
        with stacked(n_processes=n_processes):
            return Parallel()(tasks())

    plain = Parallel()(tasks())
    for own, alone in zip(in_time(run), plain, strict=True):
        np.testing.assert_allclose(own.predict_proba(X), alone.predict_proba(X), rtol=1e-9)


def test_a_call_while_the_results_of_another_are_being_read():
    def run():
        with stacked():
            results = Parallel(return_as="generator")(delayed(abs)(-i) for i in range(5))
            return [(first, Parallel()(delayed(abs)(-first) for _ in "ab")) for first in results]

    assert in_time(run) == [(i, [i, i]) for i in range(5)]


def test_nothing_is_kept_alive_once_a_call_is_over():
    held = []

    class Noting(Callback):
        def on_fit_begin(self, state):
            held.append(weakref.ref(state.net))
            held.append(weakref.ref(state))

    def run():
        with stacked():
            Parallel()(delayed(cheap(lr=lr, callbacks=[Noting()]).fit)(X, y) for lr in (0.1, 0.2))

    in_time(run)
    n_threads = threads_of_ours()
    gc.collect()
    assert len(held) == 4
    assert not [ref for ref in held if ref() is not None]
    assert n_threads == 0


def threads_of_ours(patience=10):
    """Return how many threads of the backend still have something to do after some time."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        names = [t.name for t in threading.enumerate() if t.name.startswith("sktorch")]
        n_busy = len(names) - sum(map(len, kept_threads._idle.values()))
        if not n_busy:
            return 0
        time.sleep(0.02)
    return n_busy


def test_searches_that_follow_each_other_train_in_the_same_threads():
    # Each thread has memory of its own, and keeps it.
    threads = set()

    class Noting(Callback):
        def on_epoch_end(self, state):
            threads.add(threading.current_thread())

    def run():
        with stacked():
            fits = (cheap(lr=lr, callbacks=[Noting()]).fit for lr in (0.01, 0.02, 0.1, 0.2))
            Parallel()(delayed(fit)(X, y) for fit in fits)

    for _ in range(4):
        in_time(run)
        assert threads_of_ours() == 0
    # One for each stack, of which there are as many as torch has threads.
    assert len(threads) <= torch.get_num_threads()


@pytest.mark.parametrize("sizes", [(8,), (8, 9)], ids=["one stack", "several"])
def test_the_number_of_threads_stays_what_it_was(sizes):
    def run():
        with stacked():
            fits = (cheap(lr=lr, net__width=n).fit for lr in (0.1, 0.2) for n in sizes)
            Parallel()(delayed(fit)(X, y) for fit in fits)

    before = torch.get_num_threads()
    try:
        for n_threads in (2, 1, 2):
            torch.set_num_threads(n_threads)
            in_time(run)
            assert threads_of_ours() == 0
            # Of this thread, and of those that start.
            assert torch.get_num_threads() == n_threads
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(torch.get_num_threads).result() == n_threads
    finally:
        torch.set_num_threads(before)


def test_where_the_thread_that_trains_cannot_be_started_the_call_ends(monkeypatch):
    def start(*given):
        raise RuntimeError("can't start new thread")

    def run():
        with stacked():
            return Parallel()(delayed(cheap(lr=lr).fit)(X, y) for lr in (0.01, 0.1))

    with monkeypatch.context() as patch:
        patch.setattr(meeting, "in_thread", start)
        with pytest.raises(RuntimeError, match="new thread"):
            in_time(run)
    assert len(in_time(run)) == 2
    assert threads_of_ours() == 0


def test_no_thread_of_a_failed_call_stays():
    def run():
        with stacked(), pytest.raises(ArithmeticError):
            Parallel()([delayed(cheap().fit)(X, y)] * 3 + [delayed(fail)(3)])

    in_time(run)
    assert threads_of_ours() == 0


def test_settings_of_the_process_are_as_before():
    before = torch.get_num_threads(), torch.is_grad_enabled()

    def run():
        with stacked():
            search(cheap(), LR).fit(X, y)

    in_time(run)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_call_between_two_of_one_object(n_processes):
    def run():
        with stacked(n_processes=n_processes), Parallel() as parallel:
            first = parallel(delayed(abs)(-n) for n in range(3))
            between = Parallel()(delayed(abs)(-n) for n in range(4))
            return first, between, parallel(delayed(abs)(-n) for n in range(5))

    assert in_time(run, 60) == ([*range(3)], [*range(4)], [*range(5)])


def leave_no_filters():
    """Leave another list of filters, as tasks do whose changes to them cross."""
    warnings.filters = []


def test_filters_of_warnings_are_put_back_whichever_list_holds_them():
    known = [*warnings.filters]
    with warnings.catch_warnings(), stacked():
        Parallel()(delayed(leave_no_filters)() for _ in range(3))
        assert [*warnings.filters] == known


def test_filters_of_warnings_survive_tasks_that_change_them_at_once():
    """scikit-learn sets them in each task, and Python has one list of them for all threads."""
    filters, before = warnings.filters, [*warnings.filters]
    first_in, second_in, left, emptied = (threading.Event() for _ in range(4))

    def first():
        with warnings.catch_warnings():
            first_in.set()
            second_in.wait(5)
        left.set()

    def second():
        first_in.wait(5)
        with warnings.catch_warnings():
            second_in.set()
            left.wait(5)
            # That of the process again, since the first task has put it back.
            warnings.resetwarnings()
            emptied.set()

    def third():
        emptied.wait(5)

    def count():
        return len(filters)

    def run():
        with stacked():
            return Parallel()(delayed(task)() for task in (first, second, third, count))

    assert in_time(run)[-1] == len(before)
    assert [*filters] == before


INTERRUPTED = """
import signal
import sys, threading, time, warnings
from sklearn.model_selection import cross_val_score
from test_stacked_robustness import *

class Telling(Callback):
    told = set()
    def on_epoch_end(self, state):
        if state.epoch == 2 and CASE not in self.told:
            self.told.add(CASE)
            print("training", CASE, flush=True)

class Reading(Callback):
    def on_batch_end(self, state, batch, loss, y_pred):
        pass

warnings.simplefilter("ignore")
endless = dict(max_epochs=10**6, callbacks=[Telling()], patience=10**6)
CASES = {
    "stacked": lambda: search(cheap(**endless), LR).fit(X, y),
    "one by one": lambda: search(
        cheap(**{**endless, "callbacks": [Telling(), Reading()]}), LR).fit(X, y),
    "one alone": lambda: cross_val_score(cheap(**endless), X, y, cv=[(range(40), range(40, 60))]),
    "nested": lambda: cross_val_score(search(cheap(**endless), LR), X, y, cv=2),
}
# Ignored where the shell runs the tests in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
for CASE, start in CASES.items():
    try:
        with stacked():
            start()
    except KeyboardInterrupt:
        print("stopped", CASE, threads_of_ours(), flush=True)
with stacked():
    print("works", search(cheap(), LR).fit(X, y).best_score_ > 0, flush=True)
"""


def test_an_interrupt_ends_the_training_at_once():
    cases = ["stacked", "one by one", "one alone", "nested"]
    lines = [line for case in cases for line in (f"training {case}", f"stopped {case} 0")]
    assert interrupted(INTERRUPTED) == [*lines, "works True"]
