"""Batches of data: resident on the device, or streamed to it.

Both kinds draw the same batches from the same generator, and end a fit in the same place.
"""

from typing import NamedTuple

import torch

from sktorch.fields import each, leaves

__all__ = ["Batch", "Batches", "Resident", "copied", "row_bytes", "slices", "total_of"]

# Rows are gathered for many steps at once, which costs one indexing call instead of one a step;
# this bounds what the copy takes.
_GATHERED_BYTES = 2**22


class Batch(NamedTuple):
    """One step's share of the data, on the device.

    ``x`` is a tensor, or a dict or tuple of them. ``total`` is the number of rows, or the sum of
    their weights where they have any.
    """

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None
    total: int | torch.Tensor


class Batches:
    """What resident and streamed data share: which rows make a batch.

    Parameters
    ----------
    n_rows : int
    batch_size : int
    generator : torch.Generator or None
        Draws a new order each epoch; None keeps the order of the rows. A generator of the CPU, so
        that the order is the same on every device. Data that fits in one batch is not reordered.
    least_rows : int
        Rows that the last batch has at least; fewer join the batch before.

    Attributes
    ----------
    copies : bool
        Whether batches are copies, for a net or a loss that writes to what it is given.
    reason : str
        Why the data is resident, or streamed.
    """

    def __init__(self, n_rows, batch_size, generator, least_rows):
        self.n_rows = n_rows
        self.generator = generator if batch_size < n_rows else None
        self.copies = False
        self.reason = ""
        n_full, rest = divmod(n_rows, batch_size)
        self.sizes = [batch_size] * n_full + [rest] * (rest > 0)
        if n_full and 0 < rest < least_rows:
            self.sizes[-2:] = [batch_size + rest]

    def __len__(self):
        return len(self.sizes)

    def draw_order(self):
        """Return the rows in the order of a new epoch, or None for theirs."""
        if self.generator is None:
            return None
        return torch.randperm(self.n_rows, generator=self.generator)

    def groups(self, row_bytes, most_rows=None):
        """Yield where the rows of some batches begin and end, and the sizes of these batches."""
        n_batches = max(1, _GATHERED_BYTES // max(1, self.sizes[0] * row_bytes))
        if most_rows is not None:
            n_batches = min(n_batches, max(1, most_rows // self.sizes[0]))
        start = 0
        for first in range(0, len(self.sizes), n_batches):
            sizes = self.sizes[first : first + n_batches]
            end = start + sum(sizes)
            yield slice(start, end), sizes
            start = end


class Resident(Batches):
    """Data that lies on the device as a whole.

    Parameters
    ----------
    x : Tensor of shape (n_samples, ...), or a dict or tuple of them
    y : Tensor of shape (n_samples,) or (n_samples, n_outputs)
    weight : Tensor of shape (n_samples,) or None
    batch_size, generator, least_rows
        As in ``Batches``.
    index : Tensor of int64, shape (n_samples,), or None
        Which rows of ``x`` belong to ``y``, where there is a generator; None for all.
    """

    kind = "resident"

    def __init__(self, x, y, weight, batch_size, generator=None, least_rows=1, index=None):
        self.x = x
        self.y = y
        self.weight = weight
        self.index = index
        super().__init__(len(y), batch_size, generator, least_rows)

    def draw_order(self):
        """Return the order of the next epoch on the device, or None where rows keep theirs."""
        order = super().draw_order()
        return None if order is None else order.to(self.y.device)

    def head(self, n_rows):
        """Return a copy of the first rows as one batch."""
        n_rows = min(n_rows, self.n_rows)
        if self.index is None:
            batch = next(slices(self.x, self.y, self.weight, [n_rows, self.n_rows - n_rows]))
            return copied(batch)
        rows = torch.arange(n_rows, device=self.y.device)
        return next(slices(*self._gather(rows), [n_rows]))

    def x_rows(self, rows):
        """Return where in ``x`` some samples are."""
        return rows if self.index is None else self.index.index_select(0, rows)

    def __iter__(self):
        """Yield the batches of one epoch."""
        order = self.draw_order()
        if order is None:
            for batch in slices(self.x, self.y, self.weight, self.sizes):
                yield copied(batch) if self.copies else batch
            return
        for where, sizes in self.groups(row_bytes(self.x, self.y)):
            yield from slices(*self._gather(order[where]), sizes)

    def _gather(self, rows):
        """Return x, y and weight of some rows, copied."""
        # index_select copies row by row, many times faster than indexing does.
        where = self.x_rows(rows)
        weight = None if self.weight is None else self.weight.index_select(0, rows)
        x = each(lambda part: part.index_select(0, where), self.x)
        return x, self.y.index_select(0, rows), weight


def row_bytes(x, y):
    """Return what one row takes."""
    return sum(part[:1].nbytes for _, part in leaves(x)) + y[:1].nbytes


def copied(batch):
    """Return a batch whose x and y nobody else holds."""
    return batch._replace(x=each(torch.Tensor.clone, batch.x), y=batch.y.clone())


def slices(x, y, weight, sizes):
    """Yield consecutive batches of the given sizes, as views."""
    if weight is None:
        for batch in zip(split(x, sizes), y.split(sizes), sizes, strict=True):
            yield Batch(batch[0], batch[1], None, batch[2])
        return
    for batch in zip(split(x, sizes), y.split(sizes), weight.split(sizes), strict=True):
        yield Batch(*batch, total_of(batch[2], len(batch[2])))


def total_of(weight, size):
    """Return the total weight of each batch of ``size`` rows; ``weight`` is None or (..., size)."""
    if weight is None:
        return size
    # A batch whose weights are all too small for the dtype adds nothing, rather than 0 / 0.
    return weight.sum(-1).clamp_(min=torch.finfo(weight.dtype).tiny)


def split(x, sizes):
    """Return consecutive parts of the given sizes."""
    if isinstance(x, torch.Tensor):
        return x.split(sizes)
    parts = each(lambda part: part.split(sizes), x)
    return [each(lambda part, i=i: part[i], parts) for i in range(len(sizes))]
