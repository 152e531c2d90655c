"""Batches, sliced from data that is resident on the device."""

from typing import NamedTuple

import torch

__all__ = ["Batch", "Resident"]

# Rows are gathered for many steps at once, which costs one indexing call instead of one a step;
# this bounds what the copy takes.
_GATHERED_BYTES = 2**23


class Batch(NamedTuple):
    """One step's share of the data, on the device.

    ``total`` is the number of rows, or the sum of their weights where they have any.
    """

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None
    total: int | torch.Tensor


class Resident:
    """Data that lies on the device as a whole.

    Parameters
    ----------
    x : Tensor of shape (n_samples, ...)
    y : Tensor of shape (n_samples,) or (n_samples, n_outputs)
    weight : Tensor of shape (n_samples,) or None
    batch_size : int
    generator : torch.Generator or None
        Draws a new order each epoch; None keeps the order of the rows. A generator of the CPU, so
        that the order is the same on every device. Data that fits in one batch is not reordered.
    """

    def __init__(self, x, y, weight, batch_size, generator=None):
        self.x = x
        self.y = y
        self.weight = weight
        self.batch_size = batch_size
        self.generator = generator if batch_size < len(x) else None

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def head(self, n_rows):
        """Return the first rows as one batch."""
        weight = None if self.weight is None else self.weight[:n_rows]
        return next(self._slices(self.x[:n_rows], self.y[:n_rows], weight))

    def __iter__(self):
        """Yield the batches of one epoch."""
        if self.generator is None:
            yield from self._slices(self.x, self.y, self.weight)
            return
        order = torch.randperm(len(self.x), generator=self.generator).to(self.x.device)
        for rows in order.split(self._gathered_rows()):
            weight = None if self.weight is None else self.weight[rows]
            yield from self._slices(self.x[rows], self.y[rows], weight)

    def _gathered_rows(self):
        row_bytes = max(1, self.x[:1].nbytes + self.y[:1].nbytes)
        return self.batch_size * max(1, _GATHERED_BYTES // (row_bytes * self.batch_size))

    def _slices(self, x, y, weight):
        xs, ys = x.split(self.batch_size), y.split(self.batch_size)
        if weight is None:
            for x, y in zip(xs, ys, strict=True):
                yield Batch(x, y, None, len(y))
        else:
            for x, y, w in zip(xs, ys, weight.split(self.batch_size), strict=True):
                yield Batch(x, y, w, w.sum())
