"""Whether numbers are finite."""

import cmath

import numpy as np
import torch

__all__ = ["all_finite"]


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
        return all(bool(np.isfinite(a.sum()) or np.isfinite(a).all()) for a in values)
