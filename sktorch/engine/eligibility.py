"""Why a fit cannot be computed as a function of tensors."""

import random

import numpy as np
import torch

from sktorch.data.batches import Resident
from sktorch.engine.precision import Scaled
from sktorch.engine.probe import PROBE_ROWS
from sktorch.engine.structure import structure
from sktorch.engine.updates import find_update
from sktorch.specs import describe

__all__ = ["refusal", "refusal_of_forward", "refusal_of_settings"]


def refusal(state):
    """Return why ``FunctionalStep`` cannot stand in for the plain step of a fit, or ""."""
    return refusal_of_settings(state) or refusal_of_forward(state)


def refusal_of_settings(state):
    """Return which setting is in the way, or ""."""
    name = describe(type(state.optimizer))
    update = find_update(state.optimizer)
    if update is None:
        return f"optimizer {name} is none of SGD, Adam, AdamW and RMSprop"
    if update.refusal:
        return f"{update.refusal} of {name} is set"
    if state.accumulation > 1:
        return "grad_accumulation_steps is above 1"
    if state.objective.named_parameters():
        return "loss has weights of its own"
    if state.objective.module is not None and [*state.objective.module.buffers()]:
        return "loss has buffers of its own"
    if isinstance(state.precision, Scaled):
        return 'precision="float16" scales gradients'
    if state.hooks["on_gradients"]:
        return "a callback reads gradients (on_gradients)"
    if state.ranks is not None:
        return "several processes train together"
    if not isinstance(state.train, Resident):
        return "the data is streamed"
    if not isinstance(state.train.x, torch.Tensor):
        return "net takes several inputs"
    if not all(p.requires_grad for p in state.parameters):
        return "a callback unfreezes parameters"
    return ""


def refusal_of_forward(state):
    """Return what is in the way of a step on a few rows, or ""; all is left as it was."""
    name = type(state.net).__name__
    buffers = [buffer for module in state.modules for buffer in module.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    for module in state.modules:
        module.train()
    batch = state.train.head(PROBE_ROWS)
    outside = structure(state.net), _drawn_outside_torch()
    with state.stream.undone():
        y_pred = state.precision.forward(state.net, batch.x)
        loss = state.objective(y_pred, batch.y, batch.weight, batch.total)
    gradients = torch.autograd.grad(loss, state.parameters, allow_unused=True)
    after = [buffer for module in state.modules for buffer in module.buffers()]
    if [*map(id, after)] != [*map(id, buffers)]:
        return f"the forward of {name} replaces a buffer"
    with torch.no_grad():
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
    if structure(state.net) != outside[0]:
        return f"the forward of {name} changes its attributes"
    if _drawn_outside_torch() != outside[1]:
        return f"the forward of {name} draws random numbers of Python or numpy"
    for parameter, gradient in zip(state.names, gradients, strict=True):
        if gradient is None:
            return f"the loss does not depend on parameter {parameter!r}"
        if gradient.is_sparse:
            return f"the gradient of parameter {parameter!r} is sparse"
    return ""


def _drawn_outside_torch():
    """Return where the generators are whose numbers no graph of tensors draws."""
    _, words, position, *_ = np.random.get_state()
    return random.getstate(), words.tobytes(), position
