"""Means over samples of what is computed batch by batch, without a read from the device."""

import torch

__all__ = ["Mean", "Means"]

# Numbers that are kept before they are added up. Each is a small tensor, which in the memory that
# earlier batches have left stands in the way of later ones.
_MOST_KEPT = 32


class Mean:
    """Mean of the losses of batches, by the total weight of each.

    Parameters
    ----------
    ranks : Ranks, optional
        Processes over which it is taken too.
    """

    def __init__(self, ranks=None):
        self.ranks = ranks
        self.values, self.weights = [], []
        self.sums = []

    def add(self, value, weight):
        """Take in a 0-d tensor; its weight is a number, or a 0-d tensor too."""
        self.values.append(value)
        self.weights.append(weight)
        if len(self.values) == _MOST_KEPT:
            self._add_up()

    def compute(self):
        """Return the mean, a 0-d tensor."""
        if len(self.values) == 1 and not self.sums and self.ranks is None:
            return self.values[0]
        if self.values:
            self._add_up()
        total, weight = map(sum, zip(*self.sums, strict=True))
        if self.ranks is not None:
            weight = torch.as_tensor(weight, dtype=total.dtype, device=total.device)
            total, weight = self.ranks.sum(torch.stack([total, weight]))
        return total / weight

    def _add_up(self):
        self.sums.append(_summed(self.values, self.weights))
        self.values, self.weights = [], []


class Means:
    """The same of many fits at once.

    Parameters
    ----------
    n_members : int
    """

    def __init__(self, n_members):
        self.n_members = n_members
        self.members = slice(0, n_members)
        self.losses, self.weights = [], []
        self.sums = None

    def add(self, members, loss, total):
        """Take in the losses of some members' batches, and their total weights.

        Parameters
        ----------
        members : slice
        loss : Tensor of shape (n_some,)
        total : float or Tensor of shape (n_some,)
        """
        if members != self.members or len(self.losses) == _MOST_KEPT:
            self._add_up()
            self.members = members
        self.losses.append(loss)
        self.weights.append(total)

    def compute(self):
        """Return the means, of shape (n_members,)."""
        self._add_up()
        return torch.div(*self.sums)

    def _add_up(self):
        if not self.losses:
            return
        if self.sums is None:
            self.sums = self.losses[0].new_zeros(2, self.n_members)
        for row, added in zip(self.sums, _summed(self.losses, self.weights), strict=True):
            row[self.members] += added
        self.losses, self.weights = [], []


def _summed(values, weights):
    """Return the weighted sum of tensors of one shape, and the sum of their weights.

    Parameters
    ----------
    values : list of Tensor of shape () or (n_some,)
    weights : list of float, or of Tensor of the shape of the values
    """
    values = torch.stack(values)
    if isinstance(weights[0], torch.Tensor):
        weights = torch.stack(weights)
        return (values * weights).sum(0), weights.sum(0)
    if len({*weights}) == 1:
        # Without weights that are first copied to the device, which would wait for it.
        return values.sum(0) * weights[0], sum(weights)
    # No product of matrices, which may be of less precision.
    rows = values.new_tensor(weights).view(-1, *[1] * (values.ndim - 1))
    return (values * rows).sum(0), sum(weights)
