"""What fits that begin alike share: their net as it begins, and what was found by trying it.

The candidates of a search begin with the same weights and, fold by fold, with the same rows. To
build their net and to try it takes longer than many of them train. Only what is built in is known
to begin alike and to do no more than compute: the net ``"mlp"`` with a loss of ours.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from numbers import Integral

import numpy as np
import torch

from sktorch.engine.device import default_device
from sktorch.engine.structure import structure
from sktorch.nets import ACTIVATIONS, MLP, NETS

__all__ = ["is_small", "net_key", "recall", "remember", "trial_key"]

# What is remembered, and how large a net may be for that.
_MOST_KNOWN = 256
_MOST_BYTES = 2**18

_known = OrderedDict()
_lock = threading.Lock()


def recall(key):
    """Return what is remembered by a key, or None; nobody may change it."""
    with _lock:
        return _known.get(key)


def remember(key, value):
    """Remember a value, unless its key is None."""
    if key is not None:
        with _lock:
            _known[key] = value
            _known.move_to_end(key)
            while len(_known) > _MOST_KNOWN:
                _known.popitem(last=False)


def is_small(net):
    """Whether a net may be remembered."""
    return sum(parameter.nbytes for parameter in net.parameters()) <= _MOST_BYTES


def net_key(settings, x, n_outputs, loss, seeds, device):
    """Return what decides how a net begins and what it gives for ``x``, or None if that is open.

    A loss with weights draws them after the net's, and a seed that is drawn for each fit makes all
    differ. On a GPU much depends on which is the current one.
    """
    arguments = settings.arguments("net")
    activation = _activation(arguments.get("activation", "relu"))
    built_in = isinstance(settings.net, str) and NETS.get(settings.net) is MLP and _is_ours(loss)
    plain = all(map(_is_plain, arguments.values())) and isinstance(x, np.ndarray | torch.Tensor)
    seeded = isinstance(settings.random_state, Integral)
    if not (built_in and activation and plain and seeded and device.type == "cpu"):
        return None
    return (
        (structure(arguments), activation, n_outputs, loss.meaning, seeds.weights),
        (settings.dtype, settings.precision is None),
        (torch.get_default_dtype(), default_device()),
        _numbers(x),
    )


def trial_key(key, objective, seeds, batch):
    """Return what decides how the trial of a net that began by ``key`` ends, or None."""
    if key is None:
        return None
    parts = [None if part is None else _numbers(part) for part in (batch.x, batch.y, batch.weight)]
    loss = structure(objective.key), tuple(objective.numbers.items())
    return key, loss, *parts, seeds.dropout


def _is_ours(loss):
    """Whether a loss is a function of ours, which has no weights."""
    pointwise = loss.pointwise
    module = getattr(pointwise, "__module__", None) or ""
    return module.startswith("sktorch.losses.") and not isinstance(pointwise, type)


def _activation(name):
    """Return torch's class that a name stands for now, or None."""
    found = ACTIVATIONS.get(name) if isinstance(name, str) else None
    is_torchs = isinstance(found, type) and found.__module__.startswith("torch.nn.modules.")
    return found if is_torchs else None


def _is_plain(value):
    """Whether a value is known by what it holds now."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float | np.number)


def _numbers(part):
    """Return what tells the numbers of an array or a tensor from others."""
    array = part
    if isinstance(part, torch.Tensor):
        plain = part.detach().cpu().resolve_neg().contiguous()
        array = plain.reshape(-1).view(torch.uint8).numpy()
    return str(part.dtype), tuple(part.shape), hashlib.blake2b(array.tobytes()).digest()


def _forget():
    """Leave the lock, which somebody may hold, to the process that this one was forked from."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
