"""Arrays of the user to tensors of the net."""

import numpy as np
import torch
from scipy import sparse

__all__ = ["as_tensor"]


def as_tensor(values, dtype, device, name, copy=False):
    """Return ``values`` as a tensor.

    Memory is shared with ``values`` where neither dtype nor device changes, unless ``copy``.

    Parameters
    ----------
    values : ndarray or sparse matrix
    dtype : torch.dtype
    device : torch.device
    name : {"X", "y", "sample_weight"}
        For the message where a value does not survive the change of dtype.
    """
    if sparse.issparse(values):
        values = values.toarray()
    target = _numpy_dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(values).astype(target, copy=False)
    if _narrows(values.dtype, target):
        _check_survived(values, array, name, dtype)
    if not array.flags.writeable or (copy and np.may_share_memory(array, values)):
        array = array.copy()
    return torch.from_numpy(array).to(device=device, dtype=dtype)


def _numpy_dtype(dtype):
    """Nearest dtype of numpy, which has no bfloat16."""
    return np.float32 if dtype is torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype


def _narrows(source, target):
    return not np.can_cast(source, target, casting="safe")


def _check_survived(values, array, name, dtype):
    short = str(dtype).removeprefix("torch.")
    if array.dtype.kind == "f":
        # The sum tells at no cost in memory, unless it overflows.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(array.sum()) or np.isfinite(array).all()
        if not finite:
            raise ValueError(
                f"{name} has values beyond the range of {short}, the dtype the net computes in. "
                'Scale them (sklearn.preprocessing.StandardScaler), or set dtype="float64".'
            )
    elif not np.array_equal(values, array):
        raise ValueError(
            f"{name} must hold whole numbers, because the net begins with an embedding, "
            f"got {values.dtype}. Pass integer ids."
        )
