"""A key by which copies of a net are known as such.

``digest`` lets objects that store themselves in a way of their own pass as equal, and takes many
times as long; ``engine.structure`` leaves out the numbers.
"""

from collections import OrderedDict

import torch
from torch import nn

from sktorch.copying import ATOMIC, is_plain_module

__all__ = ["Itself", "content"]


def content(value):
    """Return a key that is equal for values which are copies of each other, down to each number.

    What is not known here counts as equal to itself only.

    Parameters
    ----------
    value : nn.Module, or anything that a module may hold

    Returns
    -------
    key : hashable
        It keeps alive what it knows by its identity.
    """
    return _content(value, {})


def _content(value, seen):
    kind = type(value)
    if kind in ATOMIC:
        # 0.0 and -0.0 are equal, and nan not even to itself.
        return kind, value.hex() if kind is float else value
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    if kind is dict or (kind is OrderedDict and not vars(value)):
        parts = [kind]
        for key, part in value.items():
            parts.append(key if type(key) is str else _content(key, seen))
            parts.append(_content(part, seen))
        return tuple(parts)
    if kind in (list, tuple) or (kind is set and not value):
        return kind, *[_content(part, seen) for part in value]
    if isinstance(value, nn.Module) and is_plain_module(kind):
        return kind, _content(vars(value), seen)
    if kind in (nn.Parameter, torch.Tensor) and _is_its_numbers(value):
        array = value.detach().reshape(-1).view(torch.uint8).numpy()
        return kind, value.dtype, tuple(value.shape), value.requires_grad, array.tobytes()
    return kind, Itself(value)


def _is_its_numbers(tensor):
    """Whether a tensor is no more than its numbers, in the order of memory."""
    plain = tensor.is_cpu and tensor.layout is torch.strided and tensor.is_contiguous()
    return plain and tensor.is_leaf and tensor.grad is None and not vars(tensor)


class Itself:
    """Equal to what holds the same object, which it keeps so that its id is not used again."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Itself) and other.value is self.value

    def __hash__(self):
        return id(self.value)
