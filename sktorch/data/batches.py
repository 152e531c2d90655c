"""Batches of data: resident on the device, or streamed to it.

Both kinds draw the same batches from the same generator, and end a fit in the same place.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from sktorch.fields import each, leaves

__all__ = [
    "Arriving",
    "Batch",
    "Resident",
    "Streamed",
    "copied",
    "prefetched",
    "row_bytes",
    "total_of",
]

# Rows are gathered for many steps at once, which costs one indexing call instead of one a step;
# this bounds what the copy takes.
_GATHERED_BYTES = 2**23

# Chunks that are read ahead of the one in use.
_AHEAD = 2


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
    """

    kind = "resident"

    def __init__(self, x, y, weight, batch_size, generator=None, least_rows=1):
        self.x = x
        self.y = y
        self.weight = weight
        super().__init__(len(y), batch_size, generator, least_rows)

    def draw_order(self):
        """Return the order of the next epoch on the device, or None where rows keep theirs."""
        order = super().draw_order()
        return None if order is None else order.to(self.y.device)

    def head(self, n_rows):
        """Return a copy of the first rows as one batch."""
        n_rows = min(n_rows, self.n_rows)
        weight = None if self.weight is None else self.weight[:n_rows]
        x = each(lambda part: part[:n_rows].clone(), self.x)
        return next(slices(x, self.y[:n_rows].clone(), weight, [n_rows]))

    def __iter__(self):
        """Yield the batches of one epoch."""
        order = self.draw_order()
        if order is None:
            for batch in slices(self.x, self.y, self.weight, self.sizes):
                yield copied(batch) if self.copies else batch
            return
        for where, sizes in self.groups(row_bytes(self.x, self.y)):
            rows = order[where]
            weight = None if self.weight is None else self.weight[rows]
            yield from slices(
                each(lambda x, rows=rows: x[rows], self.x), self.y[rows], weight, sizes
            )


class Streamed(Batches):
    """Data that is read while a fit runs, some batches ahead of it.

    Parameters
    ----------
    load : callable
        ``load(rows) -> (x, y, weight)`` for a slice or an integer array of rows: tensors of the
        CPU that nobody else holds.
    n_rows : int
    device : torch.device
    batch_size, generator, least_rows
        As in ``Batches``.
    most_rows : int, optional
        Rows to read at once, but for a batch that has more.
    workers : int, default=0
        Processes that read; with none, a thread does.
    seed : int, default=0
        Seeds what they draw.
    """

    kind = "streamed"

    def __init__(
        self,
        load,
        n_rows,
        device,
        batch_size,
        generator=None,
        least_rows=1,
        most_rows=None,
        workers=0,
        seed=0,
    ):
        super().__init__(n_rows, batch_size, generator, least_rows)
        self.load = load
        self.device = device
        self.most_rows = most_rows
        # Which rows of a batch to read, as a slice for its size; None for all.
        self.part = None
        self._plan = []
        self._readers = None
        if workers:
            self._readers = DataLoader(
                Reading(load),
                sampler=self._plan,
                batch_size=None,
                collate_fn=as_it_is,
                num_workers=workers,
                persistent_workers=True,
                # Or it would draw from torch's own at the start of each epoch.
                generator=torch.Generator().manual_seed(seed),
            )
        x, y, _ = load(slice(0, 1))
        self.row_bytes = row_bytes(x, y)

    def head(self, n_rows):
        """Return the first rows as one batch."""
        n_rows = min(n_rows, self.n_rows)
        return next(slices(*self._to_device(self.load(slice(0, n_rows))), [n_rows]))

    def __iter__(self):
        """Yield the batches of one epoch."""
        order = self.draw_order()
        order = None if order is None else order.numpy()
        groups = [*self.groups(self.row_bytes, self.most_rows)]
        self._plan[:] = [where if order is None else order[where] for where, _ in groups]
        if self.part is not None:
            self._plan[:], groups = self._own(self._plan, groups)
        chunks = self._readers or prefetched(self.load, self._plan)
        for chunk, (_, sizes) in zip(chunks, groups, strict=True):
            yield from slices(*self._to_device(chunk), sizes)

    def _own(self, plan, groups):
        """Return the same of this process's part of each batch."""
        numbers, own, parts = np.arange(self.n_rows), [], []
        for rows, (where, sizes) in zip(plan, groups, strict=True):
            ends = np.cumsum(sizes)
            rows = numbers[rows]
            taken = [rows[e - s : e][self.part(s)] for s, e in zip(sizes, ends, strict=True)]
            own.append(np.concatenate(taken))
            parts.append((where, [len(part) for part in taken]))
        return own, parts

    def _to_device(self, chunk):
        return to_device(chunk, self.device)


class Arriving:
    """Batches that come in an order and in sizes of their own.

    Parameters
    ----------
    batches : callable
        Returns an iterator over ``(x, y, weight)`` of one epoch, raw.
    load : callable
        Makes tensors of the CPU of them.
    device : torch.device
    n_batches : int or None
        How many are expected; None where it is not known before the first epoch.
    batch_size : int
        Rows of most batches.
    """

    kind = "streamed"

    def __init__(self, batches, load, device, n_batches, batch_size):
        self.batches = batches
        self.load = load
        self.device = device
        self.n_batches = n_batches
        self.sizes = [batch_size]
        self.copies = False
        self.reason = ""
        self._head = None

    def __len__(self):
        if self.n_batches is None:
            raise TypeError("the number of batches is not known before the first epoch")
        return self.n_batches

    def head(self, n_rows):
        """Return the first rows as one batch."""
        if self._head is None:
            batches = self.batches()
            self._head = self.load(*next(batches))
            batches.close()
        x, y, weight = self._head
        x = each(lambda part: part[:n_rows].clone(), x)
        y, weight = (None if part is None else part[:n_rows].clone() for part in (y, weight))
        return next(slices(*to_device((x, y, weight), self.device), [len(y)]))

    def __iter__(self):
        """Yield the batches of one epoch."""
        n_batches = 0
        for chunk in prefetched(lambda raw: self.load(*raw), self.batches()):
            n_batches += 1
            yield from slices(*to_device(chunk, self.device), [len(chunk[1])])
        self.n_batches = n_batches


class Reading:
    """A loader of chunks as a Dataset, for the workers of a DataLoader."""

    def __init__(self, load):
        self.load = load

    def __getitem__(self, rows):
        return self.load(rows)


def as_it_is(chunk):
    """Return a chunk that is collated already."""
    return chunk


def prefetched(load, items):
    """Yield ``load(item)`` of each item in order, computed in a thread some items ahead.

    What only one item needs is computed at once, without a thread. An iterator of items is
    advanced in the thread too.
    """
    if not isinstance(items, Iterator) and len(items) == 1:
        yield load(items[0])
        return
    items, end = iter(items), object()

    def next_one():
        item = next(items, end)
        return end if item is end else load(item)

    pool = ThreadPoolExecutor(1, thread_name_prefix="sktorch-read")
    try:
        pending = deque(pool.submit(next_one) for _ in range(_AHEAD))
        while (chunk := pending.popleft().result()) is not end:
            pending.append(pool.submit(next_one))
            yield chunk
    finally:
        pool.shutdown(cancel_futures=True)


def to_device(chunk, device):
    """Return tensors of the CPU on ``device``; the copy to an accelerator runs beside its work."""
    if device.type == "cpu":
        return chunk

    def moved(tensor):
        if device.type == "cuda" and not tensor.is_pinned():
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=True)

    x, y, weight = chunk
    return each(moved, x), moved(y), None if weight is None else moved(weight)


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
