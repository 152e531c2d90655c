"""What is stored loads anywhere, predicts the same, and tells of damage."""

import copy
import io
import pickle
import struct
import subprocess
import sys

import joblib
import numpy as np
import pytest
import skops.io
import torch
from nets import DroppingMLP, UserCNN, UserMLP, make_mlp
from sklearn.base import clone
from torch import nn
from torch.nn.utils import parametrizations

from sktorch import TorchClassifier, TorchRegressor
from sktorch.exceptions import DamagedModelError


class LastOutput(nn.Module):
    """A recurrent net: its layer keeps flat copies of its weights beside its parameters."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.lstm(x.reshape(len(x), 6, 5))[0][:, -1])


class Tied(nn.Module):
    """One parameter in two places, a buffer, and a tensor that is neither."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(30, 30)
        self.decode = nn.Linear(30, 30)
        self.decode.weight = self.encode.weight
        self.register_buffer("shift", torch.arange(30.0) / 100)
        self.mask = torch.ones(30)
        self.head = nn.Linear(30, 2)

    def forward(self, x):
        return self.head(self.decode(torch.relu(self.encode(x * self.mask + self.shift))))


def spectral():
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(30, 8)), nn.ReLU(), nn.Linear(8, 2)
    )


def orthogonal():
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(30, 8)), nn.ReLU(), nn.Linear(8, 2))


NETS = {
    "mlp": "mlp",
    "class": UserMLP,
    "factory": make_mlp,
    "instance": UserMLP(30, 2),
    "dropout": DroppingMLP,
    "lstm": LastOutput(),
    "tied": Tied(),
    "bfloat16": UserMLP(30, 2).to(torch.bfloat16),
    "weight norm": nn.Sequential(
        parametrizations.weight_norm(nn.Linear(30, 8)), nn.ReLU(), nn.Linear(8, 2)
    ),
    "spectral norm": spectral,
    "orthogonal": orthogonal,
}


def by_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def by_skops(estimator):
    stored = skops.io.dumps(estimator)
    return skops.io.loads(stored, trusted=skops.io.get_untrusted_types(data=stored))


WAYS = {
    "pickle": lambda e: pickle.loads(pickle.dumps(e)),
    "joblib": by_joblib,
    "deepcopy": copy.deepcopy,
    "skops": by_skops,
}


# Skops stores no Enum, and that parametrization of torch holds one.
ROUND_TRIPS = [(net, way) for net in NETS for way in WAYS if (net, way) != ("orthogonal", "skops")]


@pytest.mark.parametrize(("net", "way"), ROUND_TRIPS)
def test_a_round_trip_predicts_the_same_and_trains_on(net, way, breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(NETS[net], max_epochs=2, random_state=0).fit(X, y)
    again = WAYS[way](clf)
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert again.history_.equals(clf.history_)
    assert [*again.net_.state_dict()] == [*clf.net_.state_dict()]
    refit = clone(again).fit(X, y)
    assert np.array_equal(refit.predict_proba(X), clf.predict_proba(X))
    for estimator in (clf, again):
        estimator.partial_fit(X, y)
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_tied_parameters_stay_tied(breast_cancer):
    clf = by_joblib(TorchClassifier(Tied(), max_epochs=1).fit(*breast_cancer))
    assert clf.net_.decode.weight is clf.net_.encode.weight


def test_an_unfitted_estimator_round_trips(breast_cancer):
    clf = by_joblib(TorchClassifier(UserMLP(30, 2), max_epochs=1, random_state=0))
    assert clf.fit(*breast_cancer).score(*breast_cancer) > 0


def test_a_read_only_map_of_the_file_serves(breast_cancer, tmp_path):
    X, y = breast_cancer
    clf = TorchClassifier(max_epochs=2).fit(X, y)
    joblib.dump(clf, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert np.array_equal(mapped.predict_proba(X), clf.predict_proba(X))
    mapped.partial_fit(X, y)


def test_the_training_data_is_not_stored(breast_cancer):
    X, y = breast_cancer
    few = len(pickle.dumps(TorchClassifier(max_epochs=1).fit(X[:50], y[:50])))
    many = len(pickle.dumps(TorchClassifier(max_epochs=1).fit(np.tile(X, (20, 1)), np.tile(y, 20))))
    assert abs(many - few) < 1000


def test_what_is_stored_is_arrays_of_the_cpu(breast_cancer):
    clf = TorchClassifier(UserMLP, max_epochs=1).fit(*breast_cancer)
    stored = pickle.dumps(clf)
    assert b"torch.storage" not in stored
    assert b"_rebuild_tensor" not in stored


def test_a_changed_bit_of_the_weights_is_noticed(breast_cancer):
    clf = TorchClassifier(max_epochs=1).fit(*breast_cancer)
    stored = bytearray(pickle.dumps(clf))
    weights = clf.net_[0].weight.detach().numpy().tobytes()
    stored[stored.index(weights[:64]) + 20] ^= 1
    with pytest.raises(DamagedModelError, match=r"damaged.*checksum"):
        pickle.loads(bytes(stored))


@pytest.mark.parametrize("part", ["history", "an attribute of a layer", "a class label"])
def test_a_change_of_anything_else_is_noticed(part, breast_cancer):
    X, y = breast_cancer
    net = nn.Sequential(nn.Linear(30, 8), nn.LeakyReLU(0.0123), nn.Linear(8, 2))
    clf = TorchClassifier(net, max_epochs=1).fit(X, np.array(["benign", "malign"])[y])
    written = {
        "history": struct.pack(">d", clf.history_["train_loss"].iloc[0]),
        "an attribute of a layer": struct.pack(">d", 0.0123),
        "a class label": "benign".encode("utf-32-le"),
    }
    changed = bytearray(pickle.dumps(clf))
    changed[changed.rindex(written[part]) + 4] ^= 1
    with pytest.raises(DamagedModelError, match=r"damaged.*checksum"):
        pickle.loads(bytes(changed))


def test_another_version_is_told_of(breast_cancer, monkeypatch):
    import sktorch.persistence

    clf = TorchClassifier(max_epochs=1).fit(*breast_cancer)
    monkeypatch.setattr(sktorch.persistence, "__version__", "0.0.1")
    stored = pickle.dumps(clf)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=rf"sktorch 0\.0\.1 \(now {sktorch.__version__}\)"):
        pickle.loads(stored)


def test_a_model_loads_in_a_new_process(digits, tmp_path):
    X, y = digits[0].reshape(-1, 1, 8, 8), digits[1]
    clf = TorchClassifier(UserCNN, max_epochs=1, random_state=0).fit(X, y)
    joblib.dump((clf, X, clf.predict(X)), tmp_path / "model.joblib")
    code = (
        "import joblib, numpy, sys; clf, X, y = joblib.load(sys.argv[1]);"
        "assert numpy.array_equal(clf.predict(X), y)"
    )
    path = [sys.executable, "-c", code, str(tmp_path / "model.joblib")]
    subprocess.run(path, check=True, cwd=str(__import__("pathlib").Path(__file__).parent))


def test_a_regressor_keeps_its_units(diabetes):
    X, y = diabetes
    reg = TorchRegressor(max_epochs=3).fit(X, y)
    assert np.array_equal(by_joblib(reg).predict(X), reg.predict(X))


def test_a_model_of_an_accelerator_trains_on_without_it(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(DroppingMLP, max_epochs=1, random_state=0).fit(X, y)
    # A device has a generator of its own, whose state is stored too.
    clf._progress["dropout"] = [*clf._progress["dropout"], torch.zeros(16, dtype=torch.uint8)]
    assert by_joblib(clf).partial_fit(X, y).n_iter_ == 2
