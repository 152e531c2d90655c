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

from operator import length_hint

import numpy as np
import torch
from scipy import sparse
from torch.utils.data import DataLoader, IterableDataset

from sktorch.data.collate import FORMS, joined, numeric_inputs, parts_of, to_array
from sktorch.data.lazy import LazyRows
from sktorch.fields import each, leaves
from sktorch.specs import describe

__all__ = ["Arrays", "Samples", "Stream"]


class Arrays:
    """An array, a tensor or a sparse matrix; or several of them, by name or by position.

    Parameters
    ----------
    values : array of shape (n_samples, ...), or a dict or tuple of them
        Each an ndarray, a CSR matrix, a tensor or ``LazyRows``.
    checked : bool
    held : tuple of (ndarray or None, ndarray or None)
        y and weights that lay beside the values in a Dataset.
    index : ndarray of int, shape (n_samples,), or None
        Which rows of a single ndarray are meant, none of them copied yet; None for all.
    """

    carries_y = False

    def __init__(self, values, checked=False, held=(None, None), index=None):
        self.values = values
        self.checked = checked
        self.held = held
        self.index = index

    def __len__(self):
        if self.index is not None:
            return len(self.index)
        return leaves(self.values)[0][1].shape[0]

    @property
    def elsewhere(self):
        """See the module."""
        for name, array in leaves(self.values):
            if isinstance(array, LazyRows):
                return f"{name} is {array}"
            if sparse.issparse(array):
                return f"{name} is sparse, and made dense a few batches at a time"
        return None

    def take(self, index):
        """See the module."""
        held = tuple(None if part is None else part[index] for part in self.held)
        if isinstance(self.values, np.ndarray):
            index = index if self.index is None else self.index[index]
            return Arrays(self.values, self.checked, held, index)
        return Arrays(each(lambda array: _take(array, index), self.values), self.checked, held)

    def read(self, rows):
        """See the module."""
        held = (None if part is None else part[rows] for part in self.held)
        where = rows if self.index is None else self.index[rows]
        return each(lambda array: _read(array, where), self.values), *held

    def head(self, n_rows):
        """See the module."""
        return self.read(slice(0, n_rows))

    def users(self):
        """Return X as the user might have given it."""
        return self.values if self.index is None else self.values[self.index]


def _take(array, index):
    return array.take(index) if isinstance(array, LazyRows) else _read(array, index)


def _read(array, rows):
    if isinstance(array, torch.Tensor) and isinstance(rows, np.ndarray):
        rows = torch.from_numpy(rows).to(array.device)
    return array[rows]


class Samples:
    """A map-style Dataset as a fit reads it.

    Parameters
    ----------
    samples : DatasetSlice
    carries_y : bool
        Whether y and weights are read together with x.
    """

    checked = False

    def __init__(self, samples, carries_y=False):
        self.samples = samples
        self.carries_y = carries_y

    def __len__(self):
        return len(self.samples)

    @property
    def elsewhere(self):
        """See the module."""
        return f"X is a Dataset ({type(self.samples.dataset).__name__}), which may draw anew"

    def take(self, index):
        """See the module."""
        return Samples(self.samples[index], self.carries_y)

    def unaugmented(self):
        """Return the same samples as a net is to be tried on them.

        A Dataset with a method of this name is asked for them.
        """
        return Samples(self.samples.unaugmented(), self.carries_y)

    def read(self, rows):
        """See the module."""
        x, y, weight = self.samples.read(rows)
        return numeric_inputs(x, self.samples.dataset), y, weight

    def head(self, n_rows):
        """See the module."""
        return self.read(slice(0, n_rows))

    def users(self):
        """See the module."""
        return self.samples


class Stream:
    """A DataLoader or an IterableDataset: batches in an order of their own.

    Parameters
    ----------
    source : DataLoader or IterableDataset
        A DataLoader's own batches are taken as they come.
    """

    checked = False
    carries_y = True

    def __init__(self, source):
        self.source = source
        self.n_batches = None
        self.n_samples = None
        self._head = None

    def __len__(self):
        raise TypeError(f"{describe(self.source)} has no known number of samples")

    @property
    def elsewhere(self):
        """See the module."""
        kind = type(self.source).__name__
        return f"X is a {kind}, which gives batches in an order of its own"

    @property
    def has_batches(self):
        """Whether the batches are those of a DataLoader."""
        return isinstance(self.source, DataLoader)

    def batches(self, batch_size, workers=0):
        """Yield ``(x, y, weight)`` of each batch of one pass."""
        loader = self.source
        if not self.has_batches:
            loader = DataLoader(loader, batch_size=batch_size, num_workers=workers)
        n_samples = 0
        for batch in self._collated(iter(loader)):
            x, y, weight = parts_of(batch)
            numeric_inputs(x, self.source)
            if self._head is None:
                self._head = x, y, weight
            n_samples += len(leaves(x)[0][1])
            yield x, y, weight
        self._check_count(n_samples)

    def _collated(self, batches):
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (TypeError, RuntimeError) as error:
                if "collate" not in str(error) and "equal size" not in str(error):
                    raise
                raise ValueError(
                    f"X: samples of {describe(type(self.source))} cannot be stacked "
                    f"({str(error).splitlines()[0]}). Make them tensors of one size, or pass a "
                    "DataLoader with a collate_fn."
                ) from error
            yield batch

    def _check_count(self, n_samples):
        if n_samples == 0:
            raise ValueError(
                f"X: {describe(type(self.source))} gave no samples in this pass. Its __iter__ must "
                "begin anew each time; a generator can be gone through once."
            )
        source = self.source.dataset if self.has_batches else self.source
        if isinstance(source, IterableDataset) and hasattr(source, "__len__"):
            dropped = self.has_batches and self.source.drop_last
            if len(source) != n_samples and not dropped:
                raise ValueError(
                    f"X: {describe(type(source))} has {len(source)} samples by its __len__, and "
                    f"gave {n_samples}. Make __len__ say how many there are, or remove it."
                )

    def first_pass(self, batch_size):
        """Go through once; return all targets and weights as arrays, the latter or None."""
        ys, weights = [], []
        for _, y, weight in self.batches(batch_size):
            if y is None:
                raise ValueError(f"X: {describe(self.source)} gives no target. {FORMS}")
            ys.append(to_array(y, "y"))
            weights.append(None if weight is None else to_array(weight, "sample_weight"))
        y = joined(ys)
        self.n_batches, self.n_samples = len(ys), len(y)
        return y, None if weights[0] is None else joined(weights)

    def count(self, batch_size):
        """Return how many batches one pass has, or None where nobody knows."""
        if self.has_batches:
            return self.n_batches or length_hint(self.source, 0) or None
        n_samples = self.n_samples or length_hint(self.source, 0)
        return -(-n_samples // batch_size) if n_samples else None

    def head(self, n_rows):
        """See the module."""
        if self._head is None:
            next(self.batches(max(n_rows, 2)))
        x, y, weight = self._head
        y, weight = (None if part is None else part[:n_rows] for part in (y, weight))
        return each(lambda part: part[:n_rows], x), y, weight

    def users(self):
        """See the module."""
        return self.source
