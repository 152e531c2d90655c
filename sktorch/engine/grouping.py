"""Which fits can train as one, and why others cannot."""

from operator import length_hint

import torch
from torch import nn
from torch.func import vmap

from sktorch.callbacks import ProgressBar
from sktorch.data.batches import Resident
from sktorch.engine.eligibility import refusal
from sktorch.engine.structure import structure
from sktorch.engine.threads import forward_flops
from sktorch.engine.updates import find_update

__all__ = ["group", "why_alone"]

# Operations of one net in the forward of a batch above which a CPU gains nothing by more of them.
_WIDE_FLOPS = 2e7

# Layers that torch.func cannot map over members.
_UNMAPPED = (nn.RNNBase, nn.RNNCellBase)


def group(states):
    """Sort fits by what must be equal for them to train as one.

    Returns
    -------
    groups : list of list of FitState
    """
    groups = {}
    for state in states:
        groups.setdefault(kind_of(state), []).append(state)
    return list(groups.values())


def kind_of(state):
    """Return what is equal for fits that can be members of one stack."""
    numbers = tuple(state.objective.numbers.items())
    update = find_update(state.optimizer)
    parts = [state.train, *([] if state.valid is None else [state.valid])]
    return (
        structure(state.net),
        structure(state.objective.key),
        () if _maps_numbers(state) else numbers,
        type(state.optimizer) if update is None else update.kind,
        tuple(state.names),
        (type(state.precision), state.device, state.is_random, state.compile),
        tuple(_kind_of_data(part) for part in parts),
        # A single batch may be of any size.
        state.train.sizes[0] if length_hint(state.train, 2) > 1 else None,
        "" if update is not None else id(state),
    )


def _kind_of_data(part):
    if not _is_one_tensor(part):
        return type(part)
    tensors = (part.x, part.y, part.weight)
    return tuple(None if t is None else (tuple(t.shape[1:]), t.dtype) for t in tensors)


def _is_one_tensor(part):
    return isinstance(part, Resident) and isinstance(part.x, torch.Tensor)


def _maps_numbers(state):
    """Whether the loss takes its arguments as tensors, a set of them for each member."""
    numbers = state.objective.numbers
    if not numbers:
        return True
    batch = state.train.head(2)
    values = torch.tensor([[*numbers.values()]] * 2, dtype=torch.float64, device=state.device)

    def loss(values, y_pred):
        held = dict(zip(numbers, values.unbind(), strict=True))
        return state.objective(y_pred, batch.y, batch.weight, batch.total, **held)

    state.net.eval()
    with torch.no_grad(), state.stream.undone():
        y_pred = state.forward(batch.x)
        try:
            vmap(loss, (0, None))(values, y_pred)
        except Exception:
            return False
    return True


def why_alone(state):
    """Return why fits like this one are trained one by one, or ""."""
    for name, module in state.net.named_modules():
        if isinstance(module, _UNMAPPED):
            return f"net has a layer {type(module).__name__} ({name or 'the net itself'})"
    watching = [
        type(callback).__name__
        for hook in ("on_batch_begin", "on_batch_end")
        for callback in (call.__self__ for call in state.hooks[hook])
        if not isinstance(callback, ProgressBar)
    ]
    if watching:
        return f"callback {watching[0]} runs at each batch"
    if reason := refusal(state):
        return reason
    if state.valid is not None and not _is_one_tensor(state.valid):
        return "the validation data is streamed"
    if state.device.type == "cpu" and forward_flops(state) > _WIDE_FLOPS:
        return (
            f"net {type(state.net).__name__} is so wide that a CPU is busy with one at a time, and "
            "gains nothing by more"
        )
    return ""
