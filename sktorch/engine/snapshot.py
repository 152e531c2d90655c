"""All that decides how a fit goes on, as plain values, and back."""

import warnings
from collections import Counter

import numpy as np
import torch

from sktorch.engine.step import closure_step, train_step
from sktorch.specs import user_level

__all__ = ["restore_callbacks", "restore_snapshot", "take_snapshot"]

# Attributes of a schedule that tell how long it is.
_LENGTHS = ("total_steps", "T_max", "total_iters")

_PLAIN = (bool, int, float, str, bytes, type(None))


def take_snapshot(state):
    """Return what ``restore_snapshot`` needs, in plain values and tensors of the CPU.

    Parameters
    ----------
    state : FitState
        After an epoch.

    Returns
    -------
    snapshot : dict
    """
    loss = {} if state.objective.module is None else state.objective.module.state_dict()
    names = callback_names(state.callbacks)
    return plain(
        {
            "net": dict(state.net.state_dict()),
            **({"loss": dict(loss)} if loss else {}),
            "buffers": [dict(unsaved_buffers(module)) for module in state.modules],
            "trainable": [p.requires_grad for p in state.net.parameters()],
            "epoch": state.epoch,
            "stop_reason": state.stop_reason,
            "history": state.history.rows,
            "progress": state.progress(),
            "groups": [_settings(group) for group in state.optimizer.param_groups],
            "kept": {n: state.kept[id(c)] for n, c in names.items() if id(c) in state.kept},
            "callbacks": {name: callback.state_dict() for name, callback in names.items()},
            "device": str(state.device),
            "compile": state.compile if state.step in (train_step, closure_step) else True,
        }
    )


def restore_snapshot(state, snapshot):
    """Make ``state``, built with the same parameters on the same data, go on from ``snapshot``.

    The states of callbacks are left for when the fit has begun: see ``restore_callbacks``.
    """
    _check_lengths(state, snapshot)
    if snapshot["device"] != str(state.device):
        warnings.warn(
            f"The checkpoint was written on device {snapshot['device']} and the fit goes on on "
            f"{state.device}, where bits differ. Set device={snapshot['device']!r} for the same.",
            UserWarning,
            stacklevel=user_level(),
        )
    with torch.no_grad():
        state.net.load_state_dict(snapshot["net"])
        if "loss" in snapshot:
            state.objective.module.load_state_dict(snapshot["loss"])
        for module, stored in zip(state.modules, snapshot["buffers"], strict=True):
            for name, buffer in unsaved_buffers(module):
                buffer.copy_(stored[name])
    for parameter, flag in zip(state.net.parameters(), snapshot["trainable"], strict=True):
        parameter.requires_grad_(flag)
    state.resume(snapshot["progress"], snapshot["history"])
    for group, settings in zip(state.optimizer.param_groups, snapshot["groups"], strict=True):
        group.update(settings)
    names = callback_names(state.callbacks)
    state.kept = {
        id(names[name]): [tensor.to(state.device) for tensor in tensors]
        for name, tensors in snapshot["kept"].items()
        if name in names
    }
    state.stop_reason = snapshot["stop_reason"]
    state.max_epochs = 0 if state.stop_reason else state.max_epochs - state.epoch
    state.resumed = snapshot["callbacks"]
    # What "auto" has decided holds.
    state.compile = snapshot["compile"]


def restore_callbacks(state):
    """Give the callbacks of a resumed fit, which has just begun, their states."""
    for name, callback in callback_names(state.callbacks).items():
        if name in state.resumed:
            callback.load_state_dict(state.resumed[name])


def callback_names(callbacks):
    """Return callbacks by the name of their class, and a number where there are several."""
    names = {}
    for callback in callbacks:
        kind = type(callback).__name__
        n_before = sum(type(other) is type(callback) for other in names.values())
        names[f"{kind}-{n_before + 1}" if n_before else kind] = callback
    return names


def unsaved_buffers(module):
    """Return the buffers that a state dict leaves out, as pairs."""
    saved = module.state_dict()
    return [(name, buffer) for name, buffer in module.named_buffers() if name not in saved]


def plain(value, path="state"):
    """Return ``value`` in types that torch loads without running any code."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Counter):
        return Counter(value)
    if isinstance(value, dict):
        return {key: plain(item, f"{path}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None:
        return None
    for kind in (bool, int, float, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    raise ValueError(
        f"Checkpoint: {path} is of {type(value).__name__}, which no checkpoint can hold. Record "
        "numbers and texts only, and let state_dict() of a callback return them."
    )


def _settings(group):
    """Return what an optimizer or a schedule may have changed in a group of parameters."""
    kinds = (*_PLAIN, tuple, torch.Tensor)
    fixed = ("params", "names", "rule")
    return {k: v for k, v in group.items() if k not in fixed and isinstance(v, kinds)}


def _check_lengths(state, snapshot):
    """Refuse another ``max_epochs`` where it was the length of the schedule."""
    stored = snapshot["progress"]["scheduler"] or {}
    for name in _LENGTHS:
        now = getattr(state.scheduler, name, None)
        if name in stored and now != stored[name]:
            raise ValueError(
                f"max_epochs={state.max_epochs} cannot be changed on resuming: it sets the length "
                f"of lr_scheduler ({name} was {stored[name]} and would be {now}). Set it back, or "
                f"set lr_scheduler__{name}."
            )
