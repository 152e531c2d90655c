"""The share that one of several processes has in each batch."""

import torch

from sktorch.data.streams import Streamed
from sktorch.fields import each

__all__ = ["Shared"]


class Shared:
    """Some data of which each process trains on its part of every batch.

    Parameters
    ----------
    batches : Resident, Streamed or Arriving
        The same in each process, in the same order. Streamed data reads its own part only.
    ranks : object
        With ``index`` of this process, ``count`` of all, and ``sum(tensor)`` over all.
    dtype : torch.dtype
        Of weights.
    """

    def __init__(self, batches, ranks, dtype):
        self.batches = batches
        self.ranks = ranks
        self.dtype = dtype
        self.reads_own = isinstance(batches, Streamed)
        if self.reads_own:
            batches.part = self.part

    def __getattr__(self, name):
        if name == "batches":
            raise AttributeError(name)
        return getattr(self.batches, name)

    @property
    def copies(self):
        """See ``Batches``."""
        return self.batches.copies

    @copies.setter
    def copies(self, value):
        self.batches.copies = value

    def __len__(self):
        return len(self.batches)

    def part(self, size):
        """Return where the part of this process lies in a batch of ``size`` rows."""
        index, count = self.ranks.index, self.ranks.count
        return slice(size * index // count, size * (index + 1) // count)

    def __iter__(self):
        """Yield this process's part of each batch."""
        if self.reads_own:
            for size, batch in zip(self.batches.sizes, self.batches, strict=True):
                yield self._weighed(batch, size)
            return
        for batch in self.batches:
            size = len(batch.y)
            rows = self.part(size)
            weight = None if batch.weight is None else batch.weight[rows]
            x = each(lambda part, rows=rows: part[rows], batch.x)
            y = batch.y[rows]
            yield self._weighed(batch._replace(x=x, y=y, weight=weight, total=len(y)), size)

    def _weighed(self, batch, size):
        """Make the mean over processes of the losses that of the whole batch of ``size`` rows.

        Gradients are averaged over processes: where their parts are not of one weight, each loss is
        ``sum(w * loss)`` over the mean weight of a part.
        """
        if batch.weight is None:
            if size % self.ranks.count == 0:
                return batch
            ones = torch.ones(len(batch.y), dtype=self.dtype, device=batch.y.device)
            return batch._replace(weight=ones, total=size / self.ranks.count)
        total = self.ranks.sum(batch.weight.sum()) / self.ranks.count
        return batch._replace(total=total.clamp_(min=torch.finfo(total.dtype).tiny))
