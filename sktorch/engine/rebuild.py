"""A fitted net from its tensors and the code that builds it, and whether that is the right code."""

import torch
from torch import nn

from sktorch.engine.parts import LAST_LAYERS
from sktorch.engine.randomness import RandomStream
from sktorch.engine.snapshot import unsaved_buffers
from sktorch.fields import caller
from sktorch.nets import build_net, first_layer, float_dtype

__all__ = ["load_exactly", "rebuild_net", "tensors_of", "trial_output"]

_CPU = torch.device("cpu")
_TRIAL_ROWS = 3

# How far outputs may differ between machines, relative to the largest.
_TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-3}
_TOLERANCE_OF_HALF = 0.1


def tensors_of(module):
    """Return every parameter and buffer by name, and what else a state dict of it holds."""
    state = {**module.state_dict(), **dict(unsaved_buffers(module))}
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def rebuild_net(net, arguments, sizes, last, tensors, extra, trial):
    """Return a net with the weights of one that was saved, in eval mode.

    Parameters
    ----------
    net, arguments, sizes
        As for ``build_net``.
    last : str or None
        What the output of a built-in net means, by a layer that was appended to it.
    tensors, extra : dict
        From ``tensors_of``.
    trial : tuple of (shape, dtype, Tensor) or None
        What the saved net gave in ``trial_output``.

    Raises
    ------
    ValueError
        If the parameters of the net are others, or if it computes something else.
    """
    with RandomStream(0, _CPU):
        module = build_net(net, arguments, **sizes)
    if last is not None:
        module.append(LAST_LAYERS[last]())
    load_exactly(module, tensors, extra, "net")
    module.eval()
    if trial is not None:
        _check_same_output(module, *trial)
    return module


def load_exactly(module, tensors, extra, name):
    """Load tensors into ``module``, in their dtypes; it must have a place for each and no other."""
    floats = [t.dtype for t in tensors.values() if t.is_floating_point()]
    if floats:
        module.to(floats[0])
    places, others = tensors_of(module)
    wrong = {
        "not in the file": sorted(places.keys() - tensors.keys()),
        "only in the file": sorted(tensors.keys() - places.keys()),
        "of another shape in the file": [
            f"{key} {tuple(tensors[key].shape)} instead of {tuple(places[key].shape)}"
            for key in sorted(places.keys() & tensors.keys())
            if not _is_lazy(places[key]) and places[key].shape != tensors[key].shape
        ],
    }
    if any(wrong.values()) or others.keys() != extra.keys():
        found = "; ".join(f"{title}: {', '.join(keys)}" for title, keys in wrong.items() if keys)
        raise ValueError(
            f"{name}: what was passed has other parameters than the model that was saved. "
            f"{found or 'The extra state differs'}. Pass the class or the function it was fitted "
            "with."
        )
    for key, place in module.state_dict(keep_vars=True).items():
        if key in tensors and not _is_lazy(place):
            place.data = place.data.to(tensors[key].dtype)
    unsaved = dict(unsaved_buffers(module))
    with torch.no_grad():
        for key, buffer in unsaved.items():
            buffer.copy_(tensors[key])
    saved = {key: value for key, value in tensors.items() if key not in unsaved}
    module.load_state_dict({**saved, **extra})


def trial_output(net, shape, dtype, device):
    """Return what ``net``, in eval mode, gives for a few made-up samples, or None if it fails."""
    if isinstance(dtype, dict):
        x = {name: _made_up(net, shape[name], kind, device) for name, kind in dtype.items()}
    elif isinstance(dtype, tuple):
        x = tuple(_made_up(net, *pair, device) for pair in zip(shape, dtype, strict=True))
    else:
        x = _made_up(net, shape, dtype, device)
    try:
        with torch.no_grad(), RandomStream(0, device):
            return caller(net, dtype)(x).cpu()
    except Exception:
        return None


def _made_up(net, shape, dtype, device):
    n = _TRIAL_ROWS * torch.Size(shape).numel()
    if dtype.is_floating_point:
        x = torch.linspace(-1, 1, n).to(dtype)
    else:
        x = torch.arange(n, dtype=dtype) % getattr(first_layer(net), "num_embeddings", 1)
    return x.reshape(_TRIAL_ROWS, *shape).to(device)


def _check_same_output(net, shape, dtype, expected):
    found = trial_output(net, shape, dtype, _CPU)
    if found is not None and found.shape == expected.shape:
        difference = (found.double() - expected.double()).nan_to_num().abs().max()
        tolerance = _TOLERANCES.get(float_dtype(net), _TOLERANCE_OF_HALF)
        if difference <= tolerance * expected.double().nan_to_num().abs().max():
            return
    raise ValueError(
        "net: what was passed has the parameters of the model that was saved, but computes "
        "something else. Pass the class or the function it was fitted with; or the net keeps "
        "a state outside of its parameters and buffers: register_buffer."
    )


def _is_lazy(tensor):
    return isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)
