"""What two nets must share to be computed by one program."""

import weakref
from types import BuiltinFunctionType, FunctionType, MethodType

import numpy as np
import torch
from torch import nn

from sktorch.sameness import Itself

__all__ = ["structure"]

# Held in a module's ``__dict__``, and either looked at by themselves or of no effect on a forward.
_ELSEWHERE = {"_parameters", "_buffers", "_modules", "training"}

_PLAIN = (
    str,
    bytes,
    bool,
    int,
    float,
    complex,
    type(None),
    type,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    FunctionType,
    BuiltinFunctionType,
)


def structure(value):
    """Return a key that is equal for values which compute the same from the same tensors.

    Of a module it holds its class, its attributes and submodules, and of parameters and buffers
    the shape and dtype alone. What it does not know counts as equal to itself only.

    Parameters
    ----------
    value : nn.Module, or anything that a module may hold

    Returns
    -------
    key : hashable
    """
    return _structure(value, {})


def _structure(value, seen):
    if isinstance(value, _PLAIN):
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0.
        return type(value), repr(value) if isinstance(value, float) else value
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, nn.Module):
        return _of_module(value, seen)
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return "tensor", tuple(value.shape), value.dtype, array.numpy().tobytes()
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        return "array", value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, dict):
        return type(value), tuple(
            (_structure(k, seen), _structure(v, seen)) for k, v in value.items()
        )
    if isinstance(value, list | tuple):
        return type(value), tuple(_structure(item, seen) for item in value)
    if isinstance(value, weakref.ref):
        return "ref", _structure(value(), seen)
    if isinstance(value, MethodType):
        return "method", value.__func__, _structure(value.__self__, seen)
    return "object", Itself(value)


def _of_module(module, seen):
    held = tuple(
        (kind, name, None if tensor is None else _tensor(tensor, seen))
        for kind in ("_parameters", "_buffers")
        for name, tensor in getattr(module, kind).items()
    )
    children = tuple((name, _structure(child, seen)) for name, child in module._modules.items())
    attributes = tuple(
        (name, tuple(_structure(hook, seen) for hook in value.values()))
        if name.endswith("_hooks") and isinstance(value, dict)
        else (name, _structure(value, seen))
        for name, value in vars(module).items()
        if name not in _ELSEWHERE and not _is_empty(value)
    )
    return type(module), held, children, attributes


def _is_empty(value):
    return isinstance(value, dict | set) and not value


def _tensor(tensor, seen):
    if id(tensor) in seen:
        return "seen", seen[id(tensor)]
    seen[id(tensor)] = len(seen)
    return tuple(tensor.shape), tensor.dtype, tensor.requires_grad, tensor.is_contiguous()
