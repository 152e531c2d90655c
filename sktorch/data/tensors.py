"""Arrays of the user to tensors of the net."""

import functools

import numpy as np
import torch
from scipy import sparse

from sktorch.fields import each_named, leaves
from sktorch.finite import all_finite

__all__ = ["as_tensor", "as_tensors", "check_finite"]


def as_tensors(x, dtypes, device, copy=False):
    """Return ``as_tensor`` of X, or of each of several inputs.

    Parameters
    ----------
    x : array, or a dict or tuple of them
    dtypes : torch.dtype, or a dict or tuple of them
    device, copy
        As for ``as_tensor``.
    """
    return each_named(
        lambda name, part, dtype: as_tensor(part, dtype, device, name, copy), x, dtypes
    )


def check_finite(x):
    """Refuse NaN and infinity in what was read just now, which nobody has looked at before."""
    for name, part in leaves(x):
        if isinstance(part, torch.Tensor):
            finite = not part.is_floating_point() or all_finite(part)
        else:
            finite = all_finite(part.data if sparse.issparse(part) else part)
        if not finite:
            raise ValueError(
                f"{name} contains NaN or infinity. Impute them (sklearn.impute) or drop such rows."
            )


def as_tensor(values, dtype, device, name, copy=False):
    """Return ``values`` as a tensor.

    Memory is shared with ``values`` where neither dtype nor device changes, unless ``copy``.

    Parameters
    ----------
    values : ndarray, sparse matrix or tensor
    dtype : torch.dtype
    device : torch.device
    name : {"X", "y", "sample_weight"}
        For the message where a value does not survive the change of dtype.
    """
    if isinstance(values, torch.Tensor):
        return _converted(values, dtype, device, name, copy)
    if sparse.issparse(values):
        values = values.toarray()
    target = _numpy_dtype(dtype)
    array = np.ascontiguousarray(values)
    if array.dtype != target:
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(target)
        if _narrows(values.dtype, target):
            _check_survived(values, array, name, dtype)
    if not array.flags.writeable:
        array = array.copy()
    tensor = torch.from_numpy(array).to(device=device, dtype=dtype)
    # Torch copies in a fraction of the time that numpy does.
    return tensor.clone() if copy and tensor.data_ptr() == values.ctypes.data else tensor


def _converted(values, dtype, device, name, copy):
    """Return a tensor in another dtype, where each value survives that, and place."""
    tensor = values.detach().to(device=device, dtype=dtype)
    if dtype.is_floating_point:
        narrows = values.is_floating_point() and values.dtype.itemsize > dtype.itemsize
        if narrows and not all_finite(tensor):
            raise _out_of_range(name, dtype)
    elif values.is_floating_point() and not torch.equal(tensor.to(values.dtype), values.to(device)):
        raise _not_whole(name, values.dtype)
    shares = tensor.device == values.device and tensor.data_ptr() == values.data_ptr()
    return tensor.clone() if copy and shares else tensor


@functools.cache  # of the dtypes of torch
def _numpy_dtype(dtype):
    """Nearest dtype of numpy, which has no bfloat16."""
    return np.float32 if dtype is torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype


def _narrows(source, target):
    return not np.can_cast(source, target, casting="safe")


def _check_survived(values, array, name, dtype):
    if array.dtype.kind == "f":
        if not all_finite(array):
            raise _out_of_range(name, dtype)
    elif not np.array_equal(values, array):
        raise _not_whole(name, values.dtype)


def _out_of_range(name, dtype):
    short = str(dtype).removeprefix("torch.")
    return ValueError(
        f"{name} has values beyond the range of {short}, the dtype the net computes in. "
        'Scale them (sklearn.preprocessing.StandardScaler), or set dtype="float64".'
    )


def _not_whole(name, dtype):
    return ValueError(
        f"{name} must hold whole numbers, because the net begins with an embedding, "
        f"got {dtype}. Pass integer ids."
    )
