"""Each stock callback of skorch, unmodified, on both estimators: what it does, not that it ran."""

import io
import json
import pickle
import signal
import subprocess
import sys
import types
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from nets import UserMLP
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV

pytest.importorskip("skorch")

from skorch import callbacks as sk
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import Callback, EarlyStopping

ESTIMATORS = [TorchClassifier, TorchRegressor]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(130, 6)).astype(np.float32)
SIGNAL = X[:, 0] - X[:, 1] + 0.5 * RNG.normal(size=130)
TARGETS = {
    TorchClassifier: np.array(["maybe", "no", "yes"])[np.digitize(SIGNAL, [-0.7, 0.7])],
    TorchRegressor: 1000 + 50 * SIGNAL,
}
TRAIN, VALID = slice(0, 96), slice(96, None)
READS = r"read off the device after each batch"


def fit(kind, callbacks, validate=True, **settings):
    y = TARGETS[kind]
    defaults = {
        "net": UserMLP,
        "lr": 0.01,
        "max_epochs": 4,
        "batch_size": 32,
        "early_stopping": False,
        "random_state": 0,
    }
    valid = {"X_val": X[VALID], "y_val": y[VALID]} if validate else {}
    estimator = kind(callbacks=callbacks, **{**defaults, **settings})
    return estimator.fit(X[TRAIN], y[TRAIN], **valid)


def score(estimator, part=VALID):
    return estimator.score(X[part], TARGETS[type(estimator)][part])


def same_weights(a, b):
    pairs = zip(a.net_.state_dict().values(), b.net_.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def weights_of(path):
    return torch.load(path, weights_only=True)


# One check for each callback -------------------------------------------------------------------


def epoch_timer(kind, tmp_path):
    history = fit(kind, [sk.EpochTimer]).history_
    assert (history["dur"] > 0).all()
    assert list(history)[-4:] == ["val_loss", "dur", "lr", "epoch_time"]


def print_log(kind, tmp_path):
    lines = []
    history = fit(kind, [sk.PrintLog(sink=lines.append), sk.EpochTimer()]).history_
    assert len(lines) == 2 + 4
    assert {"epoch", "train_loss", "valid_loss", "dur"} <= set(lines[0].split())
    assert f"{history['val_loss'].iloc[-1]:.4f}" in lines[-1]


def progress_bar(kind, tmp_path):
    with pytest.warns(UserWarning, match=rf"ProgressBar.*{READS}"):
        fit(kind, [sk.ProgressBar(detect_notebook=False)])


def passthrough_scoring(kind, tmp_path):
    class Ranks(sk.Callback):
        def on_epoch_begin(self, net, **kwargs):
            self.rank = 0

        def on_batch_begin(self, net, training=False, **kwargs):
            self.rank += 1
            if training:
                net.history.record_batch("rank", self.rank)

    passed = sk.PassthroughScoring("rank", on_train=True, lower_is_better=False)
    made = [("rank", Ranks()), passed, sk.PassthroughScoring("valid_loss")]
    history = fit(kind, made, grad_accumulation_steps=2, batch_size=30).history_
    assert history["rank"].tolist() == [(30 * 6 + 6 * 4) / 96] * 4
    assert history["rank_best"].tolist() == [True, False, False, False]
    best = history["val_loss"].cummin() == history["val_loss"]
    assert history["valid_loss_best"].tolist() == best.tolist()
    assert "valid_loss" not in history


def epoch_scoring(kind, tmp_path):
    def worst(net, X, y):
        predicted = net.predict(X)
        if kind is TorchClassifier:
            return (predicted != y).mean()
        return np.abs(predicted - y).max()

    metric, name = {
        TorchClassifier: (accuracy_score, "accuracy"),
        TorchRegressor: (r2_score, "r2"),
    }[kind]
    made = [
        sk.EpochScoring(name, lower_is_better=False),
        sk.EpochScoring(name, name="again", lower_is_better=False, use_caching=False),
        sk.EpochScoring(name, name="on_train", on_train=True),
        sk.EpochScoring(name, name="train_after", on_train=True, use_caching=False),
        sk.EpochScoring(None, name="own", lower_is_better=None),
        sk.EpochScoring(metric, name="function"),
        sk.EpochScoring(worst),
        sk.EpochScoring(worst, use_caching=False, name="worst_again"),
    ]
    fitted = fit(kind, made)
    row = fitted.history_.iloc[-1]
    y = TARGETS[kind][VALID]
    expected = metric(y, fitted.predict(X[VALID]))
    for column in (name, "again", "own", "function"):
        assert row[column] == pytest.approx(expected, rel=1e-6)
    assert row["train_after"] == pytest.approx(score(fitted, TRAIN), rel=1e-6)
    for column in ("worst", "worst_again"):
        assert row[column] == pytest.approx(worst(fitted, X[VALID], y), rel=1e-6)
    best = fitted.history_[name].cummax()
    assert fitted.history_[f"{name}_best"].tolist() == [True, *(np.diff(best) > 0)]
    still = fit(kind, made, lr=0, max_epochs=1)
    assert still.history_["on_train"][0] == pytest.approx(score(still, TRAIN), rel=1e-6)


def epoch_scoring_of_probabilities(kind, tmp_path):
    made = [
        sk.EpochScoring("neg_log_loss", lower_is_better=False),
        sk.EpochScoring("roc_auc_ovr", lower_is_better=False),
    ]
    if kind is TorchRegressor:
        made = [sk.EpochScoring("neg_log_loss", name="neg_log_loss")]
        with pytest.raises((ValueError, AttributeError)):
            fit(kind, made)
        return
    fitted = fit(kind, made)
    row, p, y = fitted.history_.iloc[-1], fitted.predict_proba(X[VALID]), TARGETS[kind][VALID]
    assert row["neg_log_loss"] == pytest.approx(-log_loss(y, p), rel=1e-6)
    assert row["roc_auc_ovr"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), rel=1e-6)


def batch_scoring(kind, tmp_path):
    name = {TorchClassifier: "accuracy", TorchRegressor: "neg_mean_absolute_error"}[kind]
    made = [
        sk.BatchScoring(name, name="valid", lower_is_better=False),
        sk.BatchScoring(name, name="uncached", use_caching=False),
        sk.BatchScoring(name, name="train", on_train=True),
        sk.EpochScoring(name, name="whole"),
    ]
    with pytest.warns(UserWarning, match=rf"BatchScoring of.*{READS}"):
        history = fit(kind, made).history_
    np.testing.assert_allclose(history["valid"], history["whole"], rtol=1e-6)
    np.testing.assert_allclose(history["uncached"], history["whole"], rtol=1e-6)
    assert history["train"].between(-100, 1).all()
    assert "valid_best" in history


def early_stopping(kind, tmp_path):
    sunk = []
    stopping = sk.EarlyStopping("valid_loss", patience=2, threshold=0, sink=sunk.append)
    settings = {"lr": 0.3, "max_epochs": 40}
    stopped = fit(kind, [stopping], **settings)
    whole = fit(kind, [], **settings).history_["val_loss"].to_numpy()
    worse = whole[1:] >= np.minimum.accumulate(whole)[:-1]
    twice = np.flatnonzero(worse[1:] & worse[:-1])
    assert stopped.n_iter_ == twice[0] + 3 < 40
    assert "has not improved in the last 2 epochs" in sunk[0]


def early_stopping_restores(kind, tmp_path):
    settings = {"lr": 0.3, "max_epochs": 40}
    stopping = sk.EarlyStopping("val_loss", patience=3, load_best=True, threshold=0, sink=noop)
    stopped = fit(kind, [stopping], **settings)
    best = int(stopped.history_["val_loss"].argmin()) + 1
    assert best == stopped.n_iter_ - 3
    assert same_weights(stopped, fit(kind, [], **{**settings, "max_epochs": best}))


def early_stopping_on_a_score(kind, tmp_path):
    scoring = sk.EpochScoring(lambda net, X, y: 1.0, name="flat")
    stopping = sk.EarlyStopping("flat", patience=2, sink=noop)
    ended = []
    watcher = types.SimpleNamespace(ended=ended)
    stopped = fit(kind, [scoring, stopping, TrainEnd(watcher)], max_epochs=9)
    assert stopped.n_iter_ == 3
    assert ended == [3]


def scheduler_by_epochs(kind, tmp_path):
    made = [sk.LRScheduler(StepLR, step_size=1, gamma=0.1)]
    history = fit(kind, made).history_
    np.testing.assert_allclose(history["lr"], [1e-2, 1e-3, 1e-4, 1e-5])
    np.testing.assert_allclose(history["event_lr"], history["lr"])


def scheduler_by_batches(kind, tmp_path):
    made = [sk.LRScheduler(OneCycleLR, max_lr=0.1, total_steps=12, step_every="batch")]
    ours = {"lr_scheduler": "onecycle", "lr_scheduler__max_lr": 0.1}
    fitted = fit(kind, made)
    assert same_weights(fitted, fit(kind, [], **ours))
    assert fitted.history_["lr"].nunique() == 4


def scheduler_on_a_plateau(kind, tmp_path):
    plateau = partial(sk.LRScheduler, ReduceLROnPlateau, patience=0, threshold=10.0, factor=0.5)
    history = fit(kind, [plateau(monitor="valid_loss")]).history_
    np.testing.assert_allclose(history["lr"], [0.01, 0.005, 0.0025, 0.00125])
    with pytest.warns(UserWarning, match=rf"LRScheduler of.*{READS}"):
        history = fit(kind, [plateau(step_every="batch")]).history_
    np.testing.assert_allclose(history["lr"], 0.01 * 0.5 ** np.array([0, 3, 6, 9]))


def warm_restarts(kind, tmp_path):
    made = [sk.LRScheduler("WarmRestartLR", min_lr=0.0, max_lr=0.02, base_period=2)]
    history = fit(kind, made).history_
    np.testing.assert_allclose(history["lr"], [0.02, 0.01, 0.0, 0.02], atol=1e-12)


def checkpoint(kind, tmp_path):
    made = sk.Checkpoint(
        dirname=str(tmp_path / "run"), f_pickle="est.pkl", f_params="{last_epoch[epoch]}.pt"
    )
    settings = {"lr": 0.3, "max_epochs": 8}
    fitted = fit(kind, [made], **settings)
    best = fitted.history_["val_loss"].cummin() == fitted.history_["val_loss"]
    assert fitted.history_["event_cp"].tolist() == best.tolist()
    epochs = fitted.history_["epoch"][best].tolist()
    files = {path.name for path in (tmp_path / "run").iterdir()}
    named = {"criterion.pt", "est.pkl", "history.json", "optimizer.pt"}
    assert files == named | {f"{epoch}.pt" for epoch in epochs}
    as_far = fit(kind, [], **{**settings, "max_epochs": epochs[-1]})
    for name, value in weights_of(tmp_path / "run" / f"{epochs[-1]}.pt").items():
        assert torch.equal(value, as_far.net_.state_dict()[name])
    assert "state" in weights_of(tmp_path / "run" / "optimizer.pt")
    rows = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["epoch"] for row in rows] == list(range(1, epochs[-1] + 1))
    loaded = pickle.loads((tmp_path / "run" / "est.pkl").read_bytes())
    np.testing.assert_array_equal(loaded.predict(X), as_far.predict(X))
    assert loaded.n_iter_ == epochs[-1]


def checkpoint_loads_the_best(kind, tmp_path):
    settings = {"lr": 0.3, "max_epochs": 8}
    made = sk.Checkpoint(dirname=str(tmp_path), load_best=True, f_pickle=None)
    fitted = fit(kind, [made], **settings)
    best = int(fitted.history_["val_loss"].argmin()) + 1
    assert fitted.n_iter_ == 8
    assert same_weights(fitted, fit(kind, [], **{**settings, "max_epochs": best}))


def checkpoint_to_an_object(kind, tmp_path):
    file = io.BytesIO()
    made = sk.Checkpoint(None, f_params=file, f_optimizer=None, f_criterion=None, f_history=None)
    fitted = fit(kind, [made], max_epochs=1)
    file.seek(0)
    for name, value in weights_of(file).items():
        assert torch.equal(value, fitted.net_.state_dict()[name])


def train_end_checkpoint(kind, tmp_path):
    fitted = fit(kind, [sk.TrainEndCheckpoint(dirname=str(tmp_path))])
    for name, value in weights_of(tmp_path / "train_end_params.pt").items():
        assert torch.equal(value, fitted.net_.state_dict()[name])
    assert len(json.loads((tmp_path / "train_end_history.json").read_text())) == 4


def load_init_state(kind, tmp_path):
    for saving in (
        sk.Checkpoint(None, dirname=str(tmp_path / "a")),
        sk.TrainEndCheckpoint(dirname=str(tmp_path / "b")),
    ):
        made = [saving, sk.LoadInitState(saving), sk.LRScheduler(StepLR, step_size=3)]
        settings = {"optimizer": "sgd", "optimizer__momentum": 0.9, "shuffle": False}
        first = fit(kind, made, **settings)
        again = fit(kind, made, **settings)
        assert again.history_["epoch"].tolist() == list(range(1, 9))
        assert again.n_iter_ == 8
        np.testing.assert_allclose(again.history_["lr"].iloc[[0, 3, 6]], [1e-2, 1e-3, 1e-4])
        assert again.history_["val_loss"][3] == first.history_["val_loss"][3]
        whole = fit(kind, made[2:], **{**settings, "max_epochs": 8})
        assert same_weights(again, whole)


def gradient_norm_clipping(kind, tmp_path):
    settings = {"optimizer": "sgd", "lr": 0.1, "grad_accumulation_steps": 2}
    clipped = fit(kind, [sk.GradientNormClipping(0.01)], **settings)
    assert same_weights(clipped, fit(kind, [], grad_clip_norm=0.01, **settings))
    assert not same_weights(clipped, fit(kind, [], **settings))


def freezer(kind, tmp_path):
    made = [sk.Freezer("hidden.*"), sk.Unfreezer("hidden.bias", at=3)]
    start = fit(kind, [], lr=0.0, max_epochs=1).net_.state_dict()
    two = fit(kind, made, max_epochs=2, l2=0.1, weight_decay=0.1).net_.state_dict()
    four = fit(kind, made, l2=0.1, weight_decay=0.1).net_.state_dict()
    for name in ("hidden.weight", "hidden.bias"):
        assert torch.equal(start[name], two[name])
    assert not torch.equal(start["head.weight"], two["head.weight"])
    assert torch.equal(start["hidden.weight"], four["hidden.weight"])
    assert not torch.equal(start["hidden.bias"], four["hidden.bias"])


def unfreezer(kind, tmp_path):
    net = UserMLP(6, 3 if kind is TorchClassifier else 1)
    net.hidden.requires_grad_(False)
    frozen = fit(kind, [], net=net).net_
    thawed = fit(kind, [sk.Unfreezer("hidden.weight", at=2)], net=net).net_
    assert torch.equal(frozen.hidden.weight, net.hidden.weight)
    assert not torch.equal(thawed.hidden.weight, net.hidden.weight)
    assert torch.equal(thawed.hidden.bias, net.hidden.bias)
    assert not net.hidden.weight.requires_grad


def initializer(kind, tmp_path):
    made = [sk.Initializer("hidden.*", fn=partial(torch.nn.init.constant_, val=0.25))]
    net = fit(kind, made, lr=0.0, max_epochs=1).net_
    assert (net.hidden.weight == 0.25).all()
    assert not (net.head.weight == 0.25).any()


def param_mapper(kind, tmp_path):
    def at(net):
        return len(net.history) > 1 and net.history[-2, "train_loss"] < np.inf

    made = [sk.ParamMapper("head.bias", fn=torch.nn.init.zeros_, at=at)]
    assert (fit(kind, made, lr=0.0, max_epochs=2).net_.head.bias == 0).all()
    assert not (fit(kind, made, lr=0.0, max_epochs=1).net_.head.bias == 0).any()


def tensorboard(kind, tmp_path):
    writer = Writer()
    history = fit(kind, [sk.TensorBoard(writer)]).history_
    logged = [(step, value) for tag, value, step in writer.scalars if tag == "Loss/valid_loss"]
    assert logged == [*zip(history["epoch"], history["val_loss"], strict=True)]
    assert writer.closed


def wandb(kind, tmp_path):
    run = Writer(dir=str(tmp_path))
    fitted = fit(kind, [sk.WandbLogger(run)])
    assert [row["valid_loss"] for row in run.rows] == fitted.history_["val_loss"].tolist()
    assert weights_of(tmp_path / "best_model.pth").keys() == fitted.net_.state_dict().keys()


def mlflow(kind, tmp_path):
    client, run = Writer(), types.SimpleNamespace(info=types.SimpleNamespace(run_id=7))
    history = fit(kind, [sk.MlflowLogger(run, client)]).history_
    logged = [value for _, key, value in client.metrics if key == "train_loss"]
    assert logged == history["train_loss"].tolist()
    assert len(client.artifacts) == 4
    client = Writer()
    with pytest.warns(UserWarning, match=rf"MlflowLogger of.*{READS}"):
        fit(kind, [sk.MlflowLogger(run, client, log_on_batch_end=True)])
    assert sum(key == "train_loss_batch" for _, key, _ in client.metrics) == 4 * 3


def sacred(kind, tmp_path):
    experiment = Writer()
    history = fit(kind, [sk.SacredLogger(experiment)]).history_
    logged = [value for key, value, _ in experiment.scalars if key == "valid_loss"]
    assert logged == history["val_loss"].tolist()


CHECKS = [
    epoch_timer,
    print_log,
    progress_bar,
    passthrough_scoring,
    epoch_scoring,
    epoch_scoring_of_probabilities,
    batch_scoring,
    early_stopping,
    early_stopping_restores,
    early_stopping_on_a_score,
    scheduler_by_epochs,
    scheduler_by_batches,
    scheduler_on_a_plateau,
    warm_restarts,
    checkpoint,
    checkpoint_loads_the_best,
    checkpoint_to_an_object,
    train_end_checkpoint,
    load_init_state,
    gradient_norm_clipping,
    freezer,
    unfreezer,
    initializer,
    param_mapper,
    tensorboard,
    wandb,
    mlflow,
    sacred,
]


def noop(*args, **kwargs):
    pass


class Writer:
    """Stands for the writer, run, client or experiment of a logging library."""

    def __init__(self, **attributes):
        vars(self).update(attributes)
        self.scalars, self.rows, self.metrics, self.artifacts = [], [], [], []
        self.closed = False

    def add_scalar(self, tag, scalar_value, global_step):
        self.scalars.append((tag, scalar_value, global_step))

    def log_scalar(self, key, value, step=None):
        self.scalars.append((key, value, step))

    def close(self):
        self.closed = True

    def watch(self, module):
        assert isinstance(module, torch.nn.Module)

    def log(self, row):
        self.rows.append(row)

    def log_metric(self, run_id, key, value, step):
        self.metrics.append((run_id, key, value))

    def log_artifact(self, run_id, path):
        assert path.exists()
        self.artifacts.append(path.name)

    def set_terminated(self, run_id):
        self.closed = True


class TrainEnd(sk.Callback):
    def __init__(self, watcher):
        self.watcher = watcher

    def on_train_end(self, net, X=None, y=None, **kwargs):
        assert len(X) == len(y) == 96
        self.watcher.ended.append(len(net.history))


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_stock_callback_has_its_effect(check, kind, tmp_path):
    check(kind, tmp_path)


# In every form, in every place -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_classes_pairs_and_ours_mix_and_later_ones_read_what_earlier_recorded(kind):
    seen = []

    class Ours(Callback):
        def on_epoch_end(self, state):
            seen.append(state.history.last["score"])

    made = [
        sk.EpochTimer,
        ("timer", sk.EpochTimer),
        ("nothing", None),
        Recording(),
        sk.EpochScoring(None, name="score", lower_is_better=False),
        Ours(),
        EarlyStopping("score", "max", patience=1),
    ]
    history = fit(kind, made, lr=0.0).history_
    columns = ["epoch", "train_loss", "val_loss", "began", "dur", "score", "score_best"]
    assert list(history) == [*columns, "lr", "epoch_time"]
    assert len(history) == 2
    assert history["began"].tolist() == [1, 2]


class Recording(sk.Callback):
    """A callback of a user's own."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.count = 0

    def on_epoch_begin(self, net, **kwargs):
        self.count += 1
        net.history.record("began", self.count)


def test_the_objects_of_the_user_stay_as_they_are(tmp_path):
    made = [
        sk.EpochScoring("accuracy"),
        sk.EarlyStopping("train_loss", sink=noop),
        sk.Freezer("hidden.*"),
        sk.LRScheduler(StepLR, step_size=1),
        sk.Checkpoint(dirname=str(tmp_path)),
        ("end", sk.TrainEndCheckpoint(dirname=str(tmp_path))),
        Recording(),
    ]
    objects = [item[1] if isinstance(item, tuple) else item for item in made]
    before = [dict(vars(item)) for item in objects]
    clf = fit(TorchClassifier, made)
    assert [vars(item) for item in objects] == before
    assert clf.callbacks is made
    again = clone(clf)
    assert [type(c) for c in again.callbacks] == [type(c) for c in made]
    assert not any(a is b for a, b in zip(again.callbacks, made, strict=True))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_clones_grids_and_pickles(kind, tmp_path):
    y = TARGETS[kind]
    end = sk.TrainEndCheckpoint(dirname=str(tmp_path))
    made = [
        sk.EpochScoring(None, name="score", lower_is_better=False),
        sk.EarlyStopping("score", patience=1, lower_is_better=False, sink=noop),
        sk.LRScheduler(StepLR, step_size=1),
        ("end", end),
        sk.Freezer("hidden.*"),
        sk.GradientNormClipping(1.0),
    ]
    estimator = kind(UserMLP, callbacks=made, max_epochs=3, early_stopping=True, random_state=0)
    clone(estimator).fit(X, y)
    search = GridSearchCV(estimator, {"lr": [0.0, 0.01]}, cv=2, error_score="raise").fit(X, y)
    assert "score" in search.best_estimator_.history_
    loaded = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    assert loaded.history_.equals(search.best_estimator_.history_)
    loaded.fit(X, y)
    alone = clone(estimator).set_params(callbacks=[end, sk.LoadInitState(end)], lr=0.0)
    assert clone(alone).fit(X, y).n_iter_ == loaded.n_iter_ + 3


def test_a_frame_and_unfit_rows_are_scored_without_complaint():
    import pandas as pd

    frame = pd.DataFrame(X, columns=[*"abcdef"])
    y = TARGETS[TorchClassifier]
    made = [sk.EpochScoring("accuracy"), sk.EpochScoring("accuracy", name="b", use_caching=False)]
    clf = TorchClassifier(callbacks=made, max_epochs=2, early_stopping=True, random_state=0)
    weight = np.arange(130) % 3.0
    history = clf.fit(frame, y, sample_weight=weight).history_
    assert history["accuracy"].equals(history["b"])


@pytest.mark.parametrize("labels", [[0, 1], [-1, 1], [False, True], ["a", "b"], [0.0, 2.0]])
def test_labels_are_of_the_users_kind(labels):
    y = np.array(labels)[(SIGNAL > 0).astype(int)]
    kinds = []

    def kind_of(net, X, y):
        kinds.append((np.asarray(y).dtype.kind, net.predict(X).dtype.kind))
        assert net.classes_.tolist() == labels
        assert set(np.unique(y)) <= set(labels)
        return net.score(X, y)

    clf = TorchClassifier(
        callbacks=[sk.EpochScoring(kind_of, on_train=True), sk.EpochScoring("f1_macro")],
        max_epochs=2,
        lr=0.0,
        early_stopping=True,
    ).fit(X, y)
    assert set(kinds) == {(y.dtype.kind,) * 2}
    assert {"kind_of", "f1_macro"} <= set(clf.history_)


def test_several_outputs_keep_their_units():
    y = np.column_stack([SIGNAL * 10 + 5, X[:, 2]])
    made = [sk.EpochScoring("neg_mean_absolute_error", name="mae")]
    reg = TorchRegressor(callbacks=made, max_epochs=2).fit(X, y, X_val=X, y_val=y)
    last = reg.set_params(callbacks=None)
    assert last.history_["mae"].iloc[-1] == pytest.approx(
        -np.abs(last.predict(X) - y).mean(), rel=1e-6
    )


def test_the_net_iterates_over_what_it_gives():
    given = []

    class Keeps(sk.Callback):
        def on_epoch_end(self, net, dataset_valid=None, **kwargs):
            given.append(torch.cat([*net.forward_iter(dataset_valid)]))
            assert net.module_.training
            assert net.max_epochs == 1
            assert net.history[-1, "val_loss"] == net.history[-1, "valid_loss"]
            assert "val_loss" in net.history[-1]

    clf = fit(TorchClassifier, [Keeps()], max_epochs=1)
    torch.testing.assert_close(given[0], clf.net_(torch.tensor(X[VALID])).detach())


# Stopping, and what goes wrong -----------------------------------------------------------------


class Interrupts(sk.Callback):
    def __init__(self, hook, by):
        setattr(self, hook, self.act)
        self.by = by

    def act(self, net, **kwargs):
        self.by()


def ask_to_stop():
    raise KeyboardInterrupt


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_epoch_end"])
def test_a_callback_that_interrupts_ends_the_fit(hook):
    watcher = types.SimpleNamespace(ended=[])
    clf = fit(TorchClassifier, [Interrupts(hook, ask_to_stop), TrainEnd(watcher)])
    assert clf.n_iter_ == 1
    assert len(watcher.ended) == 1


def test_ctrl_c_goes_through():
    # Python leaves the signal ignored where the shell runs the tests in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(TorchClassifier, [Interrupts("on_epoch_end", press_ctrl_c)])
    finally:
        signal.signal(signal.SIGINT, before)


ERRORS = {
    "no validation data": (lambda: sk.Checkpoint(), False, r"Checkpoint.*pass X_val and y_val"),
    "unknown monitor": (
        lambda: sk.EarlyStopping("valid_acc"),
        True,
        r"EarlyStopping.*'valid_acc'.*Recorded: epoch, train_loss, valid_loss.*earlier in the list",
    ),
    "monitor of a schedule": (
        lambda: sk.LRScheduler(ReduceLROnPlateau, monitor="valid_loss"),
        False,
        r"LRScheduler.*X_val",
    ),
    "no net to set": (lambda: sk.InputShapeSetter(), True, r"InputShapeSetter.*n_features_in"),
    "not a callback": (lambda: object(), True, r"sktorch\.callbacks\.Callback.*got"),
    "a class of ours": (lambda: EarlyStopping, True, r"sktorch\.callbacks\.Callback.*got"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_change(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, validate, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        fit(TorchClassifier, [make()], validate=validate)


def test_an_error_of_a_callback_is_its_own():
    def broken(net, X, y):
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError, match="by zero"):
        fit(TorchClassifier, [sk.EpochScoring(broken)])


# Cost --------------------------------------------------------------------------------------------


def test_one_warning_names_what_reads_each_batch():
    made = [sk.BatchScoring("accuracy"), sk.ProgressBar(), sk.BatchScoring("accuracy", name="b")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(TorchClassifier, made)
    assert len(caught) == 1
    assert "BatchScoring, ProgressBar of skorch" in str(caught[0].message)
    assert caught[0].filename == __file__


def hooks_of(made):
    class Spy(Callback):
        def on_fit_begin(self, state):
            found.update({name: len(calls) for name, calls in state.hooks.items()})

    found = {}
    fit(TorchClassifier, [*made, Spy()], max_epochs=1)
    return {name for name in found if "batch" in name or name == "on_gradients" if found[name]}


@pytest.mark.parametrize(
    ("made", "hooks"),
    [
        ([sk.EpochTimer(), sk.LRScheduler(StepLR, step_size=1), sk.TensorBoard(Writer())], set()),
        ([sk.EpochScoring("accuracy", use_caching=False), sk.Freezer("head.*")], set()),
        ([sk.EpochScoring("accuracy")], {"on_batch_end"}),
        ([sk.GradientNormClipping(1.0)], {"on_gradients"}),
        ([sk.LRScheduler(StepLR, step_size=1, step_every="batch")], {"on_batch_end"}),
    ],
)
def test_hooks_around_batches_run_only_where_they_are_needed(made, hooks):
    assert hooks_of(made) == hooks


def test_safetensors_where_it_is_installed(tmp_path, monkeypatch):
    # The package is stood in for: what is tested is that it gets the tensors and a place.
    module = types.ModuleType("safetensors.torch")
    module.save = lambda state: pickle.dumps(dict(state))
    module.load = pickle.loads
    monkeypatch.setitem(sys.modules, "safetensors", types.ModuleType("safetensors"))
    monkeypatch.setitem(sys.modules, "safetensors.torch", module)
    saving = sk.TrainEndCheckpoint(dirname=str(tmp_path), f_optimizer=None, use_safetensors=True)
    made = [saving, sk.LoadInitState(saving, use_safetensors=True)]
    first = fit(TorchClassifier, made)
    again = fit(TorchClassifier, made, lr=0.0)
    assert same_weights(first, again)
    assert again.n_iter_ == 8


def test_skorch_is_imported_only_where_its_callbacks_are():
    code = """
import sys, numpy as np
from sktorch import TorchClassifier
from sktorch.callbacks import Callback
X = np.arange(40.0).reshape(20, 2)
TorchClassifier(max_epochs=1, callbacks=[Callback()]).fit(X, np.arange(20) % 2)
sys.exit("skorch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
