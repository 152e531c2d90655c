"""Hooks are called when they say, and what comes with sktorch does what it says."""

import copy
import csv
import pickle
import re
import threading

import numpy as np
import pytest
import torch
from nets import UserMLP
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tqdm.auto import tqdm

from sktorch import TorchClassifier
from sktorch.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LearningRateMonitor,
    TensorBoardLogger,
)
from sktorch.nets import load_matching


class Journal(Callback):
    """Notes each hook; what it notes goes to a list that copies share."""

    notes = []

    def note(self, name, state):
        Journal.notes.append((name, state.epoch, state.net.training))

    def on_fit_begin(self, state):
        Journal.notes.clear()
        self.note("fit_begin", state)

    def on_epoch_begin(self, state):
        self.note("epoch_begin", state)

    def on_batch_begin(self, state, batch):
        assert batch.x.shape[0] == batch.y.shape[0] == batch.total
        self.note("batch_begin", state)

    def on_gradients(self, state):
        assert all(p.grad is not None for p in state.net.parameters())
        self.note("gradients", state)

    def on_batch_end(self, state, batch, loss, y_pred):
        assert loss.ndim == 0
        assert y_pred.shape == (len(batch.y), 2)
        assert not y_pred.requires_grad
        self.note("batch_end", state)

    def on_epoch_end(self, state):
        assert state.history.last["epoch"] == state.epoch
        self.note("epoch_end", state)

    def on_fit_end(self, state):
        self.note("fit_end", state)


def fit(callbacks, data, **settings):
    X, y = data
    defaults = {"max_epochs": 3, "batch_size": 100, "random_state": 0}
    clf = TorchClassifier(UserMLP, callbacks=callbacks, **{**defaults, **settings})
    return clf.fit(X[:200], y[:200], X_val=X[200:250], y_val=y[200:250])


def test_hooks_are_called_in_their_order(breast_cancer):
    fit([Journal()], breast_cancer, max_epochs=1)
    step = [("batch_begin", 1, True), ("gradients", 1, True), ("batch_end", 1, True)]
    assert Journal.notes == [
        ("fit_begin", 0, True),
        ("epoch_begin", 1, True),
        *step,
        *step,
        ("batch_begin", 1, False),
        ("batch_end", 1, False),
        ("epoch_end", 1, True),
        ("fit_end", 1, True),
    ]


def test_accumulated_batches_have_one_gradient(breast_cancer):
    fit([Journal()], breast_cancer, max_epochs=1, grad_accumulation_steps=2)
    names = [name for name, *_ in Journal.notes]
    assert names.count("gradients") == 1
    assert names.count("batch_end") == 3


def test_the_users_callback_is_copied(breast_cancer):
    class Remembers(Callback):
        def on_epoch_end(self, state):
            self.epoch = state.epoch

    callback = Remembers()
    clf = fit([callback], breast_cancer)
    assert not vars(callback)
    assert clf.callbacks[0] is callback
    assert clone(clf).callbacks[0] is not callback


def test_a_callback_changes_nothing_it_does_not_touch(breast_cancer):
    X, _ = breast_cancer
    bare, watched = fit(None, breast_cancer), fit([Journal()], breast_cancer)
    assert np.array_equal(bare.predict_proba(X), watched.predict_proba(X))


def test_a_callback_may_stop_the_fit(breast_cancer):
    class Stop(Callback):
        def on_epoch_end(self, state):
            if state.epoch == 2:
                state.stop_reason = "enough"

    assert fit([Stop()], breast_cancer).n_iter_ == 2


def test_what_is_not_a_callback_is_refused(breast_cancer):
    with pytest.raises(ValueError, match=r"callbacks must hold .*, got 3"):
        fit([3], breast_cancer)
    with pytest.raises(ValueError, match=r"callbacks must hold .*the class Checkpoint"):
        fit([Checkpoint], breast_cancer)


def test_the_constructors_patience_and_the_callback_are_one_mechanism(breast_cancer):
    X, _ = breast_cancer
    settings = {"lr": 0.3, "max_epochs": 60}
    ours = fit(None, breast_cancer, patience=4, **settings)
    callback = EarlyStopping("val_loss", "min", patience=4)
    for early_stopping in (True, False, "auto"):
        theirs = fit([callback], breast_cancer, early_stopping=early_stopping, **settings)
        assert ours.n_iter_ == theirs.n_iter_ < 60
        assert ours.best_epoch_ == theirs.best_epoch_
        assert np.array_equal(ours.predict_proba(X), theirs.predict_proba(X))


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EarlyStopping("val_f2", "min"), r"'val_f2' is not recorded.*val_loss"),
        (EarlyStopping("val_f2"), r"mode=\"auto\" does not know"),
        (EarlyStopping("val_loss", "maximum"), r"mode must be .*'maximum'"),
        (EarlyStopping("val_loss", patience=0), r"patience must be .*0"),
    ],
)
def test_early_stopping_says_what_is_wrong_with_it(callback, message, breast_cancer):
    with pytest.raises(ValueError, match=message):
        fit([callback], breast_cancer)


def test_a_bar_is_closed_where_a_fit_fails(breast_cancer, capsys):
    class Fails(Callback):
        def on_epoch_end(self, state):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match=r"no more") as kept:
        fit([Fails()], breast_cancer, verbose=1)
    assert kept.value
    assert not tqdm._instances


def test_what_a_callback_adds_to_the_row_is_shown_and_written(breast_cancer, tmp_path, capsys):
    class Notes(Callback):
        def on_epoch_end(self, state):
            if state.epoch < 3:
                state.history.last["note"] = "fine"

    for verbose in (1, 2):
        callbacks = [Notes(), CSVLogger(tmp_path / "fit.csv")]
        clf = fit(callbacks, breast_cancer, verbose=verbose)
        assert clf.history_["note"].tolist()[:2] == ["fine", "fine"]
    assert "fine" in capsys.readouterr().out


def test_a_line_an_epoch_with_the_best_marked(breast_cancer, capsys):
    clf = fit(None, breast_cancer, verbose=2, metrics="auroc", patience=2, lr=0.3, max_epochs=50)
    out, err = capsys.readouterr()
    header, *lines, end = out.splitlines()
    assert err == ""
    assert header.split() == ["time", *clf.history_]
    assert len(lines) == clf.n_iter_
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert len({line.rstrip("* ").__len__() for line in (header, *lines)}) == 1
    starred = [line.split()[1] for line in lines if line.endswith("*")]
    assert starred[-1] == str(clf.best_epoch_)
    assert end.startswith("stopped: val_loss has not improved")
    assert f"best epoch {clf.best_epoch_}" in end


def test_a_bar_over_epochs_on_standard_error(breast_cancer, capsys):
    fit(None, breast_cancer, verbose=1, metrics="auroc")
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "val_auroc=" in err
    assert "best=" in err
    fit(None, breast_cancer, verbose=0)
    assert capsys.readouterr() == ("", "")


def test_a_long_epoch_has_a_bar_over_its_steps(breast_cancer, capsys, monkeypatch):
    import sktorch.callbacks.progress

    monkeypatch.setattr(sktorch.callbacks.progress, "_LONG_EPOCH_SECONDS", 0.0)
    fit(None, breast_cancer, verbose=1, batch_size=10)
    assert re.search(r"epoch 1: .*/20", capsys.readouterr().err)


def test_rows_are_written_as_epochs_end(breast_cancer, tmp_path):
    path = tmp_path / "logs" / "fit.csv"
    clf = fit([CSVLogger(path)], breast_cancer)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [*rows[0]] == list(clf.history_)
    assert [float(row["val_loss"]) for row in rows] == clf.history_["val_loss"].tolist()


class Writer:
    """What TensorBoardLogger needs of a SummaryWriter; it cannot be copied, as that cannot."""

    def __init__(self):
        self.written = {}
        self.lock = threading.Lock()

    def add_scalar(self, tag, value, step):
        self.written[tag, step] = value

    def close(self):
        self.written["closed"] = True


def test_scalars_are_written_for_tensorboard(breast_cancer):
    writer = Writer()
    clf = fit([TensorBoardLogger(writer=writer)], breast_cancer)
    for epoch, value in zip(clf.history_["epoch"], clf.history_["val_loss"], strict=True):
        assert writer.written["loss/val", epoch] == value
    assert writer.written["closed"]


def test_the_range_of_rates_within_an_epoch_is_recorded(breast_cancer):
    clf = fit([LearningRateMonitor()], breast_cancer, lr_scheduler="onecycle", batch_size=20)
    history = clf.history_
    assert list(history)[-4:] == ["lr_min", "lr_max", "lr", "epoch_time"]
    assert (history["lr_min"] <= history["lr"]).all()
    assert history["lr_max"].max() == pytest.approx(1e-3, rel=0.05)


def test_checkpoints_hold_the_weights_of_their_epoch(breast_cancer, tmp_path):
    clf = fit([Checkpoint(tmp_path / "a", keep_best=2)], breast_cancer, lr=0.3, max_epochs=12,
              patience=12)  # fmt: skip
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    best = clf.history_.nsmallest(2, "val_loss")["epoch"]
    assert files == sorted({f"epoch-{epoch:04}.pt" for epoch in (*best, 12)})
    state = torch.load(tmp_path / "a" / f"epoch-{clf.best_epoch_:04}.pt", weights_only=True)
    assert len(state["history"]) == clf.best_epoch_
    net = UserMLP(30, 2)
    load_matching(net, state["net"])
    for name, value in clf.net_.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])
    fit([Checkpoint(tmp_path / "b", every=2, keep_best=9)], breast_cancer, max_epochs=5)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["epoch-0002.pt", "epoch-0004.pt"]
    with pytest.raises(ValueError, match=r"Checkpoint: every must be .*0"):
        fit([Checkpoint(tmp_path, every=0)], breast_cancer)


def test_callbacks_go_through_clones_grids_and_pickles(breast_cancer, tmp_path):
    X, y = breast_cancer
    clf = TorchClassifier(
        UserMLP, max_epochs=2, metrics=["auroc"], callbacks=[CSVLogger(tmp_path / "fit.csv")]
    )
    grid = GridSearchCV(clf, {"callbacks": [None, [LearningRateMonitor()]]}, cv=2).fit(X, y)
    assert grid.best_score_ > 0
    again = pickle.loads(pickle.dumps(clf.fit(X, y)))
    assert again.history_.equals(clf.history_)
    assert copy.deepcopy(again).fit(X, y).n_iter_ == 2
