"""Weights that are bad or odd."""

import numpy as np
import pandas as pd
from torch import nn

from corpus.case import (
    NAMES,
    X,
    Y,
    case,
    fits,
    holds,
    learns,
)

F = nn.functional

BAD_WEIGHTS = {
    "negative": (-np.ones(90), r"(?i)negative"),
    "one negative": (np.r_[-1.0, np.ones(89)], r"(?i)negative"),
    "all zero": (np.zeros(90), r"(?i)zero"),
    "a NaN": (np.r_[np.nan, np.ones(89)], r"(?i)nan"),
    "infinity": (np.r_[np.inf, np.ones(89)], r"(?i)inf"),
    "too few": (np.ones(3), r"(?i)sample_weight|length|shape"),
    "two axes": (np.ones((90, 2)), r"(?i)1D|sample_weight|shape|dim"),
    "texts": (NAMES[Y], r"(?i)string|convert|numeric|weight"),
}
for name, (weight, error) in BAD_WEIGHTS.items():
    case("weights", name, fits(weight=weight), error=error)
SCALES = {"all 1e-300": 1e-300, "all 1e300": 1e300, "all 3": 3.0}
for name, scale in SCALES.items():

    def act(lib, scale=scale):
        plain = lib.clf(max_epochs=5).fit(X, Y, np.ones(90)).predict_proba(X)
        return np.allclose(
            lib.clf(max_epochs=5).fit(X, Y, np.full(90, scale)).predict_proba(X), plain
        )

    case("weights", name, act, right=holds)


def _copies(lib):
    """A weight of k is a row given k times, in one batch."""
    k = np.arange(90) % 3
    settings = {"max_epochs": 5, "batch_size": 500}
    weighted = lib.clf(**settings).fit(X, Y, k.astype(float)).predict_proba(X)
    copied = lib.clf(**settings).fit(np.repeat(X, k, axis=0), np.repeat(Y, k)).predict_proba(X)
    return np.allclose(weighted, copied, rtol=1e-6)


def _class_without_weight(lib):
    """A class whose rows all weigh nothing."""
    return lib.clf().fit(X, Y, (Y > 0).astype(float)).score(X[Y > 0], Y[Y > 0])


case("weights", "k for k copies", _copies, right=holds)
case("weights", "none for a class", _class_without_weight, right=learns)
case("weights", "a list", fits(weight=[1.0] * 90), right=learns)
case("weights", "a Series", fits(weight=pd.Series(np.ones(90), index=range(5, 95))), right=learns)
case(
    "weights",
    "very unequal",
    lambda lib: np.isfinite(
        lib.clf(batch_size=10).fit(X, Y, np.r_[np.full(60, 1e-200), np.ones(30)]).predict_proba(X)
    ).all(),
    right=holds,
)
case(
    "weights",
    "of a class that is not in these rows",
    fits(class_weight={0: 1, 1: 1, 2: 1, 9: 1}),
    right=learns,
)
case(
    "weights", "of a class, negative", fits(class_weight={0: -1, 1: 1, 2: 1}), error=r"class_weight"
)
case(
    "weights", "of a class, NaN", fits(class_weight={0: np.nan, 1: 1, 2: 1}), error=r"class_weight"
)
case("weights", "of classes by a word", fits(class_weight="heavy"), error=r"class_weight.*heavy")
case("weights", "of classes by a list", fits(class_weight=[1, 2, 3]), error=r"class_weight")
case(
    "weights",
    "of classes, for several labels",
    fits(y=(X[:, :3] > 0).astype(int), class_weight="balanced"),
    error=r"class_weight",
)
case(
    "weights",
    "of validation, without it",
    lambda lib: lib.clf(class_weight=None).fit(X, Y, sample_weight_val=np.ones(90)),
    error=r"sample_weight_val.*X_val",
)
