"""What makes two fits the same fit: their parameters and their data."""

from functools import cached_property
from operator import length_hint

import numpy as np
import torch
from scipy import sparse

from sktorch.digest import digest
from sktorch.specs import describe

__all__ = ["MAY_CHANGE", "Fingerprint"]

# Parameters that a resumed fit may have otherwise than the fit it goes on with.
MAY_CHANGE = ("max_epochs", "verbose", "callbacks", "device")


class Fingerprint:
    """Checksums of the parameters of an estimator and of the data it is fitted on.

    Parameters
    ----------
    parameters : dict
    data : callable
        Returns a dict of str to array, sparse matrix or None; it may copy them.
    """

    def __init__(self, parameters, data):
        self._parameters = parameters
        self._data = data

    @cached_property
    def entries(self):
        """A pair ``(text, checksum)`` by name; computed once, and only where it is asked for."""
        kept = {k: v for k, v in self._parameters.items() if k not in MAY_CHANGE}
        return {
            **{name: (_shown(value), digest(_identity(value))) for name, value in kept.items()},
            **{n: (_outline(v), digest(_content(v))) for n, v in self._data().items()},
        }

    def differences(self, stored):
        """Return a clause for each entry that is not as in ``stored``, the entries of another."""
        missing = ("not set", "")
        return [
            _difference(name, stored.get(name, missing), self.entries.get(name, missing))
            for name in {**stored, **self.entries}
            if stored.get(name, missing)[1] != self.entries.get(name, missing)[1]
        ]


def _difference(name, before, now):
    if before[0] == now[0]:
        return f"{name} differs, though it is {now[0]} in both"
    return f"{name} was {before[0]} and is {now[0]}"


def _identity(value):
    """Return what tells a parameter from others; a module's weights are those of the checkpoint."""
    if not isinstance(value, torch.nn.Module):
        return value
    tensors = [(name, tuple(p.shape), p.dtype, p.requires_grad) for name, p in _parameters(value)]
    return [repr(value), tensors, [b for b in value.buffers() if not _is_lazy(b)]]


def _content(values):
    """Return arrays as they are; of other data, which may be read from anywhere, what it is."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu()
    if values is None or isinstance(values, np.ndarray) or sparse.issparse(values):
        return values
    return _outline(values)


def _parameters(module):
    return [(name, p) for name, p in module.named_parameters() if not _is_lazy(p)]


def _is_lazy(tensor):
    return isinstance(tensor, torch.nn.UninitializedParameter | torch.nn.UninitializedBuffer)


def _shown(value):
    return type(value).__name__ if isinstance(value, torch.nn.Module) else describe(value)


def _outline(values):
    """Tell what an array looks like."""
    if values is None:
        return "not given"
    if not hasattr(values, "shape"):
        length = length_hint(values, 0)
        length = f" of length {length}" if length else ""
        return f"{describe(type(values))}{length}"
    kind = "sparse" if sparse.issparse(values) else "an array"
    return f"{kind} of shape {tuple(values.shape)} and dtype {values.dtype}"
