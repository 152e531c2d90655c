"""A fit that was cut off and resumed ends, bit for bit, where it would have ended."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import DroppingMLP, Tempered, UserMLP, several_schedules
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, LearningRateMonitor
from sktorch.digest import digest
from sktorch.exceptions import DamagedModelError
from sktorch.optim import OPTIMIZERS, SCHEDULERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
W = RNG.uniform(0.5, 2, size=120)
BASE = {"net": UserMLP, "lr": 0.01, "batch_size": 32, "random_state": 0, "max_epochs": 6}


class Cut(Callback):
    """Interrupts a fit within an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, state, batch, loss, y_pred):
        if state.epoch == self.epoch and state.net.training:
            raise KeyboardInterrupt


class Unsaved(UserMLP):
    """Counts its batches in buffers, one of which no state dict has."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.norm = nn.BatchNorm1d(n_features_in)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
        return super().forward(self.norm(x)) * (1 + self.calls / 100)


class Tiring(torch.optim.SGD):
    """Keeps what it knows in its groups, as schedule-free optimizers do."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            group["lr"] = group["given_lr"] / group["steps"]
        super().step(closure)


class Unfreezes(Callback):
    """Lets a part of the net learn from the second epoch on."""

    unfreezes = True

    def on_epoch_begin(self, state):
        if state.epoch == 2:
            state.net.hidden.requires_grad_(True)


def half_frozen(n_features_in, n_outputs):
    net = UserMLP(n_features_in, n_outputs)
    net.hidden.requires_grad_(False)
    return net


def steep(y_pred, y_true):
    """Return a loss whose gradients overflow float16 until they are scaled down."""
    return 1e3 * nn.functional.cross_entropy(y_pred, y_true, reduction="none")


def fit(settings, data=(X, Y), callbacks=(), **arguments):
    estimator = settings.get("estimator", TorchClassifier)
    settings = {k: v for k, v in {**BASE, **settings}.items() if k != "estimator"}
    callbacks = [*settings.pop("callbacks", ()), *callbacks]
    return estimator(**settings, callbacks=callbacks).fit(*data, **arguments)


def assert_same_bits(one, other):
    a, b = one.net_.state_dict(), other.net_.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in {*a, *b})
    assert one.history_.drop(columns="epoch_time").equals(other.history_.drop(columns="epoch_time"))
    assert (one.best_epoch_, one.n_iter_) == (other.best_epoch_, other.n_iter_)
    assert np.array_equal(one.predict(X), other.predict(X))


def check(settings, folder, data=(X, Y), cut=4, **arguments):
    """Cut a fit off, resume it, and compare with one that was not cut off."""
    whole = fit(settings, data, **arguments)
    with pytest.raises(KeyboardInterrupt):
        fit(settings, data, [Checkpoint(folder), Cut(cut)], **arguments)
    resumed = fit(settings, data, [Checkpoint(folder)], resume_from=folder, **arguments)
    assert_same_bits(resumed, whole)
    return resumed


VALIDATED = {"X_val": X[:40], "y_val": Y[:40]}
REGRESSION = {"estimator": TorchRegressor, "data": (X, X[:, 0])}
CASES = {
    "plain": {},
    "dropout": {"net": DroppingMLP},
    "buffers": {"net": Unsaved},
    "built-in net": {"net": "mlp", "net__dropout": 0.3},
    "lazy net": {"net": lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))},
    "weights": {"sample_weight": W},
    "held out": {"early_stopping": True, "validation_fraction": 0.3, "lr": 0.3, "max_epochs": 12},
    "stops early": {"early_stopping": True, "patience": 2, "lr": 0.5, "max_epochs": 60},
    "no best": {"early_stopping": False},
    "own validation": {**VALIDATED, "lr": 0.3, "max_epochs": 12},
    "metrics": {**VALIDATED, "metrics": ["accuracy", "auroc"], "monitor": "val_auroc"},
    "loss with a parameter": {"loss": Tempered},
    "adaptive softmax": {"loss": "adaptive_log_softmax"},
    "average": {"ema_decay": 0.9, "lr": 0.1},
    "accumulation and clip": {"grad_accumulation_steps": 3, "grad_clip_norm": 0.5, "l1": 1e-3},
    "float16": {"precision": "float16", "lr": 1e-3, "loss": steep},
    "optimizer that knows something by its groups": {"optimizer": Tiring, "lr": 0.1},
    "unfrozen on the way": {"net": half_frozen, "callbacks": [Unfreezes()]},
    "bfloat16": {"net": lambda: UserMLP(4, 3).to(torch.bfloat16), "optimizer": "adamw"},
    "rules": {"lr": {"hidden.*": 1e-3, "*": 1e-2}, "weight_decay": 0.1, "optimizer": "adamw"},
    "own stopper": {"callbacks": [EarlyStopping("train_loss", patience=3, min_delta=0.05)]},
    "regression": {**REGRESSION},
    "plateau": {"lr_scheduler": "plateau", "lr_scheduler__patience": 0},
    "one cycle": {"lr_scheduler": "onecycle", "optimizer": "sgd", "optimizer__momentum": 0.9},
    "milestones": {"lr_scheduler": "multistep", "lr_scheduler__milestones": [2, 4]},
    "several schedules": {"lr_scheduler": several_schedules},
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_fit_ends_where_the_whole_fit_ends(case, tmp_path):
    settings = dict(CASES[case])
    arguments = {k: settings.pop(k) for k in ("X_val", "y_val", "sample_weight") if k in settings}
    data = settings.pop("data", (X, Y))
    check(settings, tmp_path, data, **arguments)


@pytest.mark.parametrize("optimizer", [n for n in OPTIMIZERS if n not in ("sparseadam", "muon")])
def test_every_optimizer_is_resumed(optimizer, tmp_path):
    rate = {"lbfgs": 0.1, "adadelta": 1.0}.get(optimizer, 0.01)
    check({"optimizer": optimizer, "lr": rate}, tmp_path)


def test_sparse_and_matrix_optimizers_are_resumed(tmp_path):
    ids = RNG.integers(0, 9, size=(120, 1))

    def embedding():
        return nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Flatten())

    with pytest.raises(KeyboardInterrupt):
        fit({"net": embedding, "optimizer": "sparseadam"}, (ids, Y), [Checkpoint(tmp_path), Cut(3)])
    settings = {"net": embedding, "optimizer": "sparseadam"}
    whole = fit(settings, (ids, Y))
    resumed = fit(settings, (ids, Y), resume_from=tmp_path)
    assert torch.equal(whole.net_[0].weight, resumed.net_[0].weight)


ARGUMENTS = {
    "steplr": {"step_size": 2},
    "multisteplr": {"milestones": [2, 4]},
    "exponentiallr": {"gamma": 0.9},
    "lambdalr": {"lr_lambda": lambda epoch: 1 / (1 + epoch)},
    "multiplicativelr": {"lr_lambda": lambda epoch: 0.9},
    "cycliclr": {"base_lr": 1e-4, "step_size_up": 3, "cycle_momentum": False},
    "cosineannealingwarmrestarts": {"T_0": 2},
    "swalr": {"swa_lr": 0.05},
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_schedule_is_resumed(scheduler, tmp_path):
    arguments = {f"lr_scheduler__{k}": v for k, v in ARGUMENTS.get(scheduler, {}).items()}
    check({"lr_scheduler": scheduler, **arguments}, tmp_path)


def test_a_fit_without_a_seed_keeps_the_one_it_drew(tmp_path):
    settings = {"random_state": None, "early_stopping": True, "net": DroppingMLP}
    whole = fit(settings, callbacks=[Checkpoint(tmp_path, keep_best=9)])
    for epoch in (5, 6):
        (tmp_path / f"epoch-000{epoch}.pt").unlink()
    assert_same_bits(fit(settings, resume_from=tmp_path), whole)
    assert not np.array_equal(fit(settings).predict_proba(X), whole.predict_proba(X))


def test_callbacks_of_skorch_begin_anew_and_say_so(tmp_path):
    from skorch.callbacks import EpochTimer

    callbacks = [EpochTimer(), Checkpoint(tmp_path)]
    fit({"max_epochs": 2}, callbacks=callbacks)
    with pytest.warns(UserWarning, match=r"EpochTimer of skorch know nothing of the epochs before"):
        assert fit({}, callbacks=callbacks, resume_from=tmp_path).n_iter_ == 6


@pytest.mark.parametrize("cut", [1, 2, 6])
def test_a_fit_may_be_cut_off_in_any_epoch(cut, tmp_path):
    check({"net": DroppingMLP}, tmp_path, cut=cut)


def test_a_fit_may_be_cut_off_many_times(tmp_path):
    whole = fit({"max_epochs": 9})
    for cut in (2, 3, 5, 8):
        callbacks = [Checkpoint(tmp_path), Cut(cut)]
        with pytest.raises(KeyboardInterrupt):
            fit({"max_epochs": 9}, callbacks=callbacks, resume_from=tmp_path)
    assert_same_bits(fit({"max_epochs": 9}, resume_from=tmp_path), whole)


def test_a_finished_fit_can_be_read_back_and_made_longer(tmp_path):
    settings = {"lr": 0.3, "early_stopping": True}
    done = fit(settings, callbacks=[Checkpoint(tmp_path)])
    assert_same_bits(fit(settings, resume_from=tmp_path, callbacks=[Checkpoint(tmp_path)]), done)
    longer = {**settings, "max_epochs": 10}
    assert_same_bits(fit(longer, resume_from=tmp_path), fit(longer))


def test_a_fit_that_stopped_early_stays_stopped(tmp_path):
    settings = {"lr": 0.5, "early_stopping": True, "patience": 2, "max_epochs": 50}
    done = fit(settings, callbacks=[Checkpoint(tmp_path)])
    assert done.n_iter_ < 50
    assert_same_bits(fit({**settings, "max_epochs": 90}, resume_from=tmp_path), done)


def test_the_best_epochs_are_kept_across_a_cut(tmp_path):
    settings = {"lr": 0.3, "max_epochs": 12, "patience": 12, "early_stopping": True}
    for folder, cut in (("whole", None), ("cut", 7)):
        callbacks = [Checkpoint(tmp_path / folder, keep_best=3)]
        if cut:
            with pytest.raises(KeyboardInterrupt):
                fit(settings, callbacks=[*callbacks, Cut(cut)])
        fit(settings, callbacks=callbacks, resume_from=tmp_path / folder if cut else None)
    names = [sorted(p.name for p in (tmp_path / f).iterdir()) for f in ("whole", "cut")]
    assert names[0] == names[1]


def test_logs_go_on_where_they_were(tmp_path):
    callbacks = [CSVLogger(tmp_path / "fit.csv"), LearningRateMonitor()]
    resumed = check({"callbacks": callbacks}, tmp_path / "state")
    lines = (tmp_path / "fit.csv").read_text().splitlines()
    assert len(lines) == 7
    assert [float(line.split(",")[1]) for line in lines[1:]] == resumed.history_[
        "train_loss"
    ].tolist()
    assert list(resumed.history_)[-4:] == ["lr_min", "lr_max", "lr", "epoch_time"]


@pytest.mark.parametrize("verbose", [1, 2])
def test_what_is_shown_goes_on(verbose, tmp_path, capsys):
    settings = {"verbose": verbose}
    with pytest.raises(KeyboardInterrupt):
        fit(settings, callbacks=[Checkpoint(tmp_path), Cut(4)])
    assert fit(settings, resume_from=tmp_path, callbacks=[Checkpoint(tmp_path)]).n_iter_ == 6
    assert fit(settings, resume_from=tmp_path).n_iter_ == 6
    assert verbose == 1 or "max_epochs=6 are run" in capsys.readouterr().out


class Counts(Callback):
    def on_fit_begin(self, state):
        self.n = 0

    def on_epoch_end(self, state):
        self.n += 1
        state.history.last["n"] = np.int64(self.n)

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


def test_a_callback_says_what_it_must_know(tmp_path):
    resumed = check({"callbacks": [Counts(), Counts()]}, tmp_path)
    assert resumed.history_["n"].tolist() == [1, 2, 3, 4, 5, 6]


def test_what_no_checkpoint_can_hold_is_refused_by_name(tmp_path):
    class Odd(Callback):
        def on_epoch_end(self, state):
            state.history.last["odd"] = object()

    with pytest.raises(ValueError, match=r"Checkpoint: .*\['history'\].*\['odd'\].*object"):
        fit({}, callbacks=[Odd(), Checkpoint(tmp_path)])


DIFFERENCES = {
    "lr": ({"lr": 0.1}, {}, r"lr was 0\.01 and is 0\.1\."),
    "net": ({"net": DroppingMLP}, {}, r"net was the class UserMLP and is the class DroppingMLP"),
    "new parameter": ({"net__width": 9}, {}, r"net__width was not set and is 9"),
    "loss": ({"loss": "focal"}, {}, r"loss was 'cross_entropy' and is 'focal'"),
    "patience": ({"patience": 3}, {}, r"patience was 10 and is 3"),
    "seed": ({"random_state": 1}, {}, r"random_state was 0 and is 1"),
    "values of X": ({}, {"X": X + 1e-6}, r"X differs, though it is .*\(120, 4\).*float32 in both"),
    "shape of X": ({}, {"X": X[:, :3]}, r"X was .*\(120, 4\).* and is .*\(120, 3\)"),
    "dtype of X": ({}, {"X": X.astype(float)}, r"X was .*float32 and is .*float64"),
    "y": ({}, {"y": Y[::-1]}, r"y differs"),
    "weights": ({}, {"sample_weight": W}, r"sample_weight was not given and is .*\(120,\)"),
    "validation": ({}, VALIDATED, r"X_val was not set and is .*\(40, 4\)"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_another_fit_is_refused_with_the_difference(case, tmp_path):
    fit({"max_epochs": 2}, callbacks=[Checkpoint(tmp_path)])
    settings, data, message = DIFFERENCES[case]
    arguments = {"X": X, "y": Y, **data}
    with pytest.raises(ValueError, match=f"of another fit: {message}"):
        fit(settings, (), resume_from=tmp_path, **arguments)


def test_functions_without_a_name_are_told_apart_by_what_they_do(tmp_path):
    def scaled(by):
        return lambda y_pred, y_true: by * nn.functional.cross_entropy(y_pred, y_true)

    fit({"loss": scaled(1.0), "max_epochs": 2}, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match=r"loss differs, though it is the function <lambda>"):
        fit({"loss": scaled(2.0)}, resume_from=tmp_path)
    assert fit({"loss": scaled(1.0)}, resume_from=tmp_path).n_iter_ == 6


def test_a_net_or_a_loss_given_whole_is_known_by_its_structure(tmp_path):
    def instances(width=8, weight=(1.0, 2.0, 3.0)):
        net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
        return {"net": net, "loss": nn.CrossEntropyLoss(weight=torch.tensor(weight))}

    torch.manual_seed(1)
    whole = fit(instances())
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        fit(instances(), callbacks=[Checkpoint(tmp_path), Cut(4)])
    # A new process builds the net anew, with weights that no longer matter.
    assert_same_bits(fit(instances(), resume_from=tmp_path), whole)
    with pytest.raises(ValueError, match=r"net differs"):
        fit(instances(width=9), resume_from=tmp_path)
    with pytest.raises(ValueError, match=r"loss differs"):
        fit(instances(weight=(1.0, 2.0, 4.0)), resume_from=tmp_path)


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine", "warmup_cosine", "linear"])
def test_the_length_of_a_schedule_cannot_change(scheduler, tmp_path):
    fit({"lr_scheduler": scheduler}, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match=r"max_epochs=9 cannot be changed.*lr_scheduler \(\w+ was"):
        fit({"lr_scheduler": scheduler, "max_epochs": 9}, resume_from=tmp_path)


def test_another_stopper_is_refused(tmp_path):
    def stopper(**settings):
        return {"callbacks": [EarlyStopping("train_loss", **settings)]}

    fit(stopper(), callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match=r"EarlyStopping: .*min_delta.*Set them back"):
        fit(stopper(min_delta=0.5), resume_from=tmp_path)


def test_where_nothing_can_be_resumed_that_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"resume_from=.*nowhere.* holds no checkpoint"):
        fit({}, resume_from=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"resume_from must be the directory"):
        fit({}, resume_from=True)
    fit({}, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match=r"max_epochs=2 is less than the 6 epochs"):
        fit({"max_epochs": 2}, resume_from=tmp_path)
    with pytest.raises(ValueError, match=r"Checkpoint: .*holds checkpoints of another fit.*resume"):
        fit({}, callbacks=[Checkpoint(tmp_path)])


def test_a_script_can_always_ask_to_resume_from_its_own_directory(tmp_path):
    folder = tmp_path / "state"
    first = fit({}, callbacks=[Checkpoint(folder)], resume_from=str(folder))
    assert_same_bits(fit({}, callbacks=[Checkpoint(folder)], resume_from=folder), first)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "cut short", "empty", "foreign"])
def test_a_damaged_checkpoint_is_passed_over_and_told_of(how, tmp_path):
    whole = fit({}, callbacks=[Checkpoint(tmp_path, keep_best=9)])
    newest = tmp_path / "epoch-0006.pt"
    if how == "flipped":
        damage(newest)
    elif how == "foreign":
        torch.save({"net": {}}, newest)
    else:
        newest.write_bytes(newest.read_bytes()[: 1000 if how == "cut short" else 0])
    with pytest.warns(UserWarning, match=r"epoch-0006\.pt' is damaged.*Going on from epoch-0005"):
        resumed = fit({}, resume_from=tmp_path)
    assert_same_bits(resumed, whole)
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(DamagedModelError, match=r"damaged.*No checkpoint beside it is whole"):
        fit({}, resume_from=tmp_path)


def test_files_that_a_dead_process_left_are_removed(tmp_path):
    fit({"max_epochs": 2}, callbacks=[Checkpoint(tmp_path)])
    (tmp_path / ".epoch-0003.pt.0a1b2c3d").write_bytes(b"half")
    fit({}, callbacks=[Checkpoint(tmp_path)], resume_from=tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_another_version_is_told_of(tmp_path, monkeypatch):
    import sktorch.persistence

    monkeypatch.setattr(sktorch.persistence, "__version__", "0.0.1")
    fit({"max_epochs": 2}, callbacks=[Checkpoint(tmp_path)])
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"checkpoint was stored with sktorch 0\.0\.1 \(now"):
        fit({}, resume_from=tmp_path)


def test_a_failed_resume_leaves_the_model_before(tmp_path):
    fit({"max_epochs": 2}, callbacks=[Checkpoint(tmp_path)])
    clf = fit({"lr": 0.1})
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=r"lr was"):
        clf.fit(X, Y, resume_from=tmp_path)
    assert np.array_equal(clf.predict_proba(X), before)


def test_a_fit_is_resumed_in_inference_mode(tmp_path):
    whole = fit({})
    fit({"max_epochs": 3}, callbacks=[Checkpoint(tmp_path)])
    with torch.inference_mode():
        resumed = fit({}, resume_from=tmp_path)
    assert_same_bits(resumed, whole)


def test_partial_fit_goes_on_from_a_resumed_fit_as_from_the_whole(tmp_path):
    whole = fit({})
    fit({"max_epochs": 3}, callbacks=[Checkpoint(tmp_path)])
    resumed = fit({}, resume_from=tmp_path)
    assert_same_bits(resumed.partial_fit(X, Y), whole.partial_fit(X, Y))


def test_a_checkpoint_is_read_without_running_code(tmp_path):
    fit({"max_epochs": 1}, callbacks=[Checkpoint(tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = torch.load(tmp_path / "epoch-0001.pt", weights_only=True)
    assert {"net", "epoch", "history", "progress", "seeds", "fingerprint"} <= {*state}


@pytest.mark.slow
def test_no_kill_leaves_an_unreadable_file_or_another_result():
    path = Path(__file__).with_name("kills.py")
    command = [sys.executable, str(path), "--kills", "10"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    found = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert found["kills"] == "10", done.stdout
    assert (found["unreadable"], found["different"]) == ("0", "0"), done.stdout
    assert int(found["resumed"]) >= 1


def test_an_interrupt_while_a_file_is_written_leaves_the_files_before(tmp_path, monkeypatch):
    whole = fit({})
    calls = []

    def interrupt(descriptor):
        calls.append(descriptor)
        # Two for each file: its content, and its name in the directory.
        if len(calls) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit({}, callbacks=[Checkpoint(tmp_path, keep_best=9)])
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"epoch-000{epoch}.pt" for epoch in (1, 2, 3)
    ]
    assert_same_bits(fit({}, resume_from=tmp_path), whole)


def test_a_checkpoint_of_another_device_goes_on_here_with_a_warning(tmp_path):
    fit({"max_epochs": 3, "net": DroppingMLP}, callbacks=[Checkpoint(tmp_path)])
    path = tmp_path / "epoch-0003.pt"
    content = torch.load(path, weights_only=True)
    content["device"] = "cuda:0"
    content["progress"]["dropout"].append(torch.zeros(16, dtype=torch.uint8))
    del content["sha256"]
    torch.save({**content, "sha256": digest(content)}, path)
    with pytest.warns(UserWarning, match=r"written on device cuda:0 .* on cpu.*device='cuda:0'"):
        resumed = fit({"net": DroppingMLP}, resume_from=tmp_path)
    assert_same_bits(resumed, fit({"net": DroppingMLP}))
