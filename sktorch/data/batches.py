"""Batches, sliced from data that is resident on the device."""

from typing import NamedTuple

import torch

__all__ = ["Batch", "Resident", "total_of"]

# Rows are gathered for many steps at once, which costs one indexing call instead of one a step;
# this bounds what the copy takes.
_GATHERED_BYTES = 2**22


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
    x : Tensor of shape (n_samples, ...), or of more rows
    y : Tensor of shape (n_samples,) or (n_samples, n_outputs)
    weight : Tensor of shape (n_samples,) or None
    batch_size : int
    generator : torch.Generator or None
        Draws a new order each epoch; None keeps the order of the rows. A generator of the CPU, so
        that the order is the same on every device. Data that fits in one batch is not reordered.
    lone_row : bool, default=True
        Whether the last batch may have one row; otherwise that row joins the batch before.
    index : Tensor of int64, shape (n_samples,), or None
        Which rows of ``x`` belong to ``y``, where there is a generator; None for all.

    Attributes
    ----------
    copies : bool
        Whether batches are copies, for a net or a loss that writes to what it is given.
    """

    def __init__(self, x, y, weight, batch_size, generator=None, lone_row=True, index=None):
        self.x = x
        self.y = y
        self.weight = weight
        self.index = index
        self.generator = generator if batch_size < len(y) else None
        self.copies = False
        n_full, rest = divmod(len(y), batch_size)
        self.sizes = [batch_size] * n_full + [rest] * (rest > 0)
        if rest == 1 and n_full and not lone_row:
            self.sizes[-2:] = [batch_size + 1]

    def __len__(self):
        return len(self.sizes)

    def head(self, n_rows):
        """Return a copy of the first rows as one batch."""
        n_rows = min(n_rows, len(self.y))
        rows = torch.arange(n_rows, device=self.y.device)
        return next(slices(*self._gather(rows), [n_rows]))

    def draw_order(self):
        """Return the order of the next epoch, or None where rows keep theirs."""
        if self.generator is None:
            return None
        return torch.randperm(len(self.y), generator=self.generator).to(self.y.device)

    def x_rows(self, rows):
        """Return where in ``x`` some samples are."""
        return rows if self.index is None else self.index.index_select(0, rows)

    def __iter__(self):
        """Yield the batches of one epoch."""
        order = self.draw_order()
        if order is None:
            for batch in slices(self.x, self.y, self.weight, self.sizes):
                yield batch._replace(x=batch.x.clone(), y=batch.y.clone()) if self.copies else batch
            return
        n_batches = self._gathered_batches()
        start = 0
        for first in range(0, len(self.sizes), n_batches):
            sizes = self.sizes[first : first + n_batches]
            rows = order[start : start + sum(sizes)]
            start += len(rows)
            yield from slices(*self._gather(rows), sizes)

    def _gather(self, rows):
        """Return x, y and weight of some rows, copied."""
        # index_select copies row by row, many times faster than indexing does.
        weight = None if self.weight is None else self.weight.index_select(0, rows)
        return self.x.index_select(0, self.x_rows(rows)), self.y.index_select(0, rows), weight

    def _gathered_batches(self):
        batch_bytes = self.sizes[0] * (self.x[:1].nbytes + self.y[:1].nbytes)
        return max(1, _GATHERED_BYTES // max(1, batch_bytes))


def slices(x, y, weight, sizes):
    """Yield consecutive batches of the given sizes, as views."""
    if weight is None:
        for batch in zip(x.split(sizes), y.split(sizes), sizes, strict=True):
            yield Batch(batch[0], batch[1], None, batch[2])
        return
    for batch in zip(x.split(sizes), y.split(sizes), weight.split(sizes), strict=True):
        yield Batch(*batch, total_of(batch[2], len(batch[2])))


def total_of(weight, size):
    """Return the total weight of each batch of ``size`` rows; ``weight`` is None or (..., size)."""
    if weight is None:
        return size
    # A batch whose weights are all too small for the dtype adds nothing, rather than 0 / 0.
    return weight.sum(-1).clamp_(min=torch.finfo(weight.dtype).tiny)
