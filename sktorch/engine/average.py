"""Weights averaged over the steps of a fit."""

import torch

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of parameters (Polyak and Juditsky, 1992).

    Parameters
    ----------
    parameters : list of Parameter
    decay : float
        Share of the average that each step keeps, in (0, 1). The first step sets it.

    Attributes
    ----------
    others : list of Tensor or None
        The averages; while they are in use, the weights that training goes on with.
    in_use : bool
        Whether the parameters are the averages now.
    """

    def __init__(self, parameters, decay):
        self.parameters = parameters
        self.decay = decay
        self.others = None
        self.in_use = False

    @torch.no_grad()
    def update(self):
        """Take the weights after a step into the average."""
        if self.others is None:
            self.others = [p.detach().clone() for p in self.parameters]
        else:
            torch._foreach_lerp_(self.others, self.parameters, 1 - self.decay)

    @torch.no_grad()
    def use(self, averages):
        """Make the parameters the averages, or the weights that training goes on with."""
        if averages == self.in_use or self.others is None:
            return
        now = [p.detach().clone() for p in self.parameters]
        torch._foreach_copy_(self.parameters, self.others)
        self.others = now
        self.in_use = averages
