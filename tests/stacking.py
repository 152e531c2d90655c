"""A search with the backend "sktorch" beside the same search without it."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import torch
from nets import UserMLP
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from sktorch import TorchClassifier
from sktorch.base import TorchEstimator

LABELS = np.array(["ant", "bee", "cat"])


def make_rows(n=101):
    """Return few rows with labels of three kinds; folds of them differ in size."""
    X, y = make_classification(n, 6, n_informative=4, n_classes=3, random_state=0)
    return X, LABELS[y]


class Counted(UserMLP):
    """Counts its forwards in training: a stack has one for all of its members."""

    forwards = 0

    def __init__(self, n_features_in, n_outputs, width=8):
        super().__init__(n_features_in, n_outputs, width)

    def forward(self, x):
        Counted.forwards += self.training
        return super().forward(x)


def small(net=Counted, **settings):
    """Return a classifier whose results can be compared to many digits."""
    given = {"lr": 0.02, "max_epochs": 3, "batch_size": 16, "dtype": "float64", "random_state": 0}
    return TorchClassifier(net, **{**given, **settings})


def search(estimator, grid, cv=2, **settings):
    """Return a grid search that keeps the scores of training."""
    settings = {"return_train_score": True, "error_score": "raise", **settings}
    return GridSearchCV(estimator, grid, cv=cv, **settings)


def stacked(**settings):
    """Return the context in which fits train as one."""
    return joblib.parallel_config(backend="sktorch", **settings)


def both(run):
    """Return what ``run()`` gives without the backend and with it, and the warnings of the latter.

    The warnings are those that say "one by one"; others stay what they are.
    """
    plain = run()
    with warnings.catch_warnings(record=True) as caught, stacked():
        warnings.filterwarnings("always", message="(?s).*one by one")
        result = run()
    return plain, result, [str(each.message) for each in caught]


def estimators_in(fitted, seen=None):
    """Return the fitted estimators of ours somewhere inside ``fitted``, in a fixed order."""
    seen = set() if seen is None else seen
    if id(fitted) in seen:
        return []
    seen.add(id(fitted))
    if isinstance(fitted, TorchEstimator):
        return [fitted] if hasattr(fitted, "net_") else []
    if isinstance(fitted, dict):
        parts = fitted.values()
    elif isinstance(fitted, list | tuple):
        parts = fitted
    else:
        parts = getattr(fitted, "__dict__", {}).values()
    return [found for part in parts for found in estimators_in(part, seen)]


def assert_same_fits(plain, result, tolerance=1e-9):
    """Check that the estimators inside of both have the same weights and histories."""
    plain, result = estimators_in(plain), estimators_in(result)
    assert len(plain) == len(result) > 0
    for one, other in zip(plain, result, strict=True):
        assert_same_numbers(one.net_.state_dict(), other.net_.state_dict(), tolerance)
        histories = [e.history_.drop(columns="epoch_time") for e in (one, other)]
        assert_same_numbers(*(h.to_dict("list") for h in histories), tolerance)
        assert (one.n_iter_, one.best_epoch_) == (other.n_iter_, other.best_epoch_)
        np.testing.assert_allclose(other.best_score_, one.best_score_, rtol=0, atol=tolerance)


def assert_same_numbers(one, other, tolerance=1e-9):
    """Compare nested containers of tensors and numbers."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_numbers(a, b, tolerance)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one, rtol=0, atol=tolerance, equal_nan=True)
    elif isinstance(one, float | np.ndarray | np.floating):
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance)
    else:
        assert one == other


def assert_same_results(plain, result, tolerance=1e-9):
    """Compare two fitted searches."""
    for name, column in plain.cv_results_.items():
        if name.endswith("_time"):
            continue
        if name.startswith(("mean", "std", "split")):
            np.testing.assert_allclose(result.cv_results_[name], column, rtol=0, atol=tolerance)
        else:
            assert list(map(str, result.cv_results_[name])) == list(map(str, column))
    assert str(plain.best_params_) == str(result.best_params_)
    assert_same_fits(plain, result, tolerance)


def in_time(run, seconds=20):
    """Return what ``run()`` returns or raise what it raises; fail where it never ends.

    A thread that never ends must not keep the tests from ending, so it is a daemon.
    """
    outcome = {}

    def note():
        try:
            outcome["value"] = run()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"nothing came back within {seconds} s"
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def interrupted(script, seconds=60):
    """Return the lines a script prints, which is interrupted at each that begins with "training".

    It may import from the tests.
    """
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"},
    )
    said = []

    def follow():
        for line in child.stdout:
            said.append(line.strip())
            if line.startswith("training"):
                child.send_signal(signal.SIGINT)

    with child:
        try:
            in_time(follow, seconds)
            assert child.wait(20) == 0
        finally:
            child.kill()
    return said
