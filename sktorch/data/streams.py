"""Batches that are read while a fit runs, some ahead of it."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader

from sktorch.data.batches import Batches, row_bytes, slices
from sktorch.fields import each

__all__ = ["Arriving", "Streamed", "prefetched"]

# Chunks that are read ahead of the one in use.
_AHEAD = 2

# Chunks that are read each way to find which is quicker.
_TRIED = 6


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
        # Samples are read by code of the user's, arrays by numpy.
        self.read = prefetched if most_rows is None else Quickest()
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
        return next(slices(*to_device(self.load(slice(0, n_rows)), self.device), [n_rows]))

    def __iter__(self):
        """Yield the batches of one epoch."""
        order = self.draw_order()
        order = None if order is None else order.numpy()
        groups = [*self.groups(self.row_bytes, self.most_rows)]
        self._plan[:] = [where if order is None else order[where] for where, _ in groups]
        if self.part is not None:
            self._plan[:], groups = self._own(self._plan, groups)
        chunks = self._readers or self.read(self.load, self._plan)
        for chunk, (_, sizes) in zip(chunks, groups, strict=True):
            yield from slices(*to_device(chunk, self.device), sizes)

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
        self.read = Quickest()

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
        for chunk in self.read(lambda raw: self.load(*raw), self.batches()):
            n_batches += 1
            yield from slices(*to_device(chunk, self.device), [len(chunk[1])])
        self.n_batches = n_batches


class Quickest:
    """Reads chunks ahead in a thread, or as they are needed, by which has been quicker.

    Python code that reads samples keeps other threads waiting, and then a thread of its own costs
    more than it saves; decoders and disks do not. A few chunks are read each way.
    """

    def __init__(self):
        self.way = None

    def __call__(self, load, items):
        """Yield ``load(item)`` of each item in order."""
        items, seconds = iter(items), {}
        for way in (map, prefetched) if self.way is None else ():
            started = time.perf_counter()
            n_read = 0
            for chunk in way(load, islice(items, _TRIED)):
                n_read += 1
                yield chunk
            if n_read < _TRIED:
                return
            seconds[way] = time.perf_counter() - started
        self.way = self.way or min(seconds, key=seconds.get)
        yield from self.way(load, items)


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
