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
        values, weights = torch.stack(self.values), self.weights
        if isinstance(weights[0], torch.Tensor):
            weights = torch.stack(weights)
            self.sums.append((torch.dot(values, weights), weights.sum()))
        elif len({*weights}) == 1:
            # Without weights that are first copied to the device, which would wait for it.
            self.sums.append((values.sum() * weights[0], sum(weights)))
        else:
            self.sums.append((torch.dot(values, values.new_tensor(weights)), sum(weights)))
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
        losses, weights = torch.stack(self.losses), self.weights
        if self.sums is None:
            self.sums = losses.new_zeros(2, self.n_members)
        total, weight = self.sums[:, self.members]
        if isinstance(weights[0], torch.Tensor):
            weights = torch.stack(weights)
            total.add_((losses * weights).sum(0))
            weight.add_(weights.sum(0))
        elif len({*weights}) == 1:
            total.add_(losses.sum(0), alpha=weights[0])
            weight.add_(sum(weights))
        else:
            # No product of matrices, which may be of less precision.
            total.add_((losses * losses.new_tensor(weights)[:, None]).sum(0))
            weight.add_(sum(weights))
        self.losses, self.weights = [], []
