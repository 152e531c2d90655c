"""What a user may pass as X, y and weights, and what each is told when it does not fit."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    validate_data,
)
from torch.utils.data import DataLoader, IterableDataset

from sktorch.data.collate import to_array
from sktorch.data.datasets import DatasetSlice, is_dataset, plain
from sktorch.data.inputs import Arrays, Samples, Stream
from sktorch.data.lazy import LazyRows, is_lazy
from sktorch.fields import leaves
from sktorch.finite import all_finite
from sktorch.specs import describe

__all__ = ["Rows", "check_X", "check_rows", "tried_on"]

# Samples of a pass over data that comes in an order of its own.
_PASS_ROWS = 512


@dataclass(frozen=True)
class Rows:
    """Samples side by side: what one fit, or one evaluation, is given.

    Parameters
    ----------
    X : Arrays, Samples or Stream
        See ``sktorch.data.inputs``.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Where ``X.carries_y``, what is known of y, in no particular order.
    weight : ndarray of shape (n_samples,) or None
        None stands for equal weights.
    encode : callable, optional
        ``(y, weight) -> (y, weight)``: what is done to y that is read together with X.
    """

    X: Arrays | Samples | Stream
    y: np.ndarray
    weight: np.ndarray | None = None
    encode: Callable | None = None

    def __len__(self):
        return len(self.X)

    def take(self, index):
        """Return the rows of ``index``, an integer array."""
        if self.X.carries_y:
            return Rows(self.X.take(index), self.y, None, self.encode)
        weight = None if self.weight is None else self.weight[index]
        return Rows(self.X.take(index), self.y[index], weight)

    def read(self, rows):
        """Return ``(x, y, weight)`` of a slice or an integer array of rows."""
        x, y, weight = self.X.read(rows)
        if self.X.carries_y:
            return x, *self.encoded(y, weight)
        return x, self.y[rows], None if self.weight is None else self.weight[rows]

    def encoded(self, y, weight):
        """Return y and weights that were read together with X as a loss is to have them."""
        weight = None if weight is None else to_array(weight, "sample_weight").astype(np.float64)
        return self.encode(to_array(y, "y"), weight)


def check_X(estimator, X, *, reset, n_samples=None, several=False):
    """Return X as samples that can be read in parts, or say what is wrong.

    ``reset`` sets ``n_features_in_`` and ``feature_names_in_`` on ``estimator``; otherwise X must
    agree with them. Sparse X stays sparse; tensors stay where they are; what lies on disk stays
    there, and is looked at when it is read.

    Parameters
    ----------
    estimator : BaseEstimator
    X : anything that ``fit`` takes
    reset : bool
    n_samples : int, optional
        Rows of y, which tell a list of inputs from a list of rows.
    several : bool, default=False
        Whether a list is one of inputs, where y does not tell.
    """
    if is_dataset(X):
        return _check_dataset(estimator, X, reset)
    if _is_dict(X) and len(X) == 1:
        (X,) = X.values()
    fields = _fields(X, n_samples, several)
    if fields is not None:
        return _check_fields(fields)
    _refuse_masked("X", X)
    if is_lazy(X) or isinstance(X, torch.Tensor):
        X = _check_one("X", X, least_axes=2)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return Arrays(X, checked=isinstance(X, torch.Tensor))
    if _is_plain(X) and X.ndim > 1:
        _check_names(estimator, X, reset)
        return Arrays(X, checked=True)
    with _told_of(X):
        X = validate_data(estimator, X, reset=reset, accept_sparse="csr", allow_nd=True)
    _refuse_dates(X)
    return Arrays(X, checked=True)


def _is_plain(array, kinds="biuf"):
    """Whether scikit-learn's ``check_array`` would find nothing to object to, nor to change.

    It takes several times as long to say so as is spent on the few numbers of a small array.
    """
    if type(array) is not np.ndarray or array.dtype.kind not in kinds or not array.size:
        return False
    return array.dtype.kind != "f" or all_finite(array)


def _check_names(estimator, X, reset):
    """Set or check the number of features, and their names, where X is a plain array."""
    named = hasattr(estimator, "feature_names_in_")
    if reset and not named:
        estimator.n_features_in_ = X.shape[1]
    elif reset or named or getattr(estimator, "n_features_in_", None) != X.shape[1]:
        validate_data(estimator, X, reset=reset, skip_check_array=True)


def check_rows(
    estimator, X, y=None, sample_weight=None, *, y_numeric, reset, several=False, known=False
):
    """Check X, y and weights together; rows of weight zero are left out, as if never given.

    Parameters
    ----------
    estimator : BaseEstimator
    X, y, sample_weight : anything that ``fit`` takes
        y may be None where X is a Dataset that holds it.
    y_numeric : bool
        Whether y holds values rather than labels.
    reset, several
        As for ``check_X``.
    known : bool, default=False
        Whether nothing need be learned of y, so that a Dataset is not gone through for it.

    Returns
    -------
    rows : Rows
    """
    _refuse_masked("y", y)
    held = y is None and is_dataset(X)
    if y is None and not held:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None. Only a Dataset or a DataLoader may hold it."
        )
    if not held:
        y = _users_y(X, y)
    n_samples = None if held else _length(y)
    X = check_X(estimator, X, reset=reset, n_samples=n_samples, several=several)
    if held:
        X, y, sample_weight = _held(X, sample_weight, known)
    y = _checked_y(estimator, y, y_numeric)
    if X.carries_y:
        return Rows(X, y)
    if len(X) != y.shape[0]:
        check_consistent_length(np.empty((len(X), 0)), y)
    if sample_weight is None:
        return Rows(X, y)
    if isinstance(sample_weight, torch.Tensor):
        sample_weight = to_array(sample_weight, "sample_weight")
    weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is zero for every row. Leave some rows a weight.")
    rows = Rows(X, y, weight)
    return rows if weight.all() else rows.take(np.flatnonzero(weight))


def _length(y):
    """Return the number of rows of y, or None where it is nothing that has rows."""
    if sparse.issparse(y):
        return y.shape[0]
    return len(y) if hasattr(y, "__len__") else None


def tried_on(rows):
    """Return rows that a net is not trained on, without augmentation."""
    return replace(rows, X=unaugmented(rows.X))


def unaugmented(X):
    """Return X, of a Dataset without its augmentation."""
    return X.unaugmented() if isinstance(X, Samples) else X


def _users_y(X, y):
    """Return y that was passed beside X, as an array where it is a tensor or a Dataset."""
    if isinstance(X, DataLoader | IterableDataset):
        raise ValueError(
            f"y is passed beside a {type(X).__name__}, whose samples come in an order of their "
            "own. Let it give (x, y), and pass no y."
        )
    if is_dataset(y):
        return np.asarray([to_array(y[number], "y") for number in range(len(y))])
    return to_array(y, "y") if isinstance(y, torch.Tensor) else y


def _held(X, sample_weight, known):
    """Return X, and y and weights that it holds."""
    if sample_weight is not None:
        raise ValueError(
            "sample_weight is passed beside a Dataset that holds y. Let its samples be "
            "(x, y, weight), or pass y too."
        )
    if isinstance(X, Arrays):
        return X, *X.held
    if not known:
        if isinstance(X, Stream):
            return X, *X.first_pass(_PASS_ROWS)
        return X, *X.samples.targets()
    _, y, _ = unaugmented(X).head(_PASS_ROWS)
    if y is None:
        raise ValueError("X: the Dataset gives no target. Let its samples be (x, y), or pass y.")
    if isinstance(X, Samples):
        X = Samples(X.samples, carries_y=True)
    return X, to_array(y, "y"), None


def _checked_y(estimator, y, y_numeric):
    if not (_is_plain(y, "biuf" if y_numeric else "biufU") and y.ndim in (1, 2)):
        y = _check_y(y, multi_output=True, y_numeric=y_numeric, estimator=estimator)
    if sparse.issparse(y):
        y = y.toarray()
    if y.ndim > 2:
        raise ValueError(
            "y must have shape (n_samples,) or (n_samples, n_outputs), "
            f"got {y.shape}. Flatten the outputs of each sample."
        )
    return y


def _is_array(value):
    """Whether ``value`` is an array, a tensor, a sparse matrix or a frame, rather than a list."""
    return hasattr(value, "shape") and len(value.shape) > 0 and not isinstance(value, type)


def _is_dict(X):
    # Sparse matrices of one of scipy's formats are dicts too.
    return isinstance(X, Mapping) and not sparse.issparse(X)


def _fields(X, n_samples, several):
    """Return several inputs as a dict or tuple, or None where X is one."""
    if _is_dict(X):
        fields = dict(X)
    elif isinstance(X, tuple | list) and len(X) > 1 and all(_is_array(part) for part in X):
        # Arrays in a list may be rows as well; y, or what the net was fitted with, tells.
        length = X[0].shape[0]
        beside = isinstance(X, tuple) or (several if n_samples is None else length == n_samples)
        if not beside or (isinstance(X, list) and len(X) == n_samples):
            return None
        fields = tuple(X)
    else:
        return None
    if not fields:
        raise ValueError("X is an empty dict. Pass arrays by the names of the net's inputs.")
    return fields


def _check_fields(fields):
    """Check several inputs, each as an array of its own."""
    checked = {name: _check_one(name, part, least_axes=1) for name, part in leaves(fields)}
    lengths = {name: part.shape[0] for name, part in checked.items()}
    if len({*lengths.values()}) > 1:
        listed = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"X: inputs must have the same number of rows: {listed}.")
    parts = [*checked.values()]
    values = dict(zip(fields, parts, strict=True)) if isinstance(fields, dict) else tuple(parts)
    return Arrays(values, checked=not any(isinstance(part, LazyRows) for part in parts))


def _check_one(name, array, least_axes):
    """Return an array, a tensor or lazy rows of finite numbers; the last are not read."""
    _refuse_masked(name, array)
    if isinstance(array, torch.Tensor):
        array = array.detach()
        _check_shape(name, array.shape, least_axes)
        if array.is_complex():
            raise ValueError(f"{name} holds complex numbers. Pass their real and imaginary parts.")
        if array.is_floating_point() and not all_finite(array):
            raise ValueError(f"{name} contains NaN or infinity. Impute or drop such rows.")
        return array
    if is_lazy(array):
        _check_shape(name, array.shape, least_axes)
        if np.dtype(array.dtype).kind not in "biuf":
            raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}.")
        return array if isinstance(array, LazyRows) else LazyRows(array)
    return check_array(array, accept_sparse="csr", allow_nd=True, ensure_2d=False, input_name=name)


def _check_shape(name, shape, least_axes):
    if len(shape) < least_axes or shape[0] == 0:
        raise ValueError(
            f"{name} must have shape (n_samples, ...) with at least {least_axes} axes and one "
            f"sample, got {tuple(shape)}. Reshape it: X.reshape(-1, 1) for one feature."
        )


def _check_dataset(estimator, X, reset):
    """Return a Dataset as samples; tensors that lie in one are taken out of it."""
    if isinstance(X, DataLoader | IterableDataset):
        inputs = Stream(X)
    else:
        tensors = plain(X)
        if tensors is not None and 1 <= len(tensors) <= 3:
            held = (*(to_array(tensor, "y") for tensor in tensors[1:]), None, None)[:2]
            inputs = Arrays(_check_one("X", tensors[0], least_axes=1), checked=True, held=held)
        else:
            inputs = Samples(X if isinstance(X, DatasetSlice) else DatasetSlice(X))
            if not len(inputs):
                raise ValueError(f"X: {describe(X)} has 0 samples. Pass some.")
    x, _, _ = unaugmented(inputs).head(1)
    if not isinstance(x, dict | tuple) and x.ndim > 1:
        # A row of the right width stands for all of them.
        validate_data(estimator, np.zeros((1, x.shape[1])), reset=reset, skip_check_array=True)
    return inputs


# How numpy and scikit-learn say that something is no array of numbers, without saying what.
_NO_NUMBERS = (
    "could not convert",
    "float() argument",
    "inhomogeneous",
    "not compatible with arrays",
)


@contextmanager
def _told_of(X):
    """Say whether it is X or y that is no array of numbers, and what to do."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error)
        if not any(words in text for words in _NO_NUMBERS):
            raise
        try:
            np.asarray(X).astype(float)
            name = "y"
        except (ValueError, TypeError):
            name = "X"
        # Of the same class: callers tell values from types.
        raise type(error)(
            f"{name} must be an array of numbers: {text.rstrip('.')}. Encode texts "
            "(sklearn.preprocessing), and give all rows one length."
        ) from error


def _refuse_dates(X):
    if X.dtype.kind in "mM":
        raise ValueError(
            f"X has dtype {X.dtype}, which is no number. Make numbers of dates and durations, such "
            "as days since a first one."
        )


def _refuse_masked(name, values):
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array with {np.ma.count_masked(values)} masked values, which a "
            "net cannot leave out. Impute them first (sklearn.impute) or drop their rows."
        )
