"""What a user may pass as X, y and weights, and what each is told when it does not fit."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import _check_sample_weight, validate_data

__all__ = ["Rows", "check_X", "check_rows"]


@dataclass(frozen=True)
class Rows:
    """Samples side by side: what one fit, or one evaluation, is given.

    Parameters
    ----------
    source : ndarray or sparse matrix of shape (n, ...)
        X, or what X is a part of.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,) or None
        None stands for equal weights.
    index : ndarray of int, shape (n_samples,), or None
        Which rows of ``source`` are in X; None for all.
    """

    source: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None
    index: np.ndarray | None = None

    @property
    def X(self):
        """The samples, of shape (n_samples, ...): a copy, where they are a part of the source."""
        return self.source if self.index is None else self.source[self.index]

    def __len__(self):
        return len(self.y)

    def head(self, n):
        """Return the first ``n`` samples."""
        return self.source[:n] if self.index is None else self.source[self.index[:n]]

    def take(self, index):
        """Return the rows of ``index``, an integer array."""
        return replace(self.part(index), source=self.X[index], index=None)

    def part(self, index):
        """Return the same without a copy of X."""
        weight = None if self.weight is None else self.weight[index]
        index = index if self.index is None else self.index[index]
        return Rows(self.source, self.y[index], weight, index)


def check_X(estimator, X, *, reset):
    """Return X as a numeric array of shape (n_samples, ...), finite, or say what is wrong.

    ``reset`` sets ``n_features_in_`` and ``feature_names_in_`` on ``estimator``; otherwise X must
    agree with them. Sparse X stays sparse.
    """
    _refuse_masked("X", X)
    with _told_of(X):
        X = validate_data(estimator, _on_host(X), reset=reset, accept_sparse="csr", allow_nd=True)
    _refuse_dates(X)
    return X


def check_rows(estimator, X, y, sample_weight, *, y_numeric, reset):
    """Check X, y and weights together; rows of weight zero are left out, as if never given."""
    _refuse_masked("X", X)
    _refuse_masked("y", y)
    with _told_of(X):
        X, y = validate_data(
            estimator,
            _on_host(X),
            _on_host(y),
            reset=reset,
            accept_sparse="csr",
            allow_nd=True,
            multi_output=True,
            y_numeric=y_numeric,
        )
    _refuse_dates(X)
    if sparse.issparse(y):
        y = y.toarray()
    if y.ndim > 2:
        raise ValueError(
            "y must have shape (n_samples,) or (n_samples, n_outputs), "
            f"got {y.shape}. Flatten the outputs of each sample."
        )
    if sample_weight is None:
        return Rows(X, y)
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is zero for every row. Leave some rows a weight.")
    rows = Rows(X, y, weight)
    return rows if weight.all() else rows.take(np.flatnonzero(weight))


def _on_host(values):
    """Return a tensor as one that numpy can read, and anything else as it is."""
    if not isinstance(values, torch.Tensor):
        return values
    if values.is_meta:
        raise ValueError(
            'X or y is a tensor of the device "meta", which holds no numbers. Make it on another.'
        )
    return values.detach().cpu()


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
