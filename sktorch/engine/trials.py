"""What fits that begin alike share: their net as it begins, and what was found by trying it.

The candidates of a search begin with the same weights and, fold by fold, with the same rows. To
build their net and to try it takes longer than many of them train.
"""

import os
import threading
from collections import OrderedDict
from numbers import Integral

import numpy as np
import torch

from sktorch.engine.structure import structure
from sktorch.nets import ACTIVATIONS, NETS, is_built_in

__all__ = ["is_known_through", "net_key", "remembered", "trial_key"]

# What is remembered, and how large a net may be for that.
_MOST_KNOWN = 64
_MOST_BYTES = 2**20

_known = OrderedDict()
_lock = threading.Lock()


def remembered(key, find, is_kept=lambda found: True):
    """Return ``find()``, or what it returned when it was last called for an equal key.

    Parameters
    ----------
    key : hashable or None
        None to ask anew.
    find : callable
        Returns what nobody changes.
    is_kept : callable, optional
        Whether to remember what was found.
    """
    if key is None:
        return find()
    with _lock:
        if key in _known:
            _known.move_to_end(key)
            return _known[key]
    # Two threads may find the same at once, and neither waits for the other.
    found = find()
    with _lock:
        if is_kept(found):
            _known[key] = found
        while len(_known) > _MOST_KNOWN:
            _known.popitem(last=False)
    return found


def net_key(settings, x, n_outputs, loss, seeds, device):
    """Return what decides how a net begins and what it gives for ``x``, or None if that is open.

    A net or a loss of the user's may do more than compute, and a loss with weights draws them
    after the net's; what is built in does not. A seed that is drawn for each fit makes all differ.
    """
    built_in = is_built_in(settings.net) and isinstance(settings.loss, str)
    seeded = isinstance(settings.random_state, Integral)
    if not (built_in and seeded and isinstance(x, np.ndarray | torch.Tensor)):
        return None
    if isinstance(loss.pointwise, type):
        return None
    return (
        (settings.net, structure(settings.arguments("net")), n_outputs, loss.meaning),
        # What the names stand for, which users may change.
        (*NETS.items(), *ACTIVATIONS.items()),
        (settings.dtype, settings.precision is None, device),
        # What is made where nothing is said.
        (torch.get_default_dtype(), torch.empty(0).device),
        seeds.weights,
        _numbers(x),
    )


def is_known_through(net):
    """Whether all is known of what a net does, and it is small enough to be remembered."""
    return sum(parameter.nbytes for parameter in net.parameters()) <= _MOST_BYTES and all(
        type(module).__module__.startswith(("torch.nn.modules.", "sktorch."))
        for module in net.modules()
    )


def trial_key(key, net, objective, seeds, batch):
    """Return what decides how the trial of a net that began by ``key`` ends, or None."""
    if key is None or not is_known_through(net):
        return None
    parts = [None if part is None else _numbers(part) for part in (batch.x, batch.y, batch.weight)]
    loss = structure(objective.key), tuple(objective.numbers.items())
    return key, loss, *parts, seeds.dropout


def _numbers(part):
    """Return the numbers of an array or a tensor, and what they are."""
    array = part
    if isinstance(part, torch.Tensor):
        array = part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return str(part.dtype), tuple(part.shape), array.tobytes()


def _forget():
    """Leave the lock, which somebody may hold, to the process that this one was forked from."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
