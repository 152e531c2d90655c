"""One checksum for a nested value, the same in every process."""

import functools
import hashlib
import types
from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse
from torch import nn

__all__ = ["digest"]

# How a class says that its objects are stored in a way of their own.
_STORING = ("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__getnewargs_ex__")

_PLAIN = (type(None), bool, int, str, bytes, torch.dtype, torch.device, np.dtype)


def digest(value):
    """Return the SHA-256 of ``value``, in hexadecimal digits.

    Parameters
    ----------
    value : object
        Numbers, texts, arrays and tensors, nested in dicts, lists, tuples, sets and objects: all
        of them enter. A class or a function counts by its name, one without a name (a lambda) by
        its code; an object that stores itself in a way of its own by the name of its class only.
    """
    sha = hashlib.sha256()
    _feed(value, sha, {})
    return sha.hexdigest()


def _feed(value, sha, seen):
    """Add ``value`` to ``sha``; ``seen`` holds what was met, since values may hold themselves."""
    if isinstance(value, _PLAIN):
        _word(sha, type(value).__name__, repr(value))
    elif isinstance(value, torch.Tensor):
        _feed_tensor(value, sha)
    elif isinstance(value, np.ndarray | np.generic):
        _feed_array(np.asarray(value), sha, seen)
    elif isinstance(value, float):
        _word(sha, "float", value.hex())
    elif isinstance(value, type):
        _word(sha, "class", _name(value))
    elif isinstance(value, types.FunctionType):
        _feed_function(value, sha, seen)
    elif id(value) in seen:
        _word(sha, "seen")
    else:
        if not isinstance(value, tuple):
            # Kept as long as the walk, so that no other object gets its id.
            seen[id(value)] = value
        _feed_parts(value, sha, seen)


def _feed_parts(value, sha, seen):
    if isinstance(value, Mapping):
        parts = [part for pair in value.items() for part in pair]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, set | frozenset):
        parts = sorted(digest(part) for part in value)
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif sparse.issparse(value):
        value = value.tocsr()
        parts = [value.shape, value.data, value.indices, value.indptr]
    elif _is_its_attributes(value):
        parts = [part for pair in vars(value).items() for part in pair]
    elif type(value).__module__.startswith("sktorch."):
        # Of ours: what is stored of it comes back as it was.
        parts = [value.__getstate__()]
    else:
        parts = []
    _word(sha, _name(type(value)), len(parts))
    for part in parts:
        _feed(part, sha, seen)


def _is_its_attributes(value):
    """Whether ``value`` is no more than its attributes, also after it has been stored."""
    base = nn.Module if isinstance(value, nn.Module) else object
    return hasattr(value, "__dict__") and all(
        getattr(type(value), name, None) is getattr(base, name, None) for name in _STORING
    )


def _feed_tensor(tensor, sha):
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        _word(sha, "uninitialized", tensor.dtype)
        return
    _word(sha, type(tensor).__name__, tensor.dtype, tuple(tensor.shape), tensor.requires_grad)
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    sha.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")


def _feed_array(array, sha, seen):
    if array.dtype == object:
        _word(sha, "objects", array.shape)
        _feed(array.tolist(), sha, seen)
        return
    _word(sha, "array", array.dtype.str, array.shape)
    if array.size:
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _feed_function(function, sha, seen):
    name = _name(function)
    _word(sha, "function", name)
    if "<" not in name or id(function) in seen:
        return
    seen[id(function)] = function
    _feed_code(function.__code__, sha)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    _feed([function.__defaults__, function.__kwdefaults__, cells], sha, seen)


def _feed_code(code, sha):
    _word(sha, code.co_code, code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed_code(constant, sha)
        else:
            _word(sha, repr(constant))


def _name(thing):
    return f"{thing.__module__}.{thing.__qualname__}"


def _word(sha, *parts):
    """Add a few short texts, told apart from any others."""
    text = repr([str(part) for part in parts]).encode()
    sha.update(f"{len(text)}:".encode() + text)
