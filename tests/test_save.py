"""``save`` and ``load``: what is read predicts as what was written, or says why it cannot."""

import io
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import safetensors.torch
import torch
from nets import DroppingMLP, Tempered, UserCNN, UserMLP, make_mlp
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn.utils import parametrizations

import sktorch.persistence
from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import CSVLogger
from sktorch.exceptions import DamagedModelError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(99, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
BINARY = np.where(X[:, 0] > 0, "yes", "no")
LABELS = (X[:, :3] > 0).astype(int)


class Unsaved(UserMLP):
    """With a buffer that no state dict has, and extra state that every state dict has."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.factor = 1.0
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.factor += 0.5
        return super().forward(x) * (1 + self.calls / 10) * self.factor

    def get_extra_state(self):
        return {"factor": self.factor}

    def set_extra_state(self, state):
        self.factor = state["factor"]


class Rectified(UserMLP):
    """The parameters of its parent, and another function."""

    def forward(self, x):
        return self.head(torch.tanh(self.hidden(x)))


def parametrized(n_features_in, n_outputs):
    body = parametrizations.weight_norm(nn.Linear(n_features_in, 8))
    return nn.Sequential(body, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n_outputs))


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    net[1].weight = net[0].weight
    return net


def mixed(n_features_in, n_outputs):
    """Return a net with parameters of two dtypes, and one that is not trained."""
    net = UserMLP(n_features_in, n_outputs)
    net.coarse = nn.Linear(2, 2, dtype=torch.float16)
    net.hidden.bias.requires_grad_(False)
    return net


def doubled(y_pred, y_true):
    return 2 * nn.functional.cross_entropy(y_pred, y_true, reduction="none")


CLASSIFIERS = {
    "mlp": ({"net__hidden_layer_sizes": (5, 4), "net__activation": "tanh"}, Y),
    "two classes, one logit": ({"loss": "bce"}, BINARY),
    "two classes, two logits": ({"class_weight": {"yes": 2.0, "no": 1.0}}, BINARY),
    "booleans": ({}, X[:, 0] > 0),
    "labels as objects": ({}, BINARY.astype(object)),
    "multilabel": ({"loss": "focal"}, LABELS),
    "probabilities": ({"loss": "bce_probability"}, BINARY),
    "log probabilities": ({"loss": "nll"}, Y),
    "margins": ({"loss": "hinge"}, Y),
    "adaptive softmax": ({"loss": "adaptive_log_softmax"}, Y),
    "class": ({"net": UserMLP, "net__width": 7}, Y),
    "torch's class": ({"net": nn.Linear, "net__in_features": 4, "net__out_features": 3}, Y),
    "factory": ({"net": make_mlp, "net__width": 7}, Y),
    "instance": ({"net": UserMLP(4, 3)}, Y),
    "dropout": ({"net": DroppingMLP}, Y),
    "buffers and extra state": ({"net": Unsaved}, Y),
    "weight norm": ({"net": parametrized}, Y),
    "lazy": ({"net": lazy}, Y),
    "tied": ({"net": tied}, Y),
    "bfloat16": ({"net": UserMLP(4, 3).to(torch.bfloat16)}, Y),
    "mixed dtypes": ({"net": mixed, "optimizer": "sgd"}, Y),
    "metrics": ({"metrics": ["accuracy", "auroc"], "lr": {"0.*": 0.01, "*": 0.001}}, Y),
    "torch's classes": ({"optimizer": torch.optim.SGD, "loss": nn.CrossEntropyLoss}, Y),
    "schedule": ({"lr_scheduler": "cosine", "ema_decay": 0.9, "weight_decay": 0.1}, Y),
}


def fitted(case):
    settings, y = CLASSIFIERS[case]
    return TorchClassifier(max_epochs=2, random_state=0, **settings).fit(X, y)


def loaded(estimator, path):
    """Save and load; the net is passed where it is the user's."""
    estimator.save(path)
    net = estimator.net
    ours = isinstance(net, str) or net is nn.Linear
    return type(estimator).load(path, **({} if ours else {"net": net}))


def same_parameters(one, other):
    return {k: repr(v) for k, v in one.get_params().items()} == {
        k: repr(v) for k, v in other.get_params().items()
    }


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_what_is_loaded_predicts_the_same(case, tmp_path):
    clf = fitted(case)
    again = loaded(clf, tmp_path / "model")
    assert np.array_equal(again.decision_function(X), clf.decision_function(X))
    assert np.array_equal(again.predict(X), clf.predict(X))
    assert again.classes_.dtype == clf.classes_.dtype
    assert again.history_.equals(clf.history_)
    assert again.evaluate(X, CLASSIFIERS[case][1]) == clf.evaluate(X, CLASSIFIERS[case][1])
    for name in ("n_features_in_", "n_iter_", "best_epoch_", "best_score_", "n_outputs_"):
        assert getattr(again, name) == getattr(clf, name)
    assert [p.requires_grad for p in again.net_.parameters()] == [
        p.requires_grad for p in clf.net_.parameters()
    ]
    assert [p.dtype for p in again.net_.parameters()] == [p.dtype for p in clf.net_.parameters()]
    assert same_parameters(again, clf)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("case", ["mlp", "class", "tied", "adaptive softmax"])
def test_what_is_loaded_is_fitted_and_trained_on_as_any(case, tmp_path):
    clf = fitted(case)
    again = loaded(clf, tmp_path / "model")
    again.partial_fit(X, CLASSIFIERS[case][1])
    assert again.n_iter_ == clf.n_iter_ + 1
    again.fit(X, CLASSIFIERS[case][1])
    assert np.array_equal(again.decision_function(X), clf.decision_function(X))
    assert "parameters" in str(again.summary()).lower()
    twice = loaded(again, tmp_path / "again")
    assert np.array_equal(twice.decision_function(X), clf.decision_function(X))
    assert np.array_equal(
        pickle.loads(pickle.dumps(twice)).decision_function(X), clf.decision_function(X)
    )


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gaussian_nll"])
def test_a_regressor_keeps_its_units(loss, tmp_path):
    y = np.exp(X[:, 0]) * 100
    reg = TorchRegressor(loss=loss, max_epochs=3).fit(X, y)
    again = loaded(reg, tmp_path / "model")
    assert np.array_equal(again.predict(X), reg.predict(X))
    if loss == "gaussian_nll":
        assert np.array_equal(again.predict(X, return_std=True)[1], reg.predict(X, True)[1])
    two = TorchRegressor(max_epochs=1).fit(X, np.c_[y, -y])
    assert np.array_equal(loaded(two, tmp_path / "two").predict(X), two.predict(X))


def test_names_of_columns_ids_and_images_come_back(digits, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    clf = TorchClassifier(max_epochs=1).fit(frame, Y)
    again = loaded(clf, tmp_path / "names")
    assert again.feature_names_in_.tolist() == list("abcd")
    assert np.array_equal(again.predict(frame), clf.predict(frame))
    ids = RNG.integers(0, 9, size=(99, 5))
    net = nn.Sequential(nn.Embedding(9, 3, padding_idx=0), nn.Flatten(), nn.Linear(15, 3))
    clf = TorchClassifier(net, max_epochs=1).fit(ids, Y)
    assert np.array_equal(loaded(clf, tmp_path / "ids").predict(ids), clf.predict(ids))
    images = digits[0].reshape(-1, 1, 8, 8)
    clf = TorchClassifier(UserCNN, max_epochs=1).fit(images, digits[1])
    assert np.array_equal(loaded(clf, tmp_path / "images").predict(images), clf.predict(images))


def test_code_that_a_file_cannot_hold_is_named_and_asked_for(tmp_path):
    settings = {"net": UserMLP, "loss": doubled, "callbacks": [CSVLogger(tmp_path / "log.csv")]}
    clf = TorchClassifier(max_epochs=1, **settings).fit(X, Y)
    clf.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"net=the class UserMLP.*Pass .*load\(path, net=\.\.\."):
        TorchClassifier.load(tmp_path / "model")
    again = TorchClassifier.load(tmp_path / "model", net=UserMLP)
    assert np.array_equal(again.predict(X), clf.predict(X))
    assert repr(again.loss) == "<not in the file: the function doubled>"
    for call in (again.evaluate, again.fit, again.partial_fit):
        with pytest.raises(ValueError, match=r"was .* when the model was saved.*set_params"):
            call(X, Y)
    again.set_params(loss=doubled)
    assert again.evaluate(X, Y) == clf.evaluate(X, Y)
    with pytest.raises(ValueError, match=r"callbacks was .*CSVLogger.*set_params\(callbacks"):
        again.fit(X, Y)
    assert again.set_params(callbacks=None).fit(X, Y).n_iter_ == 1


def test_a_loss_with_weights_of_its_own_is_not_begun_anew_in_silence(tmp_path):
    clf = TorchClassifier(loss=Tempered, max_epochs=2).fit(X, Y)
    again = loaded(clf, tmp_path / "model")
    assert np.array_equal(again.predict(X), clf.predict(X))
    again.set_params(loss=Tempered)
    for call in (again.evaluate, again.partial_fit):
        with pytest.raises(ValueError, match=r"trained weights of loss.*Use joblib"):
            call(X, Y)


def wide(n_features_in, n_outputs):
    return UserMLP(n_features_in, n_outputs, 9)


OTHER_NETS = {
    "another width": (wide, r"hidden.weight \(32, 4\)"),
    "other names": (make_mlp, r"not in the file: 0\.bias.*only in the file: head\.bias"),
    "another function": (Rectified, r"computes something else"),
    "no net": (3, r"must be a name, .* got 3"),
}


@pytest.mark.parametrize("case", OTHER_NETS)
def test_another_net_than_was_saved_is_refused(case, tmp_path):
    net, message = OTHER_NETS[case]
    TorchClassifier(UserMLP, max_epochs=1).fit(X, Y).save(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"net.*{message}"):
        TorchClassifier.load(tmp_path / "model", net=net)


class Remembers(UserMLP):
    """Keeps a state where no file finds it."""

    seen = 0

    def forward(self, x):
        if self.training:
            self.seen += 1
        return super().forward(x) + self.seen


def test_a_state_outside_of_buffers_is_noticed(tmp_path):
    clf = TorchClassifier(Remembers, max_epochs=2).fit(X, Y)
    clf.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"computes something else.*register_buffer"):
        TorchClassifier.load(tmp_path / "model", net=Remembers)


def test_what_cannot_be_saved_says_so(tmp_path):
    with pytest.raises(NotFittedError):
        TorchClassifier().save(tmp_path / "model")
    clf = TorchClassifier(max_epochs=1).fit(X, Y)
    with pytest.raises(FileNotFoundError, match=r"no directory .*nowhere"):
        clf.save(tmp_path / "nowhere" / "model")
    with pytest.raises(ValueError, match=r"net was set to .*UserMLP.* since fit"):
        clf.set_params(net=UserMLP).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    clf = TorchClassifier(max_epochs=1).fit(X, Y)
    clf.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        clf.fit(X, Y).save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def foreign_files():
    clf = TorchClassifier(max_epochs=1, net__hidden_layer_sizes=2).fit(X, Y)
    joined, zipped = io.BytesIO(), io.BytesIO()
    joblib.dump(clf, joined)
    torch.save(clf.net_.state_dict(), zipped)
    return {
        "empty": (b"", r"is empty.*damaged"),
        "text": (b"hello, world, this is no model", r"damaged, or no file of save"),
        "pickle": (pickle.dumps(clf), r"a pickle: load it with joblib"),
        "joblib": (joined.getvalue(), r"a pickle: load it with joblib"),
        "torch": (zipped.getvalue(), r"a zip archive"),
        "weights": (safetensors.torch.save(clf.net_.state_dict()), r"no estimator has saved"),
    }


@pytest.mark.parametrize("case", ["empty", "text", "pickle", "joblib", "torch", "weights"])
def test_a_foreign_file_is_told_from_a_damaged_one(case, tmp_path):
    content, message = foreign_files()[case]
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(DamagedModelError, match=message):
        TorchClassifier.load(tmp_path / "model")


def test_a_missing_file_and_another_class_are_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        TorchClassifier.load(tmp_path / "model")
    TorchRegressor(max_epochs=1).fit(X, X[:, 0]).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"holds a TorchRegressor.*TorchRegressor\.load"):
        TorchClassifier.load(tmp_path / "model")


def small_model(path):
    clf = TorchClassifier(net__hidden_layer_sizes=3, max_epochs=2, random_state=0).fit(X, BINARY)
    clf.save(path)
    return clf, Path(path).read_bytes()


def harm_of(content, path, clf):
    """Return "error" where a file is refused, "same" where it predicts as before."""
    path.write_bytes(content)
    try:
        again = TorchClassifier.load(path)
    except ValueError:
        return "error"
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert np.array_equal(again.predict(X), clf.predict(X))
    return "same"


@pytest.mark.parametrize("seed", [0, 1])
def test_every_byte_that_changes_is_an_error_or_changes_nothing(seed, tmp_path):
    clf, content = small_model(tmp_path / "model")
    values = random.Random(seed)
    found = []
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8 if seed == 0 else values.randint(1, 255)
        found.append(harm_of(bytes(changed), tmp_path / "changed", clf))
    assert found.count("error") > 0.99 * len(found)


def test_a_file_that_was_cut_short_is_an_error(tmp_path):
    clf, content = small_model(tmp_path / "model")
    for length in (*range(0, len(content), 97), len(content) - 1):
        assert harm_of(content[:length], tmp_path / "cut", clf) == "error"
    assert harm_of(content + b"\0", tmp_path / "longer", clf) == "error"


def test_versions_are_told(tmp_path, monkeypatch):
    clf, _ = small_model(tmp_path / "model")
    monkeypatch.setattr(sktorch.persistence, "__version__", "0.0.1")
    clf.save(tmp_path / "older")
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"model was stored with sktorch 0\.0\.1 \(now 0\.1"):
        TorchClassifier.load(tmp_path / "older")
    monkeypatch.setattr(sktorch.modelfile, "_FORMAT", 2)
    clf.save(tmp_path / "later")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"format 2 by sktorch 0\.1.*reads format 1.*Install"):
        TorchClassifier.load(tmp_path / "later")


def test_loading_runs_no_code_of_the_file(tmp_path):
    clf = TorchClassifier(make_mlp, max_epochs=1, net__width=3).fit(X, Y)
    clf.save(tmp_path / "model")
    code = (
        "import sys; from sktorch import TorchClassifier\n"
        "try: TorchClassifier.load(sys.argv[1])\n"
        "except ValueError as error: assert 'make_mlp' in str(error), error\n"
        "assert 'nets' not in sys.modules\n"
    )
    path = [sys.executable, "-c", code, str(tmp_path / "model")]
    subprocess.run(path, check=True, cwd=Path(__file__).parent)


@pytest.mark.parametrize("way", ["load", "pickle"])
def test_what_is_read_in_inference_mode_can_be_trained_on(way, tmp_path):
    clf = TorchClassifier(max_epochs=1).fit(X, Y)
    clf.save(tmp_path / "model")
    stored = pickle.dumps(clf)
    with torch.inference_mode():
        again = (
            pickle.loads(stored) if way == "pickle" else TorchClassifier.load(tmp_path / "model")
        )
    assert again.partial_fit(X, Y).n_iter_ == 2
