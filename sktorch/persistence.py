"""Estimators as pickles that load anywhere and notice damage.

``freeze`` takes arrays, tensors, dtypes and devices out of a nested state and leaves a reference in
their place; ``thaw`` puts them back. What is pickled is thus a structure and a list of plain arrays
of the CPU, with a checksum over both, so that a net trained on an accelerator loads where there is
none.
"""

import dataclasses
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import sklearn
import torch
from torch import nn
from torch.nn.utils import parametrize

from sktorch._version import __version__
from sktorch.copying import ATOMIC, duplicate
from sktorch.digest import digest
from sktorch.exceptions import DamagedModelError
from sktorch.sameness import content
from sktorch.specs import user_level

__all__ = ["current_versions", "freeze", "in_transit", "thaw", "warn_of_other_versions"]


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

    def restore(self, arrays):
        """Return the array or the tensor."""
        array = arrays[self.index]
        if self.tensor is None:
            return array
        # Copied: the array may be a read-only map of the file.
        tensor = torch.from_numpy(np.array(array))
        dtype = getattr(torch, self.tensor)
        if tensor.dtype != dtype:
            tensor = tensor.view(dtype)
        if self.trainable is None:
            return tensor
        return nn.Parameter(tensor, requires_grad=self.trainable)


@dataclasses.dataclass(eq=False)
class TorchRef:
    """Stands for a dtype or a device, which skops cannot store.

    Parameters
    ----------
    kind : {"dtype", "device"}
    name : str
    """

    kind: str
    name: str

    def restore(self, arrays):
        """Return the dtype or the device."""
        return getattr(torch, self.name) if self.kind == "dtype" else torch.device(self.name)


_here = threading.local()


@contextmanager
def in_transit():
    """Freeze what goes to another process inside: without a checksum, and equal nets once."""
    _here.sent = {}
    try:
        yield
    finally:
        _here.sent = None


class Parcel:
    """A net that many estimators hold copies of, on its way to another process.

    Parameters
    ----------
    net : nn.Module
    """

    def __init__(self, net):
        self.frozen = _frozen({"net": net})

    def copy(self):
        """Return another copy of the net."""
        if "net" not in vars(self):
            self.net = _thawed(self.frozen)["net"]
        return duplicate(self.net)


def freeze(state):
    """Return ``state`` without its arrays, the arrays, a checksum and the versions used.

    Parameters
    ----------
    state : dict
        Its values are nested in dicts, lists, tuples, dataclasses and modules. They are not
        changed; those that hold no array are not copied either, and may refer to their owner.
    """
    sent = getattr(_here, "sent", None)
    if sent is None:
        frozen, parcels = _frozen(state), {}
        checksum = digest(frozen)
    else:
        parcels = _parcels(state, sent)
        frozen = _frozen({name: value for name, value in state.items() if name not in parcels})
        checksum = None
    return {**frozen, "parcels": parcels, "sha256": checksum, "versions": current_versions()}


def thaw(frozen):
    """Undo ``freeze``.

    Raises
    ------
    DamagedModelError
        If something is not as it was stored.
    """
    warn_of_other_versions("model", frozen["versions"])
    stored = {name: frozen[name] for name in ("plain", "structure", "refs", "arrays")}
    if frozen["sha256"] is not None and digest(stored) != frozen["sha256"]:
        raise DamagedModelError(
            "The stored model is damaged: what was read does not match its checksum. "
            "Load it from another copy, or fit again."
        )
    unpacked = {name: parcel.copy() for name, parcel in frozen.get("parcels", {}).items()}
    return {**_thawed(stored), **unpacked}


def _parcels(state, sent):
    """Return what of ``state`` is sent once for all that hold copies, by its name.

    Parameters
    ----------
    sent : dict of hashable to Parcel
        By content.
    """
    net = state.get("net")
    if not isinstance(net, nn.Module):
        return {}
    others = {id(item) for name, value in state.items() if name != "net" for item in _nested(value)}
    if others and not others.isdisjoint(map(id, _nested(net))):
        return {}
    key = content(net)
    if key not in sent:
        sent[key] = Parcel(net)
    return {"net": sent[key]}


def _frozen(state):
    """Return ``state`` without its arrays, and these."""
    refs, arrays, memo = [], [], {}
    items = {name: _nested(value) for name, value in state.items()}
    for item in (item for nested in items.values() for item in nested):
        if id(item) not in memo and not isinstance(item, nn.Module):
            memo[id(item)] = _reference(item, arrays)
            refs.append(memo[id(item)])
    # Copying with a memo that already holds the stand-ins swaps them wherever they are.
    structure = duplicate({name: state[name] for name, nested in items.items() if nested}, memo)
    for module in _modules(structure):
        _make_storable(module)
    plain = {name: state[name] for name, nested in items.items() if not nested}
    return {"plain": plain, "structure": structure, "refs": refs, "arrays": arrays}


def _thawed(frozen):
    """Undo ``_frozen``."""
    memo = {id(ref): ref.restore(frozen["arrays"]) for ref in frozen["refs"]}
    structure = duplicate(frozen["structure"], memo)
    for module in _modules(structure):
        _make_usable(module)
    return {**frozen["plain"], **structure}


def _nested(value):
    """Return tensors, arrays, names of torch and modules in a value, which may refer to itself."""
    found, seen, left = [], {}, [value]
    while left:
        value = left.pop()
        if type(value) in ATOMIC or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, dict):
            left += [*value.values()][::-1]
        elif isinstance(value, list | tuple):
            left += [*value][::-1]
        elif isinstance(value, nn.Module):
            found.append(value)
            left.append(vars(value))
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            left.append(vars(value))
        elif _is_kept_apart(value):
            found.append(value)
    return found


def _is_kept_apart(value):
    if isinstance(value, np.ndarray):
        return value.dtype != object
    lazy = isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer)
    return isinstance(value, torch.Tensor | torch.dtype | torch.device) and not lazy


def _modules(value):
    return [item for item in _nested(value) if isinstance(item, nn.Module)]


def _reference(item, arrays):
    """Return what stands for ``item``, and add its numbers to ``arrays``."""
    if isinstance(item, torch.dtype):
        return TorchRef("dtype", str(item).removeprefix("torch."))
    if isinstance(item, torch.device):
        return TorchRef("device", str(item))
    index = len(arrays)
    if isinstance(item, np.ndarray):
        arrays.append(item)
        return ArrayRef(index)
    arrays.append(_to_array(item))
    trainable = item.requires_grad if isinstance(item, nn.Parameter) else None
    return ArrayRef(index, str(item.dtype).removeprefix("torch."), trainable)


# Torch gives a module with parametrizations, such as weight_norm, a class of its own that refuses
# to be stored. All it holds is in its attributes.


def _make_storable(module):
    if parametrize.is_parametrized(module):
        module.__class__ = type(module).__bases__[0]
        # What weight_norm leaves there, for state dicts of before torch 2.0.
        hooks = module._load_state_dict_pre_hooks
        for key in [k for k, hook in hooks.items() if "<locals>" in hook.hook.__qualname__]:
            del hooks[key]


def _make_usable(module):
    if parametrize.is_parametrized(module):
        parametrize._inject_new_class(module)
        for name in module.parametrizations:
            parametrize._inject_property(module, name)


def _to_array(tensor):
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy()


def current_versions():
    """Return the versions that decide what a stored thing does."""
    return {
        "sktorch": __version__,
        # Without its build, such as +cpu: models go from one to the other.
        "torch": str(torch.__version__).partition("+")[0],
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
