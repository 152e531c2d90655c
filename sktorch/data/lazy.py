"""Arrays that lie on disk until they are sliced."""

import mmap

import numpy as np
import torch
from scipy import sparse

__all__ = ["LazyRows", "is_lazy"]

# Scattered rows of a file to read before their pages are let go.
_SCATTERED = 1024


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

    def __str__(self):
        if mapping_of(self.array) is not None:
            return "a memory map"
        return f"a {type(self.array).__name__}, which is read as it is sliced"

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
