"""The update of a whole stack by one kernel of torch."""

from itertools import chain

import torch

__all__ = ["FusedMove"]


class FusedMove:
    """Adam's step for members that differ in learning rate and decay alone.

    Torch's kernel takes one learning rate for all. It is given 1, and zeros in place of the
    parameters; what it leaves there is where each is to go, by as much as the rate of its member.

    Parameters
    ----------
    step : MappedStep
        With the update of Adam or AdamW.
    shared : dict of str to float
        What members have in common of its numbers: betas and eps.
    decays : bool
        Whether any member has a decay.
    like : Tensor of shape (n_members, n_numbers)
        The parameters of all members.
    """

    def __init__(self, step, shared, decays, like):
        self.columns = step.columns
        self.decoupled = step.update.flagged["decoupled_weight_decay"]
        self.shared = shared
        self.decays = decays
        self.direction = torch.empty_like(like)

    @classmethod
    def of(cls, step, numbers, tensors):
        """Return that of a stack, or None where its members differ in more.

        Parameters
        ----------
        step : MappedStep
        numbers : LiveNumbers
        tensors : list of Tensor
        """
        held = step.sort(tensors)
        (block,) = held.parameters
        if not (step.update.fuses and block.is_cpu and block.is_floating_point()):
            return None
        (counts,) = held.counts
        _, decays, *others = zip(*chain.from_iterable(numbers.known), strict=True)
        if any(len({*values}) > 1 for values in others) or (counts != counts[0, 0]).any():
            return None
        shared = dict(zip(step.update.names[2:], (values[0] for values in others), strict=True))
        return cls(step, shared, any(decays), block)

    def __call__(self, held, gradients, table):
        """Take one step of some members; the parameters are those of ``FunctionalStep.move``."""
        (p,), (g,), (counts,) = held.parameters, gradients, held.counts
        (mean,), (square,), *largest = held.slots
        (lr,) = self.columns(table[0], [p])
        counts.add_(1)
        if self.decays:
            (decay,) = self.columns(table[1], [p])
            if self.decoupled:
                p.mul_(1 - lr * decay)
            else:
                g = torch.addcmul(g, decay, p)
        direction = self.direction[: len(p)].zero_()
        torch._fused_adam_(
            [direction],
            [g],
            [mean],
            [square],
            [block for (block,) in largest],
            [counts[0, 0]],
            lr=1.0,
            weight_decay=0.0,
            amsgrad=bool(largest),
            maximize=False,
            **self.shared,
        )
        p.addcmul_(direction, lr)
