"""Estimators as pickles that load anywhere and notice damage.

``freeze`` takes every array and tensor out of a nested state and leaves a reference in its place;
``thaw`` puts them back. What is pickled is thus a structure and a list of plain arrays of the
CPU with a checksum, so that a net trained on an accelerator loads where there is none.
"""

import copy
import dataclasses
import hashlib
import warnings

import numpy as np
import sklearn
import torch
from torch import nn

from sktorch._version import __version__
from sktorch.exceptions import DamagedModelError
from sktorch.specs import user_level

__all__ = ["current_versions", "freeze", "thaw", "warn_of_other_versions"]


@dataclasses.dataclass(eq=False)
class ArrayRef:
    """Stands for an array taken out of a state.

    Parameters
    ----------
    index : int
        Position in the list of arrays.
    tensor : str or None
        The dtype of the tensor it was, as torch spells it; None for an array of numpy.
    trainable : bool or None
        ``requires_grad`` of a parameter; None for other tensors.
    """

    index: int
    tensor: str | None = None
    trainable: bool | None = None


def freeze(state):
    """Return ``state`` without its arrays, the arrays, their checksum and the versions used.

    Parameters
    ----------
    state : dict
        Its values are nested in dicts, lists, tuples, dataclasses and modules. They are not
        changed; those that hold no array are not copied either, and may refer to their owner.
    """
    refs, arrays, memo = [], [], {}
    for item in _numeric_items(state):
        if id(item) in memo:
            continue
        if isinstance(item, torch.Tensor):
            is_parameter = isinstance(item, nn.Parameter)
            ref = ArrayRef(
                len(refs),
                str(item.dtype).removeprefix("torch."),
                item.requires_grad if is_parameter else None,
            )
            arrays.append(_to_array(item))
        else:
            ref = ArrayRef(len(refs))
            arrays.append(item)
        memo[id(item)] = ref
        refs.append(ref)
    # Copying with a memo that already holds the arrays' stand-ins swaps them wherever they are.
    holds_arrays = {
        name for name, value in state.items() if any(True for _ in _numeric_items(value))
    }
    structure = {name: state[name] for name in state if name in holds_arrays}
    return {
        "plain": {name: value for name, value in state.items() if name not in holds_arrays},
        "structure": copy.deepcopy(structure, memo),
        "refs": refs,
        "arrays": arrays,
        "sha256": _checksum(arrays),
        "versions": current_versions(),
    }


def thaw(frozen):
    """Undo ``freeze``.

    Raises
    ------
    DamagedModelError
        If the arrays are not those that were stored.
    """
    warn_of_other_versions("model", frozen["versions"])
    if _checksum(frozen["arrays"]) != frozen["sha256"]:
        raise DamagedModelError(
            "The stored model is damaged: its arrays do not match their checksum. "
            "Load it from another copy, or fit again."
        )
    pairs = zip(frozen["refs"], frozen["arrays"], strict=True)
    memo = {id(ref): _from_array(ref, array) for ref, array in pairs}
    return {**frozen["plain"], **copy.deepcopy(frozen["structure"], memo)}


def _numeric_items(value, seen=None):
    """Yield the tensors and numeric arrays in a nested value, which may refer to itself."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, torch.Tensor):
        if not isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            yield value
    elif isinstance(value, np.ndarray):
        if value.dtype != object:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numeric_items(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numeric_items(item, seen)
    elif isinstance(value, nn.Module) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    ):
        yield from _numeric_items(vars(value), seen)


def _to_array(tensor):
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy()


def _from_array(ref, array):
    if ref.tensor is None:
        return array
    # Copied: the array may be a read-only map of the file.
    tensor = torch.from_numpy(np.array(array))
    dtype = getattr(torch, ref.tensor)
    if tensor.dtype != dtype:
        tensor = tensor.view(dtype)
    return tensor if ref.trainable is None else nn.Parameter(tensor, requires_grad=ref.trainable)


def _checksum(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def current_versions():
    """Return the versions that decide what a stored thing does."""
    return {
        "sktorch": __version__,
        "torch": str(torch.__version__),
        "scikit-learn": sklearn.__version__,
    }


def warn_of_other_versions(thing, stored):
    """Warn that ``thing`` was stored with other versions than these, if it was."""
    current = current_versions()
    skew = [
        f"{name} {stored.get(name)} (now {version})"
        for name, version in current.items()
        if stored.get(name) != version
    ]
    if skew:
        warnings.warn(
            f"The {thing} was stored with {', '.join(skew)}. What it computes may differ, or "
            "fail: fit again, or install the versions it was stored with.",
            UserWarning,
            stacklevel=user_level(),
        )
