"""Epochs, stopping, history, going on."""

import numpy as np
import pytest
import torch
from nets import UserMLP, linear
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import Callback
from sktorch.exceptions import FitDivergedError


class Schedule(nn.Module):
    """A loss whose validation values are given; what the net predicts does not matter to it."""

    def __init__(self, values):
        super().__init__()
        self.values = list(values)
        self.epoch = 0

    def forward(self, y_pred, y_true):
        if torch.is_grad_enabled():
            return (y_pred * 0).sum()
        value = self.values[min(self.epoch, len(self.values) - 1)]
        self.epoch += 1
        return (y_pred * 0).sum() + value


def scheduled(values, data, **settings):
    X, y = data
    clf = TorchClassifier(UserMLP(30, 2), loss=Schedule(values), batch_size=600, **settings)
    return clf.fit(X, y, X_val=X[:50], y_val=y[:50])


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "settings", "n_iter", "best"),
    [
        ([5, 4, 3, 2, 1], {"max_epochs": 5}, 5, 5),
        ([1, 2, 2, 2, 2], {"patience": 3}, 4, 1),
        ([2, 2, 2, 2, 1, 1, 1], {"patience": 3}, 4, 1),
        ([2, 2, 1, 1, 1, 1], {"patience": 3}, 6, 3),
        ([5, 4.9, 4.8, 4.7, 4.6], {"patience": 3, "min_delta": 1}, 4, 4),
        ([1, 2, 3, 4], {"patience": 2, "mode": "max", "max_epochs": 4}, 4, 4),
        ([3, 2, 1], {"patience": 1, "mode": "max"}, 2, 1),
        ([1, 2, 3, 4], {"early_stopping": False, "max_epochs": 4}, 4, 1),
        ([3, 1, 2, 2], {"early_stopping": True, "patience": 2}, 4, 2),
    ],
)
def test_stopping_counts_epochs_without_improvement(values, settings, n_iter, best, breast_cancer):
    clf = scheduled(values, breast_cancer, **settings)
    assert clf.n_iter_ == n_iter
    assert clf.best_epoch_ == best
    assert clf.best_score_ == pytest.approx(values[best - 1])
    assert clf.history_["val_loss"].tolist() == pytest.approx(values[:n_iter])


def test_a_loss_that_is_not_finite_ends_the_fit_with_advice(breast_cancer):
    with pytest.raises(FitDivergedError, match=r"val_loss became nan in epoch 2.*Lower lr"):
        scheduled([1, NAN, 0], breast_cancer)
    X, y = breast_cancer
    with pytest.raises(ValueError, match=r"train_loss became .* lr"):
        TorchRegressor(linear(30, 1), optimizer="sgd", lr=1e6, early_stopping=False).fit(X, y * 1.0)


def test_the_best_weights_are_restored_once_at_the_end(breast_cancer):
    X, y = breast_cancer
    settings = {"lr": 0.3, "max_epochs": 12, "batch_size": 50, "random_state": 0}
    val = {"X_val": X[400:], "y_val": y[400:]}
    clf = TorchClassifier(patience=12, **settings).fit(X[:400], y[:400], **val)
    assert clf.best_epoch_ < clf.n_iter_ == 12
    as_far = {**settings, "max_epochs": clf.best_epoch_}
    shorter = TorchClassifier(early_stopping=False, **as_far).fit(X[:400], y[:400], **val)
    assert np.array_equal(clf.predict_proba(X), shorter.predict_proba(X))
    last = TorchClassifier(patience=12, restore_best=False, **settings).fit(X[:400], y[:400], **val)
    plain = TorchClassifier(early_stopping=False, **settings).fit(X[:400], y[:400])
    assert np.array_equal(last.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_allclose(clf.best_score_, clf.history_["val_loss"].min())


def test_history_has_a_row_an_epoch_and_its_columns_in_order(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(max_epochs=4, early_stopping=True, lr=0.02).fit(X, y)
    assert list(clf.history_) == ["epoch", "train_loss", "val_loss", "lr", "epoch_time"]
    assert clf.history_["epoch"].tolist() == [1, 2, 3, 4]
    assert (clf.history_["lr"] == 0.02).all()
    assert (clf.history_["epoch_time"] > 0).all()
    plain = TorchClassifier(max_epochs=4).fit(X, y)
    assert list(plain.history_) == ["epoch", "train_loss", "lr", "epoch_time"]


def test_recorded_losses_are_means_over_samples(breast_cancer):
    X, y = breast_cancer
    w = np.linspace(0.5, 2, len(X))
    for weight in (None, w):
        clf = TorchClassifier(linear(30, 2), lr=0, max_epochs=1, batch_size=100)
        clf.fit(X, y, weight, X_val=X[:77], y_val=y[:77], sample_weight_val=w[:77])
        log_p = -clf.predict_log_proba(X)[np.arange(len(y)), y]
        row = clf.history_.iloc[0]
        assert row["train_loss"] == pytest.approx(np.average(log_p, weights=weight), rel=1e-10)
        assert row["val_loss"] == pytest.approx(np.average(log_p[:77], weights=w[:77]), rel=1e-10)


def test_validation_is_recorded_whenever_it_is_given(breast_cancer):
    X, y = breast_cancer
    for early_stopping in (True, False, "auto"):
        clf = TorchClassifier(max_epochs=2, early_stopping=early_stopping)
        assert "val_loss" in clf.fit(X, y, X_val=X[:9], y_val=y[:9]).history_


def test_auto_holds_rows_out_only_where_there_are_enough():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 3)).astype(np.float32)
    y = X[:, 0] > 0
    clf = TorchClassifier(max_epochs=1)
    assert "val_loss" in clf.fit(X, y).history_
    assert "val_loss" not in clf.fit(X[:9999], y[:9999]).history_
    assert "val_loss" not in clf.set_params(early_stopping=False).fit(X, y).history_


def test_small_data_stops_on_the_plateau_of_the_training_loss(breast_cancer):
    clf = TorchClassifier(lr=0.03, max_epochs=500, random_state=0).fit(*breast_cancer)
    assert clf.n_iter_ < 500
    losses = clf.history_["train_loss"].to_numpy()
    best_before = np.minimum.accumulate(losses)[-11]
    assert losses[-10:].min() > best_before - 11 * 1e-4


def test_monitor_names_are_checked(breast_cancer):
    X, y = breast_cancer
    with pytest.raises(ValueError, match=r"monitor='val_lss'.*train_loss, val_loss"):
        TorchClassifier(monitor="val_lss").fit(X, y)
    with pytest.raises(ValueError, match=r"monitor='val_loss' needs.*X_val"):
        TorchClassifier(early_stopping=True, validation_fraction=None).fit(X, y)
    clf = TorchClassifier(early_stopping=True, monitor="train_loss", max_epochs=2).fit(X, y)
    assert "val_loss" not in clf.history_


def test_a_warm_start_begins_where_the_fit_before_ended(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(warm_start=True, optimizer="sgd", max_epochs=3, batch_size=600)
    two = clf.set_params(early_stopping=False, random_state=0).fit(X, y).fit(X, y)
    whole = TorchClassifier(
        optimizer="sgd", max_epochs=6, batch_size=600, early_stopping=False, random_state=0
    ).fit(X, y)
    np.testing.assert_allclose(two.predict_proba(X), whole.predict_proba(X), rtol=1e-12)
    assert two.n_iter_ == 3
    with pytest.raises(ValueError, match=r"warm_start"):
        clf.fit(X, y + 1)
    assert clf.classes_.tolist() == [0, 1]


def test_partial_fit_goes_on_with_the_optimizer_as_it_was(breast_cancer):
    X, y = breast_cancer
    settings = {"batch_size": 64, "random_state": 0, "optimizer": "adam"}
    parts = TorchClassifier(**settings)
    for _ in range(4):
        parts.partial_fit(X, y, classes=[0, 1])
    whole = TorchClassifier(max_epochs=4, early_stopping=False, **settings).fit(X, y)
    assert np.array_equal(parts.predict_proba(X), whole.predict_proba(X))
    assert parts.n_iter_ == 4
    assert parts.history_["epoch"].tolist() == [1, 2, 3, 4]


def test_partial_fit_meets_labels_and_scales_of_the_first_call(breast_cancer, diabetes):
    X, y = breast_cancer
    with pytest.raises(ValueError, match=r"classes must be passed"):
        TorchClassifier().partial_fit(X, y)
    clf = TorchClassifier().partial_fit(X[y == 0], y[y == 0], classes=[0, 1])
    assert clf.partial_fit(X, y).classes_.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"\[2\].*Classes: \[0, 1\]"):
        clf.partial_fit(X, y + 1)
    assert clf.n_iter_ == 2
    X, y = diabetes
    reg = TorchRegressor(lr=0.01, random_state=0)
    for _ in range(60):
        reg.partial_fit(X[:300], y[:300])
        reg.partial_fit(X[300:], y[300:])
    assert reg.score(X, y) > 0.5


def test_an_interrupt_goes_through_and_leaves_the_model_before(breast_cancer):
    X, y = breast_cancer

    def interrupt(y_pred, y_true):
        raise KeyboardInterrupt

    clf = TorchClassifier(max_epochs=3, random_state=0).fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(loss=interrupt).fit(X[:, :5], y)
    assert np.array_equal(clf.predict_proba(X), before)
    assert clf.n_features_in_ == 30


class HostReads(TorchDispatchMode):
    """Counts how often a value is read off a tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


SETTINGS = {
    "plain": {},
    "accumulation": {"grad_accumulation_steps": 2},
    "penalty, clip and average": {"l2": 0.1, "grad_clip_norm": 1.0, "ema_decay": 0.9},
    "metrics": {"metrics": ["accuracy", "f1"]},
    "schedule": {"lr_scheduler": "onecycle"},
    "focal": {"loss": "focal"},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", SETTINGS)
def test_no_step_reads_a_value_back_to_the_host(case, weighted, breast_cancer):
    X, y = breast_cancer
    counts = []
    for batch_size in (20, 100):
        with HostReads() as reads:
            TorchClassifier(batch_size=batch_size, max_epochs=2, **SETTINGS[case]).fit(
                X, y, np.linspace(0.1, 1, len(y)) if weighted else None, X_val=X, y_val=y
            )
        counts.append(reads.count)
    assert counts[0] == counts[1]


class Ballast(nn.Linear):
    """Has weights of which the output needs the first alone, and no more than its zero."""

    def __init__(self, size):
        super().__init__(30, 2)
        self.ballast = nn.Parameter(torch.full((4,), size))

    def forward(self, x):
        return super().forward(x) + 0 * self.ballast[0]


class Spoil(Callback):
    """Makes a weight that is not needed NaN, or an infinity of either sign."""

    def __init__(self, values):
        self.values = values

    def on_fit_end(self, state):
        state.net.ballast.data[1 : 1 + len(self.values)] = torch.tensor(self.values)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [np.inf, -np.inf]])
def test_weights_that_are_not_finite_are_refused_and_large_ones_are_not(values, breast_cancer):
    clf = TorchClassifier(Ballast(3e38), max_epochs=1).fit(*breast_cancer)
    assert torch.isfinite(clf.net_.ballast).all()
    assert torch.isinf(clf.net_.ballast.sum())
    with pytest.raises(FitDivergedError, match="weights are no longer finite after epoch 1"):
        clf.set_params(callbacks=[Spoil(values)]).fit(*breast_cancer)
