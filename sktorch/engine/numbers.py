"""The numbers that differ between fits which are otherwise computed alike, as tensors."""

from typing import NamedTuple

import torch

from sktorch.engine.updates import find_update

__all__ = ["LiveNumbers", "Numbers", "Uses"]


class Uses(NamedTuple):
    """Which parts of a step a fit has."""

    penalties: bool
    clipping: bool
    momentum: bool

    @classmethod
    def of(cls, *states):
        """Return what any of some fits uses."""
        return cls(
            penalties=any(state.penalty is not None for state in states),
            clipping=any(state.clip_norm is not None for state in states),
            momentum=any(find_update(state.optimizer).has_momentum for state in states),
        )


class Numbers(NamedTuple):
    """What may differ between fits of one kind, as tensors of float64.

    In a stack each has one more axis, of members, before its last one: ``limit`` is of shape
    (n_members, 1).

    Parameters
    ----------
    table : Tensor of shape (n_numbers, n_columns)
        What the update takes, in the order of its names. There is one column for all parameters
        where the optimizer has one group of them, all as many steps old, else one for each.
    penalties : Tensor of shape (2, n_parameters), or empty
        Strengths of l1 and l2.
    limit : Tensor of shape (), or empty
        Norm of the gradients to clip at.
    loss : Tensor of shape (n_loss_numbers,)
        Arguments of the loss.
    """

    table: torch.Tensor
    penalties: torch.Tensor
    limit: torch.Tensor
    loss: torch.Tensor


class LiveNumbers:
    """The numbers of one fit or of a stack, as they are now.

    Parameters
    ----------
    step : FunctionalStep
    states : list of FitState
        One, unless ``step`` is stacked.

    Attributes
    ----------
    now : Numbers
        Always the same tensors.
    """

    def __init__(self, step, states):
        self.step = step
        self.states = states
        device = states[0].device
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.n_columns = 1 if all(map(_is_uniform, states)) else len(step.names)
        self.known = self._read()
        rows = [self._table(), self._strengths(), self._limits(), self._loss_numbers()]
        self.now = Numbers(*(self._tensor(each).to(device) for each in rows))

    def refresh(self):
        """Take over what schedules and callbacks have changed."""
        known = self._read()
        if known != self.known:
            self.known = known
            self.now.table.copy_(self._tensor(self._table()))

    def _tensor(self, rows):
        """Return numbers of each fit as one tensor; members come before the last axis."""
        tensor = torch.tensor(rows, dtype=self.dtype)
        return tensor.movedim(0, -2).contiguous() if self.step.is_stacked else tensor[0]

    def _read(self):
        numbers = self.step.update.numbers
        return [[numbers(g) for g in state.optimizer.param_groups] for state in self.states]

    def _table(self):
        tables = []
        for state, columns in zip(self.states, self.known, strict=True):
            if self.n_columns > 1:
                groups = zip(columns, state.optimizer.param_groups, strict=True)
                columns = [column for column, group in groups for _ in group["params"]]
            tables.append([*zip(*columns, strict=True)])
        return tables

    def _strengths(self):
        if not self.step.uses.penalties:
            return [[]] * len(self.states)
        return [[_strengths(state, kind) for kind in ("l1", "l2")] for state in self.states]

    def _limits(self):
        limits = [
            torch.inf if state.clip_norm is None else state.clip_norm for state in self.states
        ]
        if not self.step.uses.clipping:
            return [[]] * len(self.states)
        return [[limit] for limit in limits] if self.step.is_stacked else limits

    def _loss_numbers(self):
        names = self.step.loss_names
        return [[state.objective.numbers[name] for name in names] for state in self.states]


def _is_uniform(state):
    """Whether one column of numbers serves all parameters, which have taken as many steps."""
    slots = [state.optimizer.state.get(p, {}) for p in state.parameters]
    counts = {float(own.get("step", 0.0)) for own in slots}
    return len(state.optimizer.param_groups) == len(counts) == 1


def _strengths(state, kind):
    """Return the strength of one penalty on each parameter."""
    strengths = {id(p): strength for p, strength in getattr(state.penalty, kind, ())}
    return [strengths.get(id(p), 0.0) for p in state.parameters]
