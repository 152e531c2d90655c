"""The training step as a function of tensors: for a compiler, and for many nets at once."""

from itertools import islice

import torch
from torch.func import functional_call, grad_and_value, vmap

from sktorch.engine.updates import find_update

__all__ = ["FunctionalStep"]


class FunctionalStep:
    """What ``train_step`` does to one fit, or to each of a stack of them.

    Whatever may differ between fits of one kind is a tensor: rates and decays, penalties, the norm
    to clip at, the arguments of the loss.

    Parameters
    ----------
    state : FitState
        The fit, or one of a stack.
    stacked : bool, default=False
        Whether each tensor has a leading axis of members.
    penalised, clips : bool, optional
        Whether there are penalties, and a norm to clip at; by default as in ``state``.
    tensor_numbers : bool, default=True
        Whether arguments of the loss are tensors; some of torch's losses take floats only.
    """

    def __init__(self, state, *, stacked=False, penalised=None, clips=None, tensor_numbers=True):
        self.net = state.net
        self.objective = state.objective
        self.precision = state.precision
        self.update = find_update(state.optimizer)
        self.stacked = stacked
        self.penalised = state.penalty is not None if penalised is None else penalised
        self.clips = state.clip_norm is not None if clips is None else clips
        self.numbers = list(state.objective.numbers) if tensor_numbers else []
        self.names = list(state.names)
        self.buffers = [name for name, _ in state.net.named_buffers()]
        trained = {id(p) for p in state.parameters}
        self.fixed = [n for n, p in state.net.named_parameters() if id(p) not in trained]

    # What it is called with -------------------------------------------------------------------

    def tensors(self, state):
        """Return the tensors of ``state`` that are computed with, in the order of ``__call__``."""
        slots = [
            slot
            for parameter in state.parameters
            for slot in self.update.slots(state.optimizer, parameter).values()
        ]
        named = dict(state.net.named_parameters())
        return [
            *(p.detach() for p in state.parameters),
            *state.net.buffers(),
            *(named[name].detach() for name in self.fixed),
            *slots,
        ]

    def table(self, state):
        """Return the numbers of each parameter: lists, one for each row of the table."""
        groups = [group for group in state.optimizer.param_groups for _ in group["params"]]
        rows = [list(row) for row in zip(*map(self.update.numbers, groups), strict=True)]
        if self.penalised:
            for pairs in ("l1", "l2"):
                strengths = {id(p): s for p, s in getattr(state.penalty, pairs, ())}
                rows.append([strengths.get(id(p), 0.0) for p in state.parameters])
        if self.clips:
            limit = float("inf") if state.clip_norm is None else state.clip_norm
            rows.append([limit] * len(groups))
        return rows

    def loss_numbers(self, state):
        """Return the arguments of the loss, a list."""
        return [state.objective.numbers[name] for name in self.numbers]

    # The step ---------------------------------------------------------------------------------

    def __call__(self, tensors, table, loss_numbers, x, y, weight, total):
        """Update parameters, buffers and slots in place.

        Parameters
        ----------
        tensors : list of Tensor
            As from ``tensors``, each with a leading axis of members in a stack; there, slots that
            are numbers have the shape that broadcasts over their parameter.
        table : Tensor of shape (n_rows, n_parameters) or (n_rows, n_members, n_parameters)
        loss_numbers : Tensor of shape (n_numbers,) or (n_members, n_numbers)
        x, y, weight, total
            As in ``Batch``.

        Returns
        -------
        loss : Tensor of shape () or (n_members,)
        y_pred : Tensor
        """
        parts = iter(tensors)
        parameters, buffers, fixed = (
            list(islice(parts, len(names))) for names in (self.names, self.buffers, self.fixed)
        )
        gradients, (loss, (y_pred, moved)) = self._differentiate(
            parameters, buffers, fixed, loss_numbers, x, y, weight, total
        )
        for buffer, after in zip(buffers, moved, strict=True):
            buffer.copy_(after)
        numbers = [self._numbers(table, k, p) for k, p in enumerate(parameters)]
        if self.penalised:
            gradients = [
                g + n.pop("l2") * p + n.pop("l1") * p.sign()
                for g, n, p in zip(gradients, numbers, parameters, strict=True)
            ]
        if self.clips:
            limits = [n.pop("clip") for n in numbers]
            gradients = self._clipped(gradients, limits)
        n_slots = len(self.update.slot_names())
        for p, g, n in zip(parameters, gradients, numbers, strict=True):
            self.update(p, g, list(islice(parts, n_slots)), **n)
        return loss, y_pred

    def _differentiate(self, parameters, buffers, fixed, loss_numbers, *batch):
        step = grad_and_value(self._loss, has_aux=True)
        if self.stacked:
            of_batch = [0 if isinstance(part, torch.Tensor) else None for part in batch]
            step = vmap(step, (0, 0, 0, 0, *of_batch), randomness="different")
        return step(parameters, buffers, fixed, loss_numbers, *batch)

    def _loss(self, parameters, buffers, fixed, loss_numbers, x, y, weight, total):
        # Copies, because what a transform of torch did not wrap cannot be written to in it.
        buffers = [buffer.clone() for buffer in buffers]
        names = (*self.names, *self.buffers, *self.fixed)
        held = dict(zip(names, (*parameters, *buffers, *fixed), strict=True))
        y_pred = self.precision.forward(lambda x: functional_call(self.net, held, (x,)), x)
        numbers = dict(zip(self.numbers, loss_numbers.unbind(), strict=True))
        loss = self.objective(y_pred, y, weight, total, **numbers)
        return loss, (y_pred, buffers)

    def _numbers(self, table, k, parameter):
        """Return the numbers of parameter ``k`` by name, in a shape that broadcasts over it."""
        names = [*self.update.names, *(["l1", "l2"] if self.penalised else [])]
        names += ["clip"] if self.clips else []
        columns = table[..., k]
        if self.stacked:
            columns = columns.reshape(len(names), -1, *[1] * (parameter.ndim - 1))
        return dict(zip(names, columns.unbind(), strict=True))

    def _clipped(self, gradients, limits):
        """Scale gradients so that the norm of all together is at most the limit."""
        axis = int(self.stacked)
        flat = [g.flatten(axis) if g.ndim > axis else g.unsqueeze(axis) for g in gradients]
        norm = torch.cat(flat, dim=axis).norm(dim=axis)
        clipped = []
        for g, limit in zip(gradients, limits, strict=True):
            own = norm.reshape(limit.shape)
            clipped.append(g * (limit / (own + 1e-6)).clamp(max=1.0).to(g.dtype))
        return clipped
