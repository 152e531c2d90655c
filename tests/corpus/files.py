"""Files and interrupts."""

import io
import pickle
import tempfile
from pathlib import Path

import joblib
import numpy as np
import torch
from torch import nn

from corpus.case import X, Y, case, fitted, holds
from corpus.libraries import NotApplicable

F = nn.functional
DATA = X.astype(np.float32), Y


def folder():
    """Return a directory of its own."""
    return Path(tempfile.mkdtemp())


def saved(lib):
    """Return a fitted model and the file it was saved to."""
    model, path = fitted(lib, max_epochs=2), folder() / "model"
    if not hasattr(model, "save"):
        raise NotApplicable("save")
    model.save(path)
    return model, path


def after(change):
    """Return an act that loads a file after ``change(path)``."""

    def act(lib):
        model, path = saved(lib)
        change(path)
        return type(model).load(path)

    return act


def flip(path, place=-9):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def pickled(lib, place):
    """Return what a pickle with one bit changed predicts, as far as it can be read."""
    model = fitted(lib, max_epochs=2)
    content = bytearray(pickle.dumps(model))
    weights = weights_of(model)
    content[content.index(weights[:40]) + place] ^= 64
    changed = pickle.loads(bytes(content))
    return np.array_equal(changed.predict_proba(X), model.predict_proba(X))


def weights_of(model):
    """Return the bytes of the first weights of a model of any library."""
    if hasattr(model, "coefs_"):
        return model.coefs_[0].tobytes()
    net = getattr(model, "net_", None) or model.module_
    return next(net.parameters()).detach().numpy().tobytes()


CHANGES = {
    "a bit of the weights": lambda path: flip(path),
    "a bit of the description": lambda path: flip(path, 300),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "something appended": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "a text": lambda path: path.write_text("net = Linear(4, 3)"),
}
for name, change in CHANGES.items():
    case("files", name, after(change), error=r"(?i)damaged|checksum")
case("files", "missing", after(lambda path: path.unlink()), error=r"(?i)no such file")
case("files", "a bit of a pickle", lambda lib: pickled(lib, 16), error=r"(?i)damaged|checksum")


def _other_class(lib):
    _, path = saved(lib)
    return type(lib.reg()).load(path)


def _round_trip(lib):
    model, path = saved(lib)
    return np.array_equal(type(model).load(path).predict_proba(X), model.predict_proba(X))


def _joblib(lib):
    model, file = fitted(lib, max_epochs=2), io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return np.array_equal(joblib.load(file).predict_proba(X), model.predict_proba(X))


def _users_net(load_with):
    def act(lib):
        model, path = lib.clf(net=Narrow, max_epochs=1).fit(*DATA), folder() / "model"
        if not hasattr(model, "save"):
            raise NotApplicable("save")
        model.save(path)
        return type(model).load(path, **({} if load_with is None else {"net": load_with}))

    return act


class Narrow(nn.Linear):
    """A user's net."""

    def __init__(self):
        super().__init__(4, 3)


class Bent(Narrow):
    """The same parameters, and another function."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


case("files", "of another estimator", _other_class, error=r"(?i)TorchClassifier")
case("files", "as it was written", _round_trip, right=holds)
case("files", "of joblib", _joblib, right=holds)
case("files", "of a net whose code is not there", _users_net(None), error=r"(?i)net.*Narrow.*pass")
case("files", "with another net", _users_net(nn.Identity), error=r"(?i)net.*parameters")
case(
    "files",
    "with a net that computes something else",
    _users_net(Bent),
    error=r"(?i)something else",
)
