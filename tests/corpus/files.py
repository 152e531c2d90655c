"""Files and interrupts."""

import io
import pickle
import tempfile
from contextlib import suppress
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


# Interrupts -------------------------------------------------------------------------------------


class Interrupts(nn.Module):
    """A loss that interrupts, as a module."""

    error = KeyboardInterrupt
    calls = 0

    def forward(self, y_pred, y_true):
        Interrupts.calls += 1
        if Interrupts.calls > 4:
            raise self.error("enough")
        return F.cross_entropy(y_pred, y_true)


class Fails(Interrupts):
    """A loss that fails."""

    error = ArithmeticError


class Exits(Interrupts):
    """A loss that ends the process."""

    error = SystemExit


def interrupted(loss, error):
    """Return an act that fits with a loss that interrupts, and says whether that came through."""

    def act(lib):
        Interrupts.calls = 0
        try:
            lib.clf(loss=loss).fit(*DATA)
        except error:
            return True
        return False

    return act


def _after_a_failed_refit(lib):
    """The model before is whole after a refit that fails."""
    model = lib.clf(max_epochs=5).fit(*DATA)
    before = model.predict_proba(DATA[0])
    Interrupts.calls = 0
    if lib.name == "MLPClassifier":
        raise NotApplicable("a loss")
    model.set_params(**{"loss" if lib.name == "sktorch" else "criterion": Interrupts})
    with suppress(KeyboardInterrupt):
        model.fit(DATA[0][:, :2], 1 - Y % 2)
    return np.array_equal(model.predict_proba(DATA[0]), before)


def _after_a_failed_first_fit(lib):
    """An estimator whose first fit failed does not predict."""
    model = lib.clf(loss=Fails)
    Interrupts.calls = 0
    with suppress(ArithmeticError):
        model.fit(*DATA)
    return model.predict(DATA[0])


def _after_a_refit_on_bad_data(lib):
    model = lib.clf(max_epochs=5).fit(*DATA)
    before = model.predict_proba(DATA[0])
    with suppress(ValueError, RuntimeError):
        model.fit(np.where(DATA[0] > 2, np.nan, DATA[0])[:, :3], Y)
    return np.array_equal(model.predict_proba(DATA[0]), before)


def _unseen_class(lib):
    model = lib.clf()
    model.partial_fit(*DATA, **({} if lib.name == "skorch" else {"classes": [0, 1, 2]}))
    return model.partial_fit(DATA[0], Y + 1).predict(DATA[0])


def _warm_start_with_other_classes(lib):
    model = lib.clf(warm_start=True, max_epochs=3).fit(*DATA)
    return model.fit(DATA[0], Y + 5)


def _resumed(lib):
    from sktorch.callbacks import Checkpoint

    if lib.name != "sktorch":
        raise NotApplicable("Checkpoint")
    path = folder()
    settings = {"max_epochs": 6, "batch_size": 20}
    whole = lib.clf(**settings).fit(*DATA).predict_proba(DATA[0])
    lib.clf(**{**settings, "max_epochs": 3}, callbacks=[Checkpoint(path)]).fit(*DATA)
    return np.array_equal(
        lib.clf(**settings).fit(*DATA, resume_from=path).predict_proba(DATA[0]), whole
    )


def _resumed_otherwise(change):
    def act(lib):
        from sktorch.callbacks import Checkpoint

        if lib.name != "sktorch":
            raise NotApplicable("Checkpoint")
        path = folder()
        lib.clf(max_epochs=3, callbacks=[Checkpoint(path)]).fit(*DATA)
        settings, data = change(path)
        return lib.clf(**settings).fit(*data, resume_from=path)

    return act


def remove(path):
    """Remove every checkpoint."""
    for file in path.iterdir():
        file.unlink()
    return {}, DATA


def spoil(path):
    """Damage every checkpoint."""
    for file in path.iterdir():
        flip(file, len(file.read_bytes()) // 2)
    return {}, DATA


case("interrupts", "Ctrl-C", interrupted(Interrupts, KeyboardInterrupt), right=holds)
case("interrupts", "the end of the process", interrupted(Exits, SystemExit), right=holds)
case("interrupts", "an error of a loss", interrupted(Fails, ArithmeticError), right=holds)
case("interrupts", "a refit by Ctrl-C", _after_a_failed_refit, right=holds)
case(
    "interrupts", "a first fit that failed", _after_a_failed_first_fit, error=r"(?i)not fitted|fit"
)
case("interrupts", "a refit on bad data", _after_a_refit_on_bad_data, right=holds)
case(
    "interrupts",
    "partial_fit with a class never seen",
    _unseen_class,
    error=r"(?i)class|label|target",
)
case(
    "interrupts",
    "warm start with other classes",
    _warm_start_with_other_classes,
    error=r"(?i)warm_start|class",
)
case("interrupts", "a fit resumed", _resumed, right=holds)
case(
    "interrupts",
    "resumed with another lr",
    _resumed_otherwise(lambda path: ({"lr": 0.5}, DATA)),
    error=r"lr was",
)
case(
    "interrupts",
    "resumed on other data",
    _resumed_otherwise(lambda path: ({}, (DATA[0] + 1, Y))),
    error=r"X differs",
)
case("interrupts", "resumed from nowhere", _resumed_otherwise(remove), error=r"no checkpoint")
case("interrupts", "resumed from damaged files", _resumed_otherwise(spoil), error=r"damaged")
