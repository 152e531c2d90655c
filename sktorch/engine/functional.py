"""The training step as a function of tensors: for a compiler, and for many nets at once."""

from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch.func import functional_call, grad_and_value, vmap

from sktorch.engine.updates import find_update

__all__ = ["FunctionalStep", "Numbers", "Uses"]


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


class FunctionalStep:
    """What ``train_step`` does to one fit, or to each of a stack of them.

    Whatever may differ between fits of one kind is a tensor: rates and decays, penalties, the norm
    to clip at, the arguments of the loss.

    Parameters
    ----------
    state : FitState
        The fit, or one of a stack.
    net : nn.Module, optional
        What to call; by default the net of ``state``.
    stacked : bool, default=False
        Whether each tensor has a leading axis of members.
    uses : Uses, optional
        By default what ``state`` uses; more does no harm.
    tensor_numbers : bool, default=True
        Whether arguments of the loss are tensors; some of torch's losses take floats only.
    """

    def __init__(
        self,
        state,
        *,
        net=None,
        stacked=False,
        uses=None,
        tensor_numbers=True,
    ):
        self.net = state.net if net is None else net
        self.objective = state.objective
        self.precision = state.precision
        self.update = find_update(state.optimizer)
        self.stacked = stacked
        self.uses = uses or Uses.of(state)
        self.update.has_momentum = self.uses.momentum
        # What each row of the table of numbers holds.
        self.rows = [*self.update.names]
        self.rows += ["l1", "l2"] if self.uses.penalties else []
        self.rows += ["clip"] if self.uses.clipping else []
        self.numbers = list(state.objective.numbers) if tensor_numbers else []
        self.names = list(state.names)
        self.buffers = [name for name, _ in state.net.named_buffers()]
        trained = {id(p) for p in state.parameters}
        self.fixed = [n for n, p in state.net.named_parameters() if id(p) not in trained]

    # What it is called with -------------------------------------------------------------------

    def tensors(self, state):
        """Return the tensors of ``state`` that are computed with, in the order of ``__call__``."""
        return [tensor.detach() for tensor in self._held(state)]

    def _held(self, state):
        slots = [
            slot
            for parameter in state.parameters
            for slot in self.update.slots(state.optimizer, parameter).values()
        ]
        named = dict(state.net.named_parameters())
        return [
            *state.parameters,
            *state.net.buffers(),
            *(named[name] for name in self.fixed),
            *slots,
        ]

    def place(self, state, tensors):
        """Let ``state`` hold other tensors, in the order of ``tensors``."""
        for own, tensor in zip(self._held(state), tensors, strict=True):
            own.data = tensor

    def set_free(self, state, tensors):
        """Let ``state`` hold copies of those of the tensors that it holds."""
        for own, tensor in zip(self._held(state), tensors, strict=True):
            if own.data_ptr() == tensor.data_ptr():
                own.data = tensor.clone()

    def holds(self, state, tensors):
        """Whether ``state`` still holds these tensors, and trains the parameters it did."""
        held = zip(self._held(state), tensors, strict=True)
        return all(p.requires_grad for p in state.parameters) and all(
            own.data_ptr() == tensor.data_ptr() for own, tensor in held
        )

    def table(self, state):
        """Return the numbers of each parameter: lists, one for each row of the table."""
        groups = [group for group in state.optimizer.param_groups for _ in group["params"]]
        rows = [list(row) for row in zip(*map(self.update.numbers, groups), strict=True)]
        if self.uses.penalties:
            for pairs in ("l1", "l2"):
                strengths = {id(p): s for p, s in getattr(state.penalty, pairs, ())}
                rows.append([strengths.get(id(p), 0.0) for p in state.parameters])
        if self.uses.clipping:
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
            As from ``tensors``, each with a leading axis of members in a stack.
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
        held = (parameters, buffers, fixed, loss_numbers)
        step = grad_and_value(self._loss, has_aux=True)
        gradients, (loss, (y_pred, moved)) = self._mapped(step, held, (x, y, weight, total))
        for buffer, after in zip(buffers, moved, strict=True):
            buffer.copy_(after)
        numbers = [self._numbers(table, k, p) for k, p in enumerate(parameters)]
        if self.uses.penalties:
            gradients = [
                g + n.pop("l2") * p + n.pop("l1") * p.sign()
                for g, n, p in zip(gradients, numbers, parameters, strict=True)
            ]
        if self.uses.clipping:
            limits = [n.pop("clip") for n in numbers]
            gradients = self._clipped(gradients, limits)
        n_slots = len(self.update.slot_names())
        for p, g, n in zip(parameters, gradients, numbers, strict=True):
            slots = [self._broadcast(slot, p) for slot in islice(parts, n_slots)]
            self.update(p, g, slots, **n)
        return loss, y_pred

    def evaluate(self, tensors, loss_numbers, x, y, weight, total):
        """Return loss and prediction, as ``eval_step`` does; parameters as for a call."""
        parts = iter(tensors)
        names = (self.names, self.buffers, self.fixed)
        held = [list(islice(parts, len(part))) for part in names]
        function = partial(self._loss, forward=_as_is)
        loss, (y_pred, _) = self._mapped(function, (*held, loss_numbers), (x, y, weight, total))
        return loss, y_pred

    def _mapped(self, function, held, batch):
        """Call ``function``, or map it over the members."""
        if self.stacked:
            of_batch = [0 if isinstance(part, torch.Tensor) else None for part in batch]
            function = vmap(function, (0, 0, 0, 0, *of_batch), randomness="different")
        return function(*held, *batch)

    def _loss(self, parameters, buffers, fixed, loss_numbers, x, y, weight, total, forward=None):
        # Copies, because what a transform of torch did not wrap cannot be written to in it.
        buffers = [buffer.clone() for buffer in buffers]
        names = (*self.names, *self.buffers, *self.fixed)
        held = dict(zip(names, (*parameters, *buffers, *fixed), strict=True))
        forward = forward or self.precision.forward
        y_pred = forward(lambda x: functional_call(self.net, held, (x,)), x)
        numbers = dict(zip(self.numbers, loss_numbers.unbind(), strict=True))
        loss = self.objective(y_pred, y, weight, total, **numbers)
        return loss, (y_pred, buffers)

    def _numbers(self, table, k, parameter):
        """Return the numbers of parameter ``k`` by name, in a shape that broadcasts over it."""
        columns = table[..., k]
        if self.stacked:
            columns = columns.reshape(len(self.rows), -1, *[1] * (parameter.ndim - 1))
        return dict(zip(self.rows, columns.unbind(), strict=True))

    def _broadcast(self, slot, parameter):
        """Return a slot of one number for each member in a shape that broadcasts."""
        if self.stacked and slot.ndim < parameter.ndim:
            return slot.reshape(-1, *[1] * (parameter.ndim - 1))
        return slot

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


def _as_is(net, x):
    return net(x)


class Numbers:
    """The numbers of one fit or of a stack, as the tensors that a ``FunctionalStep`` takes.

    Parameters
    ----------
    step : FunctionalStep
    states : list of FitState
        One, unless ``step`` is stacked.
    """

    def __init__(self, step, states):
        self.step = step
        self.states = states
        self.now = None
        device = states[0].device
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.table = self._tensor([step.table(state) for state in states]).to(device)
        if step.stacked:
            self.table = self.table.transpose(0, 1).contiguous()
        self.loss = self._tensor([step.loss_numbers(state) for state in states]).to(device)
        if not step.stacked:
            self.table, self.loss = self.table[0], self.loss[0]
        self.now = self._read()

    def _tensor(self, values):
        return torch.tensor(values, dtype=self.dtype)

    def _read(self):
        numbers = self.step.update.numbers
        return [[numbers(g) for g in state.optimizer.param_groups] for state in self.states]

    def refresh(self):
        """Take over what schedules and callbacks have changed."""
        now = self._read()
        if now != self.now:
            self.now = now
            table = self._tensor([self.step.table(state) for state in self.states])
            self.table.copy_(table.transpose(0, 1) if self.step.stacked else table[0])
