"""Fits that begin alike share what was found by trying their net, and nothing else."""

from collections import UserList

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification

from sktorch import TorchClassifier
from sktorch.engine import trials
from sktorch.nets import ACTIVATIONS, NETS


@pytest.fixture(autouse=True)
def nothing_known():
    trials._known.clear()


def data(seed=0):
    X, y = make_classification(200, 8, random_state=seed)
    return X.astype("float32"), y


def weights(est):
    return [parameter.detach().numpy().copy() for parameter in est.net_.parameters()]


SETTINGS = {
    "plain": {},
    "dropout": {"net__dropout": 0.3},
    "half": {"dtype": "bfloat16"},
    "weights": {"class_weight": "balanced"},
    "focal": {"loss": "focal", "loss__gamma": 1.5},
    "probabilities": {"loss": "bce_probability"},
    "trained loss": {"loss": "adaptive_log_softmax", "loss__cutoffs": [1]},
    "metrics": {"metrics": ["accuracy"]},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_fit_ends_with_the_same_bits_whether_its_beginning_is_known_or_not(name):
    settings = {"random_state": 0, "max_epochs": 4, "batch_size": 32, **SETTINGS[name]}
    X, y = data()
    if name == "trained loss":
        y = y + (np.arange(len(y)) % 3 == 0)
    first = TorchClassifier(**settings).fit(X, y)
    assert bool(trials._known) == (name != "trained loss")
    again = TorchClassifier(**settings).fit(X, y)
    for a, b in zip(first.net_.parameters(), again.net_.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.history_["train_loss"].equals(again.history_["train_loss"])


def test_a_fit_does_not_change_what_another_begins_with():
    X, y = data()
    clf = TorchClassifier(random_state=0, max_epochs=1)
    begins = weights(clf.set_params(lr=0.0).fit(X, y))
    clf.set_params(lr=0.1).fit(X, y)
    for before, after in zip(begins, weights(clf.set_params(lr=0.0).fit(X, y)), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("random_state", 1),
        ("net__hidden_layer_sizes", (7,)),
        ("net__activation", "tanh"),
        ("dtype", "float64"),
    ],
)
def test_what_differs_begins_otherwise(name, value):
    X, y = data()
    clf = TorchClassifier(random_state=0, max_epochs=1, lr=0.0)
    one = clf.fit(X, y).decision_function(X)
    other = clf.set_params(**{name: value}).fit(X, y).decision_function(X)
    trials._known.clear()
    assert not np.array_equal(one, other)
    assert np.array_equal(other, clf.fit(X, y).decision_function(X))


def test_a_net_that_cannot_learn_is_warned_about_each_time():
    # So far from 0 that a sigmoid has no slope.
    X, y = np.full((50, 3), 1e6, dtype="float32"), np.arange(50) % 2
    clf = TorchClassifier(random_state=0, max_epochs=1, loss="bce_probability")
    for _ in range(2):
        with pytest.warns(UserWarning, match="no parameter has a gradient other than zero"):
            clf.fit(X, y)
    assert trials._known


def test_nets_of_the_user_are_built_and_tried_for_each_fit():
    built = []

    def net(n_features_in, n_outputs):
        built.append(1)
        return torch.nn.Linear(n_features_in, n_outputs)

    X, y = data()
    for _ in range(3):
        TorchClassifier(net, random_state=0, max_epochs=1).fit(X, y)
    assert len(built) == 3
    assert not trials._known


def test_a_name_that_stands_for_something_else_now_is_built_anew(monkeypatch):
    X, y = data()
    clf = TorchClassifier(random_state=0, max_epochs=1, net__activation="relu").fit(X, y)
    assert isinstance(clf.net_[1], torch.nn.ReLU)

    class Counting(torch.nn.Tanh):
        calls = 0

        def forward(self, x):
            Counting.calls += 1
            return super().forward(x)

    monkeypatch.setitem(ACTIVATIONS, "relu", Counting)
    seen = []
    for _ in range(2):
        Counting.calls = 0
        assert isinstance(clf.fit(X, y).net_[1], Counting)
        seen.append(Counting.calls)
    assert seen[0] == seen[1] > 0


def test_what_a_name_stands_for_may_go_by_something_else(monkeypatch):
    X, y = data()
    slope = 0.1
    monkeypatch.setitem(ACTIVATIONS, "steep", lambda: torch.nn.LeakyReLU(slope))
    monkeypatch.setitem(
        NETS,
        "wide",
        lambda n_features_in, n_outputs: torch.nn.Sequential(
            torch.nn.Linear(n_features_in, width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, n_outputs),
        ),
    )
    settings = {"random_state": 0, "max_epochs": 1}
    for slope, width in ((0.1, 3), (0.5, 9)):
        clf = TorchClassifier(net__activation="steep", **settings).fit(X, y)
        assert clf.net_[1].negative_slope == slope
        assert TorchClassifier("wide", **settings).fit(X, y).net_[0].out_features == width


def test_arguments_that_have_changed_count_as_they_are_now():
    X, y = data()
    for sizes in ([4], UserList([4])):
        clf = TorchClassifier(random_state=0, max_epochs=1, net__hidden_layer_sizes=sizes)
        assert len(clf.fit(X, y).net_) == 3
        sizes.append(8)
        assert len(clf.fit(X, y).net_) == 5


def test_without_a_seed_no_two_fits_begin_alike():
    X, y = data()
    clf = TorchClassifier(max_epochs=1, lr=0.0)
    assert not np.array_equal(weights(clf.fit(X, y))[0], weights(clf.fit(X, y))[0])
    assert not trials._known


def test_what_is_remembered_is_bounded(monkeypatch):
    X, y = data()
    monkeypatch.setattr(trials, "_MOST_KNOWN", 8)
    for seed in range(8):
        TorchClassifier(random_state=seed, max_epochs=1).fit(X, y)
    assert len(trials._known) == 8
    trials._known.clear()
    TorchClassifier(random_state=0, max_epochs=1, net__hidden_layer_sizes=(2**16,)).fit(X, y)
    assert not trials._known
