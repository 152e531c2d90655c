"""The training step of many nets at once."""

from functools import partial

import torch
from torch import nn
from torch._C import _functorch
from torch._functorch.vmap import lazy_load_decompositions
from torch.func import vmap
from torch.nn import functional as F

from sktorch.copying import duplicate
from sktorch.engine.functional import FunctionalStep, Held

__all__ = ["MappedStep"]


class MappedStep(FunctionalStep):
    """``FunctionalStep`` for a stack: each of its tensors has a leading axis of members.

    All parameters of a member are one row of one tensor, and so are their slots: an update is a
    few operations, however many parameters there are.

    Parameters
    ----------
    state : FitState
        One of the members; the others differ from it in numbers only.
    uses, tensor_numbers
        As for ``FunctionalStep``.
    """

    is_stacked = True
    n_blocks = 1

    def __init__(self, state, *, uses=None, tensor_numbers=True):
        super().__init__(state, uses=uses, tensor_numbers=tensor_numbers)
        # To be called; that of a member is the member's again once it leaves.
        self.net = duplicate(state.net)
        self.places = _places(self.net, (*self.names, *self.buffers, *self.fixed))
        for module in self.net.modules():
            forward = vars(module).get("forward", type(module).forward)
            if forward is nn.Linear.forward:
                module.forward = partial(_on_columns, module)
        self.shapes = [p.shape for p in state.parameters]
        self.sizes = [p.numel() for p in state.parameters]

    # Members and their tensors ----------------------------------------------------------------

    @torch.no_grad()
    def gather(self, members):
        """Return copies of what fits hold, as the tensors of a stack.

        Parameters
        ----------
        members : list of Held
        """
        parameters, buffers, fixed, counts, slots = zip(*members, strict=True)
        return Held(
            parameters=[_joined(parameters)],
            buffers=[torch.stack(tensors) for tensors in zip(*buffers, strict=True)],
            fixed=[torch.stack(tensors) for tensors in zip(*fixed, strict=True)],
            counts=[_joined(counts)] if self.update.counts else [],
            slots=[[_joined(tensors)] for tensors in zip(*slots, strict=True)],
        ).flat()

    def members(self, tensors):
        """Return the tensors of each member, views of a stack's, in the order of ``held_by``."""
        held = self.sort(tensors)
        parts = Held(
            parameters=self._split(held.parameters[0]),
            buffers=held.buffers,
            fixed=held.fixed,
            counts=[count for counts in held.counts for count in counts.unbind(1)],
            slots=[self._split(block) for (block,) in held.slots],
        )
        return [*zip(*(part.unbind() for part in parts.flat()), strict=True)]

    def place(self, held, views):
        """Let what a fit holds be views of the tensors of a stack."""
        for own, view in zip(held.flat(), views, strict=True):
            own.data = view

    def set_free(self, held, views):
        """Let what a fit holds be copies, where it still is views."""
        for own, view in zip(held.flat(), views, strict=True):
            if own.data_ptr() == view.data_ptr():
                own.data = view.clone()

    def _split(self, block):
        """Return the parameters that a block holds, for all members."""
        parts = zip(block.split(self.sizes, -1), self.shapes, strict=True)
        return [part.view(*block.shape[:-1], *shape) for part, shape in parts]

    # The step ---------------------------------------------------------------------------------

    def shaped(self, blocks):
        """Return the parameters of all members."""
        return self._split(blocks[0])

    def blocks(self, gradients):
        """Return the gradients of parameters as one tensor."""
        return [torch.cat([g.flatten(1) if g.ndim > 1 else g[:, None] for g in gradients], dim=1)]

    def predict(self, forward, parameters, held, x):
        """Return the predictions of all members, and their buffers."""
        return mapped(partial(self._predict, forward), parameters, held.buffers, held.fixed, x)

    def net_with(self, tensors):
        """Return the net, which holds other tensors from now on."""
        for tensor, places in zip(tensors, self.places, strict=True):
            for mapping, name in places:
                mapping[name] = tensor
        return self.net

    def loss_of(self, y_pred, y, weight, total, numbers):
        """Return the loss of each member's batch."""
        if self.objective.by_rows and not self.loss_names:
            return self.objective.of_members(y_pred, y, weight, total)
        axes = (0, 0, *(0 if isinstance(each, torch.Tensor) else None for each in (weight, total)))
        return vmap(super().loss_of, (*axes, 0), randomness="different")(
            y_pred, y, weight, total, numbers
        )

    def columns(self, numbers, blocks):
        """Return numbers by member and column, as they broadcast over the block."""
        numbers = numbers.to(blocks[0].dtype)
        if numbers.shape[1] == 1:
            return [numbers]
        parts = zip(numbers.split(1, dim=1), self.sizes, strict=True)
        return [torch.cat([part.expand(-1, size) for part, size in parts], dim=1)]

    def norm(self, gradients):
        """Return the norm of each member's gradients."""
        return gradients[0].norm(dim=1, keepdim=True)

    def count(self, counts, table):
        """Count a step of each member; return the steps by member and column, or None."""
        for count in counts:
            count.add_(1)
        return counts[0][:, : table.shape[-1]] if counts else None


def mapped(predict, parameters, buffers, fixed, x):
    """Return ``predict`` of each member: the prediction, and the buffers as it leaves them.

    This is ``torch.func.vmap`` for just these lists of tensors. Its way through containers of any
    kind takes as long as the forward of a small net.
    """
    lazy_load_decompositions()
    n_members = len(x)
    level = _functorch._vmap_increment_nesting(n_members, "different")
    try:
        inside = [
            [_functorch._add_batch_dim(tensor, 0, level) for tensor in tensors]
            for tensors in (parameters, buffers, fixed, [x])
        ]
        y_pred, moved = predict(*inside[:3], *inside[3])
        return (
            _functorch._remove_batch_dim(y_pred, level, n_members, 0),
            [_functorch._remove_batch_dim(tensor, level, n_members, 0) for tensor in moved],
        )
    finally:
        _functorch._vmap_decrement_nesting()


def _joined(members):
    """Return lists of tensors, one list for each member, as rows of one tensor."""
    return torch.stack([torch.cat([t.reshape(-1) for t in tensors]) for tensors in members])


def _places(net, names):
    """Return where a net holds its tensors: by name, the mappings of modules and keys in them."""
    places = {}
    for module in net.modules():
        for mapping in (module._parameters, module._buffers):
            for name, tensor in mapping.items():
                places.setdefault(id(tensor), []).append((mapping, name))
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return [places[id(named[name])] for name in names]


def _on_columns(linear, x):
    """Compute the forward of a linear layer so that gradients have the layout of its weight.

    As torch maps it they are transposed, which costs as much as the product, and the bias is added
    in an operation of its own.
    """
    weight, bias = linear.weight, linear.bias
    tensors = (weight, x) if bias is None else (weight, x, bias)
    levels = {_level(tensor) for tensor in tensors}
    if x.ndim != 2 or len(levels) > 1 or None in levels:
        return F.linear(x, weight, bias)
    (level,) = levels
    weight, x, *bias = map(_members_first, tensors)
    y = torch.baddbmm(bias[0].unsqueeze(2), weight, x.mT) if bias else weight @ x.mT
    return _functorch._add_batch_dim(y.mT, 0, level)


def _level(tensor):
    """Return which of torch's mappings, that may be inside of each other, a tensor belongs to."""
    return _functorch.maybe_get_level(tensor) if _functorch.is_batchedtensor(tensor) else None


def _members_first(tensor):
    """Return what a mapped tensor is of all members, their axis being the first."""
    axis, tensor = _functorch.maybe_get_bdim(tensor), _functorch.get_unwrapped(tensor)
    return tensor.movedim(axis, 0) if axis else tensor
