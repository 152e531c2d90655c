"""X in every form a user may have it, as one thing: samples that are read a few at a time.

What the stages of a fit ask of X is the same for each class here:

``len(X)``
    Samples; a ``TypeError`` where nobody knows.
``X.take(index)``
    Some of them, in the same form; nothing is read that lies elsewhere.
``X.read(rows)``
    ``(x, y, weight)`` of a slice or an integer array of rows. ``x`` is an array or a tensor, or a
    dict or tuple of them. ``y`` and ``weight`` are None where X does not hold them.
``X.head(n)``
    ``(x, y, weight)`` of the first rows.
``X.elsewhere``
    In words, where the samples lie if not in memory as they are, or None.
``X.checked``
    Whether they are known to be finite numbers.
``X.carries_y``
    Whether y is read together with x, and is not known beforehand.
"""

import mmap

import numpy as np
import torch
from scipy import sparse

from sktorch.fields import each, leaves

__all__ = ["Arrays", "LazyRows", "is_array", "is_lazy"]

# Scattered rows of a file to read before their pages are let go.
_SCATTERED = 1024


def is_array(value):
    """Whether ``value`` is an array, a tensor, a sparse matrix or a frame, rather than a list."""
    return hasattr(value, "shape") and len(value.shape) > 0 and not isinstance(value, type)


def is_lazy(value):
    """Whether ``value`` is an array that lies on disk until it is sliced."""
    if isinstance(value, LazyRows):
        return True
    if isinstance(value, np.ndarray):
        return mapping_of(value) is not None
    # As h5py and zarr have it: an array to slice, that is none itself.
    return (
        all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))
        and not hasattr(value, "__array_namespace__")
        and not hasattr(value, "iloc")
        and not sparse.issparse(value)
        and not isinstance(value, torch.Tensor | np.generic)
        and isinstance(value.shape, tuple)
    )


def mapping_of(array):
    """Return the mapped file that an array of numpy lies in, or None."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


class LazyRows:
    """Rows of an array that lies elsewhere, read when they are asked for.

    Parameters
    ----------
    array : memmap, h5py dataset or the like, of shape (n_samples, ...)
    index : ndarray of int, optional
        Rows of ``array`` that these are; by default all.
    """

    def __init__(self, array, index=None):
        self.array = array
        self.index = index

    @property
    def shape(self):
        """Shape of the rows."""
        n_rows = self.array.shape[0] if self.index is None else len(self.index)
        return (n_rows, *self.array.shape[1:])

    @property
    def ndim(self):
        """Axes of the array."""
        return len(self.array.shape)

    @property
    def dtype(self):
        """Type of the numbers."""
        return self.array.dtype

    def __len__(self):
        return self.shape[0]

    def take(self, index):
        """Return some of the rows, unread."""
        return LazyRows(self.array, index if self.index is None else self.index[index])

    def __getitem__(self, rows):
        """Read rows: a slice or an integer array."""
        if isinstance(rows, slice) and self.index is None:
            values = np.array(self.array[rows])
            self._release()
            return values
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        rows = rows if self.index is None else self.index[rows]
        # In ascending order: what lies close is read once, and h5py takes no other.
        unique, places = np.unique(rows, return_inverse=True)
        return np.concatenate([*self._pieces(unique)])[places]

    def _pieces(self, rows):
        """Yield rows some at a time: each touches pages, and those near it come along."""
        for start in range(0, max(1, len(rows)), _SCATTERED):
            yield np.asarray(self.array[rows[start : start + _SCATTERED]])
            self._release()

    def _release(self):
        """Let go of the pages that were read: they would count as memory of the process."""
        array = self.array
        while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
            array = array.base
        # What was written to a private map is nowhere else.
        if isinstance(array, np.memmap) and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
            mapping_of(array).madvise(mmap.MADV_DONTNEED)


class Arrays:
    """An array, a tensor or a sparse matrix; or several of them, by name or by position.

    Parameters
    ----------
    values : array of shape (n_samples, ...), or a dict or tuple of them
        Each an ndarray, a CSR matrix, a tensor or ``LazyRows``.
    checked : bool
    held : tuple of (ndarray or None, ndarray or None)
        y and weights that lay beside the values in a Dataset.
    """

    carries_y = False

    def __init__(self, values, checked=False, held=(None, None)):
        self.values = values
        self.checked = checked
        self.held = held

    def __len__(self):
        return leaves(self.values)[0][1].shape[0]

    @property
    def elsewhere(self):
        """See the module."""
        for name, array in leaves(self.values):
            if isinstance(array, LazyRows):
                return f"{name} is {_words(array.array)}"
            if sparse.issparse(array):
                return f"{name} is sparse, and made dense a few batches at a time"
        return None

    def take(self, index):
        """See the module."""
        held = (None if part is None else part[index] for part in self.held)
        return Arrays(each(lambda array: _take(array, index), self.values), self.checked, (*held,))

    def read(self, rows):
        """See the module."""
        held = (None if part is None else part[rows] for part in self.held)
        return each(lambda array: _read(array, rows), self.values), *held

    def head(self, n_rows):
        """See the module."""
        return self.read(slice(0, n_rows))

    def users(self):
        """Return X as the user might have given it."""
        return self.values


def _words(array):
    if mapping_of(array) is not None:
        return "a memory map"
    return f"a {type(array).__name__}, which is read as it is sliced"


def _take(array, index):
    return array.take(index) if isinstance(array, LazyRows) else _read(array, index)


def _read(array, rows):
    if isinstance(array, torch.Tensor) and isinstance(rows, np.ndarray):
        rows = torch.from_numpy(rows).to(array.device)
    return array[rows]
