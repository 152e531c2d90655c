"""Copies of nets and what holds them, as ``copy.deepcopy`` makes them, in a fraction of its time.

``copy.deepcopy`` asks each object how it is pickled, and of a small net copies some hundred empty
dicts of hooks in that way. Here a module that is pickled as any plain object is, is copied
attribute by attribute. Whatever is not known here is left to ``copy.deepcopy``, with the same memo.
"""

import copy
import copyreg
import functools
from collections import OrderedDict
from types import BuiltinFunctionType, FunctionType

from torch import nn

__all__ = ["ATOMIC", "duplicate", "is_plain_module"]

# Types of which a copy is the thing itself.
ATOMIC = {type(None), bool, int, float, str, type, FunctionType, BuiltinFunctionType}


def duplicate(value, memo=None):
    """Return what ``copy.deepcopy(value, memo)`` does."""
    memo = {} if memo is None else memo
    kind = type(value)
    if kind in ATOMIC:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict or (kind is OrderedDict and not vars(value)):
        twin = memo[id(value)] = kind()
        for key, part in value.items():
            key = key if type(key) is str else duplicate(key, memo)
            twin[key] = part if type(part) in ATOMIC else duplicate(part, memo)
    elif kind is set:
        twin = memo[id(value)] = {duplicate(part, memo) for part in [*value]}
    elif is_plain_module(kind) and not hasattr(value, "__deepcopy__"):
        twin = memo[id(value)] = kind.__new__(kind)
        twin.__setstate__(duplicate(value.__getstate__(), memo))
    else:
        return copy.deepcopy(value, memo)
    # What the memo knows by its id is to live as long as the memo; ``copy.deepcopy`` does the same.
    memo.setdefault(id(memo), []).append(value)
    return twin


@functools.lru_cache(maxsize=512)
def is_plain_module(kind):
    """Whether a class of modules leaves to ``object`` how it is pickled, its state apart."""
    return (
        issubclass(kind, nn.Module)
        # Not before Python 3.11, save for torch's own.
        and hasattr(kind, "__getstate__")
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__getattribute__ is object.__getattribute__
        # Larger where it has slots, or is a list or a dict as well.
        and kind.__basicsize__ == nn.Module.__basicsize__
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and kind not in copyreg.dispatch_table
    )
