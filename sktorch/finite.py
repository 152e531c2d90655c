"""Whether numbers are finite."""

import cmath

import numpy as np
import torch

__all__ = ["all_finite"]

# Numbers from which on torch adds faster: then it takes a third of the time that numpy does.
_MANY = 10_000


def all_finite(*values):
    """Whether arrays, or tensors, hold finite numbers only.

    Their sum tells at no cost in memory, and of all tensors in one read from the device. Where it
    overflowed, each number is looked at.
    """
    if isinstance(values[0], torch.Tensor):
        sums = [tensor.sum() for tensor in values]
        total = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
        return cmath.isfinite(total.item()) or all(bool(torch.isfinite(t).all()) for t in values)
    with np.errstate(over="ignore", invalid="ignore"):
        return all(bool(np.isfinite(_sum(a)) or np.isfinite(a).all()) for a in values)


def _sum(array):
    of_torch = array.dtype in (np.float32, np.float64) and array.size >= _MANY
    if of_torch and array.flags.c_contiguous and array.flags.writeable:
        return torch.from_numpy(array).sum().item()
    return array.sum()
