"""What one fit holds while it runs."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn

from sktorch.callbacks import Callback
from sktorch.data.batches import Resident
from sktorch.engine.randomness import RandomStream
from sktorch.history import History
from sktorch.losses import Objective

__all__ = ["FitState"]


@dataclass
class FitState:
    """Everything a fit reads and changes; the user's objects are not among it.

    Parameters
    ----------
    net : nn.Module
    objective : Objective
    optimizer : torch.optim.Optimizer
    train : Resident
    valid : Resident or None
    order : torch.Generator
        Shuffles ``train``.
    stream : RandomStream
        What dropout draws from.
    is_random : bool
        Whether the net draws from it.
    device : torch.device
    max_epochs : int
        Epochs of this run, beyond those already in ``history``.
    callbacks : list of Callback
    history : History
    epoch : int
        The current epoch; the first is 1.
    stop_reason : str or None
        Set by a callback to end the fit after the current epoch.
    """

    net: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    train: Resident
    valid: Resident | None
    order: torch.Generator
    stream: RandomStream
    is_random: bool
    device: torch.device
    max_epochs: int = 1
    callbacks: list[Callback] = field(default_factory=list)
    history: History = field(default_factory=History)
    epoch: int = 0
    stop_reason: str | None = None

    def __post_init__(self):
        groups = self.optimizer.param_groups
        self.parameters = [p for group in groups for p in group["params"]]
        # Entered around each forward of training.
        self.randomness = self.stream if self.is_random else nullcontext()
        modules = [m for m in (self.net, self.objective.module) if m is not None]
        self._tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        self._kept = None

    def progress(self):
        """Return what ``resume`` needs beside the weights and the history."""
        return {
            "optimizer": self.optimizer.state_dict()["state"],
            "order": self.order.get_state(),
            "dropout": self.stream.states,
        }

    def resume(self, progress, rows):
        """Go on from where another fit was; this one's own learning rate and settings hold."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": progress["optimizer"], "param_groups": groups})
        self.order.set_state(progress["order"])
        self.stream.states = progress["dropout"]
        self.history = History(rows)
        self.epoch = len(rows)

    def keep_weights(self):
        """Remember the weights as they are now."""
        if self._kept is None:
            self._kept = [tensor.detach().clone() for tensor in self._tensors]
        else:
            self._copy(self._kept, self._tensors)

    def restore_weights(self):
        """Go back to the weights last kept, if any were."""
        if self._kept is not None:
            self._copy(self._tensors, self._kept)

    @staticmethod
    @torch.no_grad()
    def _copy(into, source):
        for a, b in zip(into, source, strict=True):
            a.copy_(b)
