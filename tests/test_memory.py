"""When memory does not suffice: prediction goes on with less at once, fit says what would fit."""

import numpy as np
import pytest
import torch
from nets import UserMLP
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import Callback
from sktorch.exceptions import DeviceMemoryError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5000, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Hungry(UserMLP):
    """Needs more memory than there is for more than ``most`` rows."""

    most = {"train": 10**9, "eval": 10**9}
    error = FULL

    def forward(self, x):
        if len(x) > self.most["train" if self.training else "eval"]:
            raise self.error
        return super().forward(x)


@pytest.fixture
def memory(monkeypatch):
    most = {"train": 10**9, "eval": 10**9}
    monkeypatch.setattr(Hungry, "most", most)
    return most


@pytest.mark.parametrize(
    "error", [FULL, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
@pytest.mark.parametrize("most", [4095, 1000, 7, 1])
def test_predictions_are_the_same_with_less_at_once(most, error, memory, monkeypatch):
    monkeypatch.setattr(Hungry, "error", error)
    n = 5000 if most > 10 else 40
    for estimator, y in ((TorchClassifier, Y), (TorchRegressor, X[:, 0])):
        est = estimator(Hungry, dtype="float64", max_epochs=1, random_state=0)
        est.set_params(metrics=["auroc"] if y is Y else None)
        est.fit(X[:300], y[:300])
        whole, values = est.predict(X[:n]), est.evaluate(X[:n], y[:n], np.linspace(1, 2, n))
        memory["eval"] = most
        np.testing.assert_allclose(est.predict(X[:n]), whole, rtol=1e-6)
        parts = est.evaluate(X[:n], y[:n], np.linspace(1, 2, n))
        assert parts == pytest.approx(values, rel=1e-6)
        memory["eval"] = 10**9


def test_validation_takes_less_at_once(memory):
    settings = {"max_epochs": 3, "random_state": 0, "metrics": ["accuracy"], "batch_size": 100}
    data = {"X_val": X[:1000], "y_val": Y[:1000]}
    whole = TorchClassifier(Hungry, **settings).fit(X[:500], Y[:500], **data)
    memory["eval"] = 300
    parts = TorchClassifier(Hungry, **settings).fit(X[:500], Y[:500], **data)
    wanted = whole.history_.drop(columns="epoch_time").to_numpy()
    np.testing.assert_allclose(parts.history_.drop(columns="epoch_time"), wanted, rtol=1e-6)


def test_where_a_single_row_is_too_much_that_is_said(memory):
    clf = TorchClassifier(Hungry, max_epochs=1).fit(X[:50], Y[:50])
    memory["eval"] = 0
    with pytest.raises(
        DeviceMemoryError, match=r'cpu has too little memory for a single row.*"cpu"'
    ):
        clf.predict(X[:3])


@pytest.mark.parametrize(("most", "fits", "steps"), [(600, 512, 2), (100, 64, 16), (16, 16, 64)])
def test_a_fit_says_which_batch_size_would_fit(most, fits, steps, memory):
    clf = TorchClassifier(Hungry, max_epochs=1, batch_size=1024)
    memory["train"] = most
    message = (
        rf"cpu has too little memory for batch_size=1024 in epoch 1. A batch_size of {fits} would "
        rf"fit; with grad_accumulation_steps={steps} "
    )
    with pytest.raises(DeviceMemoryError, match=message):
        clf.fit(X, Y)
    assert not hasattr(clf, "net_")
    assert clf.set_params(batch_size=fits, grad_accumulation_steps=steps).fit(X, Y).n_iter_ == 1


def test_a_fit_for_which_no_batch_is_small_enough_says_so(memory):
    clf = TorchClassifier(Hungry, max_epochs=3, batch_size=64)

    class Fills(Callback):
        def on_epoch_end(self, state):
            memory["train"] = 0

        def on_fit_abort(self, state):
            aborted.append(state.epoch)

    aborted = []
    with pytest.raises(DeviceMemoryError, match=r"in epoch 2. A single row would not fit either"):
        clf.set_params(callbacks=[Fills()]).fit(X[:200], Y[:200])
    assert aborted == [2]
    with pytest.raises(DeviceMemoryError, match=r"too little memory for net, for X and y of 200"):
        clf.fit(X[:200], Y[:200])


def test_in_a_search_it_is_a_score_of_its_own(memory):
    memory["train"] = 100
    search = GridSearchCV(
        TorchClassifier(Hungry, max_epochs=1), {"batch_size": [64, 256]}, cv=2, error_score=-1
    )
    with pytest.warns(FitFailedWarning, match=r"A batch_size of 64 would fit"):
        search.fit(X[:1000], Y[:1000])
    assert search.cv_results_["mean_test_score"].tolist()[1] == -1
    assert search.best_params_ == {"batch_size": 64}


def test_another_error_is_not_taken_for_one_of_memory():
    class Breaks(nn.Linear):
        def forward(self, x):
            if len(x) > 8:
                raise RuntimeError("something else")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="something else"):
        TorchClassifier(Breaks(4, 2), max_epochs=1).fit(X[:99], Y[:99])
