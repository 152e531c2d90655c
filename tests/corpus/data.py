"""X, y and weights that are bad or odd."""

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
    fitted,
    holds,
    learns,
    regresses,
)

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
    lambda lib: lib.reg(max_epochs=2).fit(X[:1], R[:1]).predict(X[:1]).shape == (1,),
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


AT_PREDICT = {
    "fewer columns": (lambda m: m.predict(X[:, :3]), r"(?i)4 feature|features"),
    "a NaN": (lambda m: m.predict(with_value(np.nan)), r"(?i)nan"),
    "infinity": (lambda m: m.predict_proba(with_value(np.inf)), r"(?i)inf"),
    "one axis": (lambda m: m.predict(X[0]), r"(?i)2D|reshape|shape"),
    "no rows": (lambda m: m.predict(X[:0]), r"(?i)0 sample|sample"),
    "texts": (lambda m: m.predict(np.full((9, 4), "a")), r"(?i)string|convert|numeric"),
    "labels never seen": (lambda m: m.evaluate(X, Y + 1), r"(?i)labels|\[3\]"),
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

# y ----------------------------------------------------------------------------------------------

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
for name, y in LABELS.items():
    act = lambda lib, y=y: np.mean(lib.clf().fit(X, y).predict(X) == np.asarray(y))  # noqa: E731
    case("y", name, act, right=learns, error=HALVES if name in ("halves", "bytes") else None)
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
    case("y", name, fits(y=y), error=error)

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

# Weights ----------------------------------------------------------------------------------------

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
    fits(y=INDICATOR, class_weight="balanced"),
    error=r"class_weight",
)
case(
    "weights",
    "of validation, without it",
    lambda lib: lib.clf(class_weight=None).fit(X, Y, sample_weight_val=np.ones(90)),
    error=r"sample_weight_val.*X_val",
)
