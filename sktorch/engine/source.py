"""Whether data is to lie on the device as a whole."""

import math
import multiprocessing
import warnings
from typing import NamedTuple

import torch
from torch.utils.data import get_worker_info

from sktorch.engine.memory import available_bytes
from sktorch.fields import leaves
from sktorch.specs import user_level

__all__ = ["DataSource", "choose_source", "usable_workers"]

# Of the memory that is free on the device. Weights, gradients and activations take the rest, and
# for a moment there are two of what is converted.
_SHARE = 0.4


class DataSource(NamedTuple):
    """Where a fit took its batches from.

    Parameters
    ----------
    kind : {"resident", "streamed"}
    reason : str
    """

    kind: str
    reason: str


def choose_source(X, wanted, dtypes, device):
    """Return the ``DataSource`` for X.

    Parameters
    ----------
    X : Arrays, Samples or Stream
    wanted : {"auto", "resident", "streamed"}
    dtypes : torch.dtype, or a dict or tuple of them
        What the net takes X in.
    device : torch.device
    """
    if wanted != "auto":
        return DataSource(wanted, f'data_source="{wanted}" was asked for')
    if X.elsewhere is not None:
        return DataSource("streamed", X.elsewhere)
    x, _, _ = X.head(1)
    kinds = dict(leaves(dtypes))
    needed = sum(
        len(X) * math.prod(part.shape[1:]) * kinds[name].itemsize
        for name, part in leaves(x)
        if not _lies_there(part, kinds[name], device)
    )
    if needed == 0:
        return DataSource("resident", f"X lies in the memory of {device.type} as the net takes it")
    free = available_bytes(device)
    if free is None:
        return DataSource("resident", f"{device.type} does not tell how much memory is free")
    words = f"X takes {_megabytes(needed)} on {device.type}, of {_megabytes(free)} free"
    return DataSource("resident" if needed <= _SHARE * free else "streamed", words)


def _lies_there(part, dtype, device):
    """Whether an array needs no other memory than it has, or hardly any."""
    if isinstance(part, torch.Tensor):
        return part.device.type == device.type and part.dtype is dtype
    return device.type == "cpu" and str(part.dtype) == str(dtype).removeprefix("torch.")


def _megabytes(n_bytes):
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e6:.2g} MB"


def usable_workers(wanted):
    """Return how many processes may read; inside a worker process none, with a warning."""
    inside = multiprocessing.parent_process() is not None or get_worker_info() is not None
    if wanted and inside:
        warnings.warn(
            f"num_workers={wanted} inside a worker process would start processes of a process: a "
            "thread reads instead. Set num_workers=0, or n_jobs=1.",
            UserWarning,
            stacklevel=user_level(),
        )
        return 0
    return wanted
