"""Values as JSON and back, exactly; reading runs no code and imports nothing.

What JSON has no word for is a dict with one key that says what it is: ``{"tuple": [...]}``.
"""

import math
import sys
import types

import numpy as np
import torch

from sktorch.specs import describe

__all__ = ["NotStored", "from_plain", "to_plain"]

# Where classes and functions may come from that are read by name. All of it is imported already.
_HOMES = ("torch.nn.", "torch.optim.", "torchmetrics.", "sktorch.")


class NotStored:
    """Stands for what a file could not hold.

    Parameters
    ----------
    text : str
        What it was.
    """

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"<not in the file: {self.text}>"


def to_plain(value, records=()):
    """Return ``value`` as JSON has it.

    Parameters
    ----------
    value : object
        Numbers, texts, arrays, dtypes, devices, classes and functions of torch and sktorch, nested
        in lists, tuples, dicts, sets and ``records``.
    records : tuple of class
        Classes that are built from what their public attributes hold.

    Raises
    ------
    TypeError
        For anything else, naming it.
    """

    def plain(item):
        return to_plain(item, records)

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, records):
        return {"record": type(value).__name__, "of": plain(_attributes(value))}
    if type(value) in (list, tuple, set):
        items = [plain(item) for item in value]
        return items if type(value) is list else {type(value).__name__: items}
    if isinstance(value, dict):
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUO":
        return {"array": plain(value.tolist()), "dtype": value.dtype.str}
    if isinstance(value, torch.dtype | torch.device):
        kind = "dtype" if isinstance(value, torch.dtype) else "device"
        return {f"torch {kind}": str(value).removeprefix("torch.")}
    if (name := _public_name(value)) is not None:
        return {"name": name}
    raise TypeError(describe(value))


def from_plain(value, records=()):
    """Undo ``to_plain``.

    Raises
    ------
    ValueError
        For what no ``to_plain`` has written.
    """

    def full(item):
        return from_plain(item, records)

    if not isinstance(value, dict):
        return [full(item) for item in value] if isinstance(value, list) else value
    kind, content = next(iter(value.items()))
    if kind == "record":
        return {r.__name__: r for r in records}[content](**full(value["of"]))
    if kind in ("tuple", "set"):
        return {"tuple": tuple, "set": set}[kind](full(item) for item in content)
    if kind == "dict":
        return {full(key): full(item) for key, item in content}
    if kind == "float":
        return float(content)
    if kind == "array":
        return np.array(full(content), dtype=np.dtype(value["dtype"]))
    if kind == "torch dtype":
        return getattr(torch, content)
    if kind == "torch device":
        return torch.device(content)
    if kind == "not stored":
        return NotStored(content)
    if kind == "name":
        return _named(content)
    raise ValueError(f"a value of an unknown kind, {kind!r}")


def _attributes(record):
    """Return what a record is built from; what begins with an underscore follows from that."""
    if hasattr(record, "_asdict"):
        return record._asdict()
    return {name: value for name, value in vars(record).items() if not name.startswith("_")}


def _public_name(value):
    """Return the name by which a class or a function of torch or sktorch is found, or None."""
    if not isinstance(value, type | types.FunctionType):
        return None
    name = f"{value.__module__}.{value.__qualname__}"
    try:
        return name if _named(name) is value else None
    except ValueError:
        return None


def _named(name):
    module, _, last = name.rpartition(".")
    found = getattr(sys.modules.get(module), last, None)
    if not f"{module}.".startswith(_HOMES) or not isinstance(found, type | types.FunctionType):
        raise ValueError(f"{name} is no class or function of torch or sktorch")
    return found
