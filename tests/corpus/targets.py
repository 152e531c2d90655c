"""Labels and values that are bad or odd."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

from corpus.case import (
    NAMES,
    RNG,
    B,
    R,
    X,
    Y,
    case,
    fits,
    holds,
    learns,
    regresses,
)

F = nn.functional

CONTINUOUS = R.copy()
LABELS = {
    "texts": NAMES[Y],
    "texts as objects": NAMES[Y].astype(object),
    "a pandas category": pd.Series(NAMES[Y], dtype="category"),
    "pandas texts": pd.Series(NAMES[Y], dtype="string"),
    "a Series with another index": pd.Series(Y, index=RNG.permutation(90) + 500),
    "-1 and 1": 2 * B - 1,
    "1 and 2": B + 1,
    "0 and 2": B * 2,
    "booleans": B.astype(bool),
    "-100, which torch would ignore": np.array([-100, 0, 1])[Y],
    "floats that are whole": Y.astype(float),
    "halves": Y / 2 + 1,
    "small unsigned integers": Y.astype(np.uint8),
    "large integers": Y + 10**12,
    "integers as objects": Y.astype(object),
    "lists": Y.tolist(),
    "tensor": torch.tensor(Y),
    "bytes": NAMES[Y].astype("S"),
    "a single sample of a class": np.r_[7, Y[1:]],
}
HALVES = r"(?i)continuous|label|class"


def accuracy(lib, y):
    """Return how many labels a classifier gives back."""
    return np.mean(lib.clf().fit(X, y).predict(X) == np.asarray(y))


for name, y in LABELS.items():
    error = HALVES if name in ("halves", "bytes") else None
    case("y", name, partial(accuracy, y=y), right=learns, error=error)
case(
    "y",
    "a single sample of a class, held out",
    lambda lib: lib.clf(early_stopping=True).fit(X, np.r_[7, Y[1:]]).score(X, Y),
    right=learns,
    error=r"(?i)least populated|class",
)

BAD_Y = {
    "a NaN": (np.r_[np.nan, Y[1:]], r"(?i)nan"),
    "None": (np.array([None, *NAMES[Y[1:]]], dtype=object), r"(?i)y|label|None|str"),
    "values that are continuous": (CONTINUOUS, r"(?i)continuous|class"),
    "one class": (np.zeros(90), r"(?i)class"),
    "texts and numbers": (np.array([1, "a", 2] * 30, dtype=object), r"(?i)mix|str|type|order"),
    "two columns": (np.c_[Y, Y], r"(?i)multioutput|shape|label|indicator|column"),
    "fewer than rows": (Y[:50], r"(?i)inconsistent|length|sizes|samples"),
    "nothing": (None, r"(?i)y|None|label|target"),
    "three axes": (np.zeros((90, 2, 2)), r"(?i)dim|shape|axes"),
    "masked": (np.ma.array(Y, mask=Y == 0), r"(?i)mask"),
    "a text": ("labels", r"(?i)shape|array|y|expected"),
    "lists of unequal length": ([[1], [1, 2]] * 45, r"(?i)inhomogeneous|shape|sequence|label"),
    "complex": (Y + 1j, r"(?i)complex"),
}
for name, (y, error) in BAD_Y.items():
    # Always the same prediction is right where there is one class.
    case("y", name, fits(y=y), right=learns if name == "one class" else None, error=error)

VALUES = {
    "a column": R[:, None],
    "integers": (R * 10).astype(int),
    "huge": R * 1e30,
    "tiny": R * 1e-30,
    "far from zero": R + 1e6,
    "a Series": pd.Series(R),
    "32 bits": R.astype(np.float32),
    "half precision": R.astype(np.float16),
    "booleans": B.astype(bool),
    "lists": R.tolist(),
    "numbers as objects": R.astype(object),
}
for name, y in VALUES.items():

    def act(lib, y=y):
        predicted = lib.reg(max_epochs=100, lr=0.02).fit(X, y).predict(X)
        wanted = np.asarray(y, dtype=float)
        if predicted.size != wanted.size or np.shape(predicted)[0] != len(wanted):
            return 0.0
        with np.errstate(all="ignore"):
            return np.corrcoef(np.ravel(predicted), wanted.ravel())[0, 1] ** 2

    case("y", f"values: {name}", act, right=lambda r2: r2 > (0.5 if r2 < 0.7 else 0.7))
BAD_VALUES = {
    "a NaN": (np.r_[np.nan, R[1:]], r"(?i)nan"),
    "infinity": (np.r_[np.inf, R[1:]], r"(?i)inf"),
    "texts": (NAMES[Y], r"(?i)string|convert|numeric"),
    "too large to square": (R * 1e300, r"(?i)large|overflow|finite|range|scale"),
    "too large for float32": (R * 1e300, r"(?i)large|overflow|finite|range|scale"),
    "masked": (np.ma.masked_less(R, 0), r"(?i)mask"),
    "complex": (R + 1j, r"(?i)complex"),
}
for name, (y, error) in BAD_VALUES.items():
    settings = {"net": lambda: nn.Linear(4, 1)} if "float32" in name else {}
    case("y", f"values: {name}", regresses(y=y, **settings), error=error)


def _constant(lib):
    predicted = lib.reg(max_epochs=200).fit(X, np.full(90, 7.0)).predict(X)
    return np.abs(predicted - 7).max() < 0.5


def _shape_of_targets(lib):
    """A net of shape (n, 1) and targets (n,): no broadcast to (n, n)."""
    flat = lib.reg(net=lambda: nn.Linear(4, 1), max_epochs=150).fit(X, R).score(X, R)
    column = lib.reg(net=lambda: nn.Linear(4, 1), max_epochs=150).fit(X, R[:, None])
    return min(flat, column.score(X, R[:, None]))


case("y", "values: always the same", _constant, right=holds)
case("y", "values: (n,) against (n, 1)", _shape_of_targets, right=learns)
case(
    "y",
    "values: two columns",
    lambda lib: lib.reg(max_epochs=150).fit(X, np.c_[R, -R]).predict(X).shape == (90, 2),
    right=holds,
)
INDICATOR = (X[:, :3] > 0).astype(int)
case(
    "y",
    "several labels a sample",
    lambda lib: np.mean(lib.clf().fit(X, INDICATOR).predict(X) == INDICATOR),
    right=learns,
)
case(
    "y",
    "a label that nobody has",
    lambda lib: np.mean(
        lib.clf().fit(X, np.c_[INDICATOR, np.zeros(90, int)]).predict(X)[:, 3] == 0
    ),
    right=learns,
)
case(
    "y",
    "several labels, sparse",
    lambda lib: np.mean(
        np.asarray(lib.clf().fit(X, sparse.csr_matrix(INDICATOR)).predict(X)) == INDICATOR
    ),
    right=learns,
)
case(
    "y",
    "one hot",
    lambda lib: np.mean(lib.clf().fit(X, np.eye(3, dtype=int)[Y]).predict(X).argmax(1) == Y),
    right=learns,
)
case("y", "a column of labels", fits(y=Y[:, None]), right=learns)
