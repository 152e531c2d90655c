"""The training step as a function of tensors: for a compiler, and for many nets at once."""

from itertools import chain, islice
from typing import NamedTuple

import torch
from torch.func import functional_call

from sktorch.backward import gradients_of
from sktorch.engine.numbers import Uses
from sktorch.engine.updates import find_update

__all__ = ["FunctionalStep", "Held"]


class Held(NamedTuple):
    """The tensors of a fit by what they are; a step changes all but ``fixed`` in place.

    ``parameters`` and what the optimizer keeps are lists of one tensor for each trained parameter:
    ``slots`` holds such a list for each name, ``counts`` the steps taken or nothing.
    """

    parameters: list
    buffers: list
    fixed: list
    counts: list
    slots: list

    def flat(self):
        """Return all tensors in one list."""
        return [*chain(*self[:-1], *self.slots)]


class FunctionalStep:
    """What ``train_step`` does to a fit, from its tensors and numbers alone.

    Parameters
    ----------
    state : FitState
    uses : Uses, optional
        By default what ``state`` uses; more does no harm.
    tensor_numbers : bool, default=True
        Whether arguments of the loss are tensors; some of torch's losses take floats only.
    """

    is_stacked = False

    def __init__(self, state, *, uses=None, tensor_numbers=True):
        self.net = state.net
        self.objective = state.objective
        self.precision = state.precision
        self.update = find_update(state.optimizer)
        self.uses = uses or Uses.of(state)
        self.update.has_momentum = self.uses.momentum
        self.loss_names = list(state.objective.numbers) if tensor_numbers else []
        self.names = list(state.names)
        self.buffers = [name for name, _ in state.net.named_buffers()]
        trained = {id(p) for p in state.parameters}
        self.fixed = [n for n, p in state.net.named_parameters() if id(p) not in trained]

    # What it is called with -------------------------------------------------------------------

    def held_by(self, state):
        """Return the tensors of a fit, the parameters and slots as they are held."""
        named = dict(state.net.named_parameters())
        slots = [self.update.slots(state.optimizer, p) for p in state.parameters]
        names = self.update.slot_names()
        return Held(
            parameters=state.parameters,
            buffers=[*state.net.buffers()],
            fixed=[named[name] for name in self.fixed],
            counts=[own["step"] for own in slots] if self.update.counts else [],
            slots=[[own[name] for own in slots] for name in names],
        )

    # The step ---------------------------------------------------------------------------------

    def __call__(self, tensors, numbers, x, y, weight, total, move=None):
        """Update parameters, buffers and slots in place.

        Parameters
        ----------
        tensors : list of Tensor
            Those of ``held_by``, without gradients.
        numbers : Numbers
        x, y, weight, total
            As in ``Batch``.
        move : callable, optional
            Takes the step of the optimizer, as the method ``move`` does by formulas.

        Returns
        -------
        loss : Tensor of shape (), or (n_members,) in a stack
        y_pred : Tensor
        """
        held = self.sort(tensors)
        leaves = [p.detach().requires_grad_() for p in self.shaped(held.parameters)]
        y_pred, moved = self.predict(self.precision.forward, leaves, held, x)
        loss = self.loss_of(y_pred, y, weight, total, numbers.loss)
        gradients = self.blocks(gradients_of(loss, leaves))
        with torch.no_grad():
            for buffer, after in zip(held.buffers, moved, strict=True):
                buffer.copy_(after)
            if self.uses.penalties:
                gradients = self._penalized(gradients, held.parameters, numbers.penalties)
            if self.uses.clipping:
                gradients = self._clipped(gradients, numbers.limit)
            (move or self.move)(held, gradients, numbers.table)
        return loss.detach(), y_pred.detach()

    def evaluate(self, tensors, numbers, x, y, weight, total):
        """Return loss and prediction, as ``eval_step`` does; parameters as for a call."""
        held = self.sort(tensors)
        y_pred, _ = self.predict(_as_is, self.shaped(held.parameters), held, x)
        return self.loss_of(y_pred, y, weight, total, numbers.loss), y_pred

    def sort(self, tensors):
        """Return a flat list of tensors by what they are."""
        parts = iter(tensors)
        n_blocks = self.n_blocks
        return Held(
            parameters=[*islice(parts, n_blocks)],
            buffers=[*islice(parts, len(self.buffers))],
            fixed=[*islice(parts, len(self.fixed))],
            counts=[*islice(parts, n_blocks)] if self.update.counts else [],
            slots=[[*islice(parts, n_blocks)] for _ in self.update.slot_names()],
        )

    def predict(self, forward, parameters, held, x):
        """Return the prediction, and the buffers as the forward leaves them."""
        return self._predict(forward, parameters, held.buffers, held.fixed, x)

    def _predict(self, forward, parameters, buffers, fixed, x):
        # Copies, because what a transform of torch did not wrap cannot be written to in it.
        buffers = [buffer.clone() for buffer in buffers]
        net = self.net_with([*parameters, *buffers, *fixed])
        return forward(net, x), buffers

    def loss_of(self, y_pred, y, weight, total, numbers):
        """Return the loss of a batch."""
        named = dict(zip(self.loss_names, numbers.unbind(), strict=True))
        return self.objective(y_pred, y, weight, total, **named)

    def _penalized(self, gradients, parameters, strengths):
        l1, l2 = (self.columns(row, parameters) for row in strengths.unbind())
        pairs = zip(gradients, parameters, l1, l2, strict=True)
        return [g + weak * p + strong * p.sign() for g, p, strong, weak in pairs]

    def _clipped(self, gradients, limit):
        """Scale gradients so that the norm of all together is at most the limit."""
        factor = (limit / (self.norm(gradients) + 1e-6)).clamp(max=1.0)
        return [g * factor.to(g.dtype) for g in gradients]

    def move(self, held, gradients, table):
        """Take one step of the optimizer.

        Parameters
        ----------
        held : Held
            Its parameters, slots and counts are changed in place.
        gradients : list of Tensor
            One for each tensor of parameters.
        table : Tensor
            As in ``Numbers``.
        """
        counts = self.count(held.counts, table)
        # One tensor, so that a compiler computes them once and not for each element.
        factors = torch.stack(self.update.factors(counts, *table.unbind()))
        factors = zip(*(self.columns(f, held.parameters) for f in factors), strict=True)
        slots = zip(*held.slots, strict=True) if held.slots else [()] * self.n_blocks
        for p, g, own, f in zip(held.parameters, gradients, slots, factors, strict=True):
            self.update(p, g, own, *f)

    # What a stack does otherwise --------------------------------------------------------------

    def net_with(self, tensors):
        """Return the net as a function of x that computes with other tensors."""
        held = dict(zip((*self.names, *self.buffers, *self.fixed), tensors, strict=True))
        return lambda x: functional_call(self.net, held, (x,))

    @property
    def n_blocks(self):
        """How many tensors hold the parameters."""
        return len(self.names)

    def shaped(self, blocks):
        """Return the parameters that some blocks hold."""
        return blocks

    def blocks(self, gradients):
        """Return the gradients of parameters as those of blocks."""
        return gradients

    def columns(self, numbers, blocks):
        """Return numbers, of which there is one a column, as a tensor for each block."""
        each = [*numbers.unbind()] * (self.n_blocks // len(numbers))
        return [number.to(block.dtype) for number, block in zip(each, blocks, strict=True)]

    def norm(self, gradients):
        """Return the norm of all gradients together."""
        return torch.cat([g.flatten() for g in gradients]).norm()

    def count(self, counts, table):
        """Count a step; return the steps taken by column of ``table``, or None."""
        for count in counts:
            count.add_(1)
        return torch.stack(counts)[: table.shape[-1]] if counts else None


def _as_is(net, x):
    return net(x)
