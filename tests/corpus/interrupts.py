"""Fits that are interrupted, fail, or go on from others, and what stands afterwards."""

import warnings
from contextlib import suppress

import numpy as np
import torch
from torch import nn

from corpus.case import X, Y, case, fits, fitted, holds, learns
from corpus.files import DATA, flip, folder
from corpus.libraries import NotApplicable

F = nn.functional

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


# Validation data --------------------------------------------------------------------------------


def validated(X_val, y_val, **more):
    """Return an act that fits with validation data, where a library takes it so."""

    def act(lib):
        if lib.name != "sktorch":
            raise NotApplicable("X_val")
        return lib.clf(max_epochs=3).fit(X, Y, X_val=X_val, y_val=y_val, **more).score(X, Y)

    return act


BAD_VALIDATION = {
    "a NaN": (np.where(X > 2, np.nan, X), Y, r"X_val.*NaN"),
    "another width": (X[:, :3], Y, r"X_val.*features"),
    "labels never seen": (X, Y + 1, r"y_val.*\[3\]"),
    "of another length": (X, Y[:50], r"X_val.*inconsistent"),
    "no labels": (X, None, r"X_val .*y_val"),
    "no X": (None, Y, r"y_val .*X_val"),
    "an axis too many": (X[:, None], Y, r"X_val"),
    "texts": (np.full((90, 4), "a"), Y, r"X_val"),
    "no rows": (X[:0], Y[:0], r"X_val.*0 sample"),
}
for name, (X_val, y_val, error) in BAD_VALIDATION.items():
    case("validation", name, validated(X_val, y_val), error=error)
case(
    "validation",
    "negative weights",
    validated(X, Y, sample_weight_val=-np.ones(90)),
    error=r"X_val.*[Nn]egative",
)
case(
    "validation",
    "one row",
    lambda lib: (
        fits(early_stopping=True)(lib)
        if lib.name != "sktorch"
        else lib.clf().fit(X, Y, X_val=X[:1], y_val=Y[:1]).score(X, Y)
    ),
    right=learns,
)
case(
    "validation",
    "of three rows",
    lambda lib: lib.clf(early_stopping=True).fit(X[:3], [0, 1, 1]).predict(X[:3]).shape == (3,),
    right=holds,
    error=r"(?i)class|sample|train",
)


# Between fits -----------------------------------------------------------------------------------


def _bad_parameters_after_fit(lib):
    """What is set after a fit does not change the model."""
    model = lib.clf(max_epochs=5).fit(*DATA)
    before = model.predict_proba(DATA[0])
    key = {"sktorch": "lr", "skorch": "lr", "MLPClassifier": "learning_rate_init"}[lib.name]
    vars(model)[key] = -1
    return np.array_equal(model.predict_proba(DATA[0]), before)


def _failed_part(lib):
    """A part that fails leaves the model of the parts before."""
    model = lib.clf()
    model.partial_fit(*DATA, **({} if lib.name == "skorch" else {"classes": [0, 1, 2]}))
    before = model.predict_proba(DATA[0])
    with suppress(ValueError, RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.partial_fit(np.where(DATA[0] > 2, np.nan, DATA[0]), Y)
    return np.array_equal(model.predict_proba(DATA[0]), before)


def _first_part(**arguments):
    def act(lib):
        if lib.name == "skorch":
            raise NotApplicable("classes")
        return lib.clf().partial_fit(*DATA, **arguments)

    return act


def _other_columns(lib):
    model = fitted(lib, max_epochs=2)
    return model.partial_fit(X[:, :3], Y)


def _seeded(lib):
    """The same seed gives the same bits, whatever was drawn before."""
    first = lib.clf(max_epochs=5, batch_size=20, random_state=3).fit(*DATA).predict_proba(DATA[0])
    np.random.seed(5)
    again = lib.clf(max_epochs=5, batch_size=20, random_state=3).fit(*DATA).predict_proba(DATA[0])
    return np.array_equal(first, again)


def _leaves_random_numbers(lib):
    """A fit draws from no generator of the process."""
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    lib.clf(random_state=3).fit(*DATA)
    return np.array_equal(np.random.get_state()[1], before)


def _in_inference_mode(lib):
    """Parts and warm starts train where the caller has turned gradients off for good."""
    if not hasattr(lib.clf(), "partial_fit"):
        raise NotApplicable("partial_fit")
    model = lib.clf(max_epochs=20)
    with torch.inference_mode():
        model.fit(*DATA)
        for _ in range(20):
            model.partial_fit(*DATA)
        return model.score(*DATA)


def _warm_in_inference_mode(lib):
    model = lib.clf(max_epochs=20, warm_start=True)
    with torch.inference_mode():
        return model.fit(*DATA).fit(*DATA).score(*DATA)


def _changed_net(lib):
    if lib.name != "sktorch":
        raise NotApplicable("a net by name")
    model = lib.clf(warm_start=True, max_epochs=2).fit(*DATA)
    return model.set_params(net__hidden_layer_sizes=7).fit(*DATA)


def callback_that(error, hook):
    """Return an act with a callback of the library's own that raises."""

    def act(lib):
        if lib.name == "MLPClassifier":
            raise NotApplicable("callbacks")
        if lib.name == "skorch":
            from skorch.callbacks import Callback
        else:
            from sktorch.callbacks import Callback

        def fail(self, *args, **kwargs):
            raise error

        model = lib.clf(max_epochs=5).fit(*DATA)
        before = model.predict_proba(DATA[0])
        with suppress(ValueError):
            model.set_params(callbacks=[type("Raises", (Callback,), {hook: fail})()])
            try:
                model.fit(DATA[0], (Y + 1) % 3)
            except type(error):
                return np.array_equal(model.predict_proba(DATA[0]), before)
        return False

    return act


case("between fits", "bad parameters after a fit", _bad_parameters_after_fit, right=holds)
case("between fits", "a part with a NaN", _failed_part, right=holds)
case("between fits", "a first part without classes", _first_part(), error=r"(?i)classes")
case(
    "between fits",
    "a first part with other classes",
    _first_part(classes=[5, 6]),
    error=r"(?i)classes|labels",
)
case("between fits", "a part with other columns", _other_columns, error=r"(?i)4 features|features")
case("between fits", "a seed", _seeded, right=holds)
case("between fits", "generators of the process", _leaves_random_numbers, right=holds)
case("between fits", "a warm start with another net", _changed_net, error=r"warm_start")
case(
    "between fits",
    "a callback that fails",
    callback_that(ArithmeticError("enough"), "on_epoch_end"),
    right=holds,
)
case(
    "between fits",
    "a callback that interrupts",
    callback_that(KeyboardInterrupt(), "on_epoch_end"),
    right=holds,
)
case("between fits", "parts in inference mode", _in_inference_mode, right=learns)
case("between fits", "a warm start in inference mode", _warm_in_inference_mode, right=learns)
