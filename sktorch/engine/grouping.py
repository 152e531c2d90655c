"""Which fits can train as one, and why others cannot."""

import warnings
from typing import NamedTuple

import torch
from torch import nn
from torch.func import vmap

from sktorch.callbacks import ProgressBar
from sktorch.data.batches import Resident
from sktorch.engine.eligibility import refusal_of_forward, refusal_of_settings
from sktorch.engine.mapped import MappedStep
from sktorch.engine.numbers import LiveNumbers
from sktorch.engine.probe import PROBE_ROWS
from sktorch.engine.structure import structure
from sktorch.engine.threads import forward_flops
from sktorch.engine.updates import find_update

__all__ = ["Kind", "differences", "group", "why_alone"]

# Operations of one net in the forward of a batch above which a CPU gains nothing by more of them.
_WIDE_FLOPS = 2e7

# Layers that torch.func cannot map over members.
_UNMAPPED = (nn.RNNBase, nn.RNNCellBase)


class Kind(NamedTuple):
    """What is equal for fits that can be members of one stack."""

    net: tuple
    loss: tuple
    optimizer: tuple
    execution: tuple
    data: tuple
    batch_size: int | None
    setting: str


def group(states):
    """Sort fits by their kind.

    Returns
    -------
    groups : dict of Kind to list of FitState
        The key of a fit that cannot even be looked at is another.
    """
    groups = {}
    for state in states:
        try:
            kind = kind_of(state)
        except Exception:
            kind = id(state)  # its own training will say what is wrong with it
        groups.setdefault(kind, []).append(state)
    return {part: alike for kind, states in groups.items() for part, alike in _parts(kind, states)}


def _parts(kind, states):
    """Return fits of a kind by the arguments of their loss, if it takes no tensors for these."""
    by_numbers = {}
    for state in states if isinstance(kind, Kind) and not kind.setting else ():
        by_numbers.setdefault(tuple(state.objective.numbers.items()), []).append(state)
    try:
        if len(by_numbers) < 2 or _maps_numbers(states[0]):
            return [(kind, states)]
    except Exception:
        pass  # its own training will say what is wrong with it
    return [(kind._replace(loss=(kind.loss, key)), alike) for key, alike in by_numbers.items()]


def kind_of(state):
    """Return the kind of a fit; ``setting`` is one for which it cannot be in a stack, or ""."""
    setting = _refusal_of_callbacks(state) or refusal_of_settings(state)
    if not setting and not isinstance(state.valid, Resident | None):
        setting = "the validation data is streamed"
    if setting:
        # Nothing to look into then, and not all of it may be there.
        return Kind(type(state.net), (), (), (), (), None, setting)
    return Kind(
        net=structure(state.net),
        loss=structure(state.objective.key),
        optimizer=(find_update(state.optimizer).kind, *state.names),
        execution=(type(state.precision), state.device, state.is_random, state.compile),
        data=_kind_of_data(state),
        # A single batch may be of any size.
        batch_size=state.train.sizes[0] if len(state.train) > 1 else None,
        setting="",
    )


def differences(kinds):
    """Return the names of what differs between kinds."""
    return [
        name
        for name, values in zip(Kind._fields, zip(*kinds, strict=True), strict=True)
        if len({*values}) > 1
    ]


def _kind_of_data(state):
    parts = (state.train, state.valid)
    weighted = [part is not None and part.weight is not None for part in parts]
    samples = [(tuple(t.shape[1:]), t.dtype) for t in (state.train.x, state.train.y)]
    # Fits without validation data are of the kind of those whose validation has no weights.
    return *samples, *weighted


def _maps_numbers(state):
    """Whether the loss takes its arguments as tensors, a set of them for each member."""
    numbers = state.objective.numbers
    batch = state.train.head(2)
    values = torch.tensor([[*numbers.values()]] * 2, dtype=torch.float64, device=state.device)

    def loss(values, y_pred):
        held = dict(zip(numbers, values.unbind(), strict=True))
        return state.objective(y_pred, batch.y, batch.weight, batch.total, **held)

    state.net.eval()
    with torch.no_grad(), state.stream.undone():
        y_pred = state.net(batch.x)
        try:
            vmap(loss, (0, None))(values, y_pred)
        except Exception:
            return False
    return True


def _refusal_of_callbacks(state):
    for hook in ("on_batch_begin", "on_batch_end"):
        for call in state.hooks[hook]:
            callback = getattr(call, "__self__", call)
            if not isinstance(callback, ProgressBar):
                return f"callback {type(callback).__name__} runs at each batch"
    if state.resumed:
        return "a resumed fit is to end with the bits that it would have ended with alone"
    return ""


def _refusal_of_mapping(state):
    """Map the step over two copies of a fit, and return what torch says of that, or ""."""
    step = MappedStep(state, tensor_numbers=False)
    step.net.train()
    tensors = step.gather([step.held_by(state)] * 2)
    numbers = LiveNumbers(step, [state] * 2).now
    head = state.train.head(PROBE_ROWS)
    parts = [torch.stack([p, p]) if isinstance(p, torch.Tensor) else p for p in head]
    with warnings.catch_warnings(record=True) as caught, state.stream.undone():
        warnings.simplefilter("always")
        step(tensors, numbers, *parts)
    # One of them is that an operation would be mapped by a loop.
    return str(caught[0].message).split(". ")[0] if caught else ""


def why_alone(kind, state):
    """Return why fits of a kind are trained one by one, or ""; ``state`` is one of them."""
    if not isinstance(kind, Kind):
        return ""
    if kind.setting:
        return kind.setting
    for name, module in state.net.named_modules():
        if isinstance(module, _UNMAPPED):
            return f"net has a layer {type(module).__name__} ({name or 'the net itself'})"
    if len({p.dtype for p in state.parameters}) > 1:
        return "parameters of the net have several dtypes"
    if reason := refusal_of_forward(state) or _refusal_of_mapping(state):
        return reason
    if state.device.type == "cpu" and forward_flops(state) > _WIDE_FLOPS:
        return (
            f"net {type(state.net).__name__} is so wide that a CPU is busy with one at a time, and "
            "gains nothing by more"
        )
    return ""
