"""X that is bad or odd, in fit and in predict."""

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

from corpus.case import (
    B,
    R,
    X,
    Y,
    case,
    fits,
    fitted,
    holds,
    learns,
)
from corpus.libraries import NotApplicable

F = nn.functional

# X ----------------------------------------------------------------------------------------------


def with_value(value, dtype=float):
    """Return X with one value replaced."""
    bad = X.astype(dtype)
    bad[3, 2] = value
    return bad


def ragged():
    """Return rows of unequal length."""
    return [list(row) for row in X[:-1]] + [[1.0]]


FRAME = pd.DataFrame(X, columns=list("abcd"))
BAD_X = {
    "a NaN": (with_value(np.nan), r"(?i)nan"),
    "infinity": (with_value(np.inf), r"(?i)inf"),
    "minus infinity": (with_value(-np.inf), r"(?i)inf"),
    "NaN in float32": (with_value(np.nan, np.float32), r"(?i)nan"),
    "a pandas NA": (FRAME.astype("Float64").mask(FRAME > 2), r"(?i)nan|NA"),
    "texts": (np.full((90, 4), "a"), r"(?i)string|numeric|convert"),
    "a column of texts": (FRAME.assign(e="red"), r"(?i)string|convert"),
    "dates": (np.full((90, 4), np.datetime64("2024-01-01")), r"(?i)date|numeric|dtype"),
    "complex numbers": (X + 1j, r"(?i)complex"),
    "masked values": (np.ma.masked_less(X, 0), r"(?i)mask"),
    "one axis": (X[:, 0], r"(?i)2D|shape|reshape"),
    "a number": (np.float64(3), r"(?i)array|samples|scalar|0"),
    "nothing": (None, r"(?i)X|None"),
    "no rows": (X[:0], r"(?i)0 sample|sample|rows"),
    "no columns": (X[:, :0], r"(?i)0 feature|feature|column"),
    "an axis too many": (X.reshape(90, 2, 2), r"(?i)2D|shape|dim"),
    "rows of unequal length": (ragged(), r"(?i)inhomogeneous|length|shape"),
    "sparse with a NaN": (sparse.csr_matrix(with_value(np.nan)), r"(?i)nan|sparse"),
    "a set": ({1, 2, 3}, r"(?i)set|array|float"),
    "a tensor of no device": (torch.zeros(90, 4, device="meta"), r"(?i)meta"),
    "objects": (np.full((90, 4), object()), r"(?i)float|object|numeric"),
}
for name, (bad, error) in BAD_X.items():
    y = np.zeros(0, int) if name == "no rows" else Y
    case("X", name, fits(X=bad, y=y), error=error)


case("X", "a matrix", lambda lib: lib.clf().fit(np.asmatrix(X), Y), error=r"(?i)matrix")


def same_as_plain(odd, plain=X):
    """Return an act that compares predictions after fits on two forms of the same numbers."""

    def act(lib):
        settings = {"max_epochs": 5}
        a = lib.clf(**settings).fit(plain, Y).predict_proba(plain)
        b = lib.clf(**settings).fit(odd, Y).predict_proba(odd)
        return np.allclose(a, b, rtol=1e-5, atol=1e-6)

    return act


def read_only():
    """Return X, which nobody may write to."""
    frozen = X.copy()
    frozen.setflags(write=False)
    return frozen


GOOD_X = {
    "lists": X.tolist(),
    "a DataFrame": FRAME,
    "read-only memory": read_only(),
    "columns first": np.asfortranarray(X),
    "every second row of an array": np.repeat(X, 2, axis=0)[::2],
    "reversed strides": X[::-1][::-1],
    "the other byte order": X.astype(">f8"),
    "objects that are numbers": X.astype(object),
    "a masked array without a mask": np.ma.array(X),
    "a sparse matrix": sparse.csr_matrix(X),
    "a sparse array by columns": sparse.csc_array(X),
    "a sparse matrix by coordinates": sparse.coo_matrix(X),
    "a tensor": torch.tensor(X),
    "nullable columns": FRAME.astype("Float64"),
}
for name, odd in GOOD_X.items():
    case("X", name, same_as_plain(odd), right=holds)
WHOLE = (X * 10).round()
INTEGERS = {
    "integers": np.int64,
    "small integers": np.int8,
    "half precision": np.float16,
    "long doubles": np.longdouble,
    "32 bits": np.float32,
}
for name, dtype in INTEGERS.items():
    case("X", name, fits(X=WHOLE.astype(dtype), max_epochs=60), right=learns)
case("X", "booleans", fits(X=X > 0, y=B), right=learns)
case(
    "X",
    "bytes of an image",
    fits(
        X=(X * 30 + 120).astype(np.uint8),
        y=B,
        net=lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)),
    ),
    right=learns,
)
case("X", "a tensor with a gradient", fits(X=torch.tensor(X, requires_grad=True)), right=learns)
case(
    "X",
    "all zero",
    lambda lib: np.isfinite(lib.clf().fit(X * 0, Y).predict_proba(X * 0)).all(),
    right=holds,
)
case(
    "X",
    "one row",
    lambda lib: lib.reg(max_epochs=2).fit(X[:1], R[:1]).predict(X[:1]).size == 1,
    right=holds,
    error=r"(?i)sample|row",
)
case(
    "X",
    "too large for float32",
    fits(X=with_value(1e300), net=lambda: nn.Linear(4, 3)),
    error=r"(?i)float32|large|infinity",
)
case(
    "X",
    "as large as a double can be",
    fits(X=with_value(1e308)),
    right=learns,
    error=r"(?i)large|infinit|finite|range|diverge",
)
case("X", "large, and X is left as it was", lambda lib: _unchanged(lib), right=holds)
case("X", "rows given twice to one fit", fits(X=np.tile(X, (9, 1)), y=np.tile(Y, 9)), right=learns)


def _unchanged(lib):
    before = X.copy()
    fitted(lib).predict(X)
    return np.array_equal(before, X)


def _evaluate(model, X, y):
    if not hasattr(model, "evaluate"):
        raise NotApplicable("evaluate")
    return model.evaluate(X, y)


AT_PREDICT = {
    "fewer columns": (lambda m: m.predict(X[:, :3]), r"(?i)4 feature|features"),
    "a NaN": (lambda m: m.predict(with_value(np.nan)), r"(?i)nan"),
    "infinity": (lambda m: m.predict_proba(with_value(np.inf)), r"(?i)inf"),
    "one axis": (lambda m: m.predict(X[0]), r"(?i)2D|reshape|shape"),
    "no rows": (lambda m: m.predict(X[:0]), r"(?i)0 sample|sample"),
    "texts": (lambda m: m.predict(np.full((9, 4), "a")), r"(?i)string|convert|numeric"),
    "labels never seen": (lambda m: _evaluate(m, X, Y + 1), r"(?i)labels|\[3\]"),
    "labels of another length": (lambda m: _evaluate(m, X, Y[:50]), r"(?i)inconsistent"),
    "masked values": (lambda m: m.predict(np.ma.masked_less(X, 0)), r"(?i)mask"),
    "too large for float32": (lambda m: m.predict(with_value(1e300)), r"(?i)float32|large"),
}
for name, (ask, error) in AT_PREDICT.items():
    settings = {"net": lambda: nn.Linear(4, 3)} if "float32" in name else {}
    case("predict", name, lambda lib, ask=ask, s=settings: ask(fitted(lib, **s)), error=error)


def _one_by_one(lib):
    model = fitted(lib, max_epochs=3)
    singly = np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(20)])
    return np.allclose(singly, model.predict_proba(X[:20]), atol=1e-6)


case("predict", "before fit", lambda lib: lib.clf().predict(X), error=r"(?i)not fitted|fit|init")
case(
    "predict",
    "columns in another order",
    lambda lib: lib.clf().fit(FRAME, Y).predict(FRAME[list("dcba")]),
    error=r"(?i)feature names|order",
)
case(
    "predict",
    "a column of another name",
    lambda lib: lib.clf().fit(FRAME, Y).predict(FRAME.rename(columns={"a": "z"})),
    error=r"(?i)feature names",
)
case(
    "predict",
    "as large as a double can be",
    lambda lib: np.mean(fitted(lib).predict(X * 1e305) == Y),
    right=lambda share: share > 0.7,
    error=r"(?i)nan|large|infinit|range",
)
case("predict", "one row at a time", _one_by_one, right=holds)
case(
    "predict",
    "probabilities sum to one",
    lambda lib: np.allclose(fitted(lib).predict_proba(X * 1e3).sum(1), 1),
    right=holds,
)
case(
    "predict",
    "extreme values give no NaN",
    lambda lib: np.isfinite(fitted(lib).predict_proba(X * 1e30)).all(),
    right=holds,
    error=r"(?i)large|range|finite",
)
case(
    "predict",
    "of margins no probabilities",
    lambda lib: fitted(lib, loss="hinge").predict_proba(X),
    error=r"(?i)margins|probabilit",
)
