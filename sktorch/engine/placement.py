"""Rows to the device, in the dtypes and the shapes that the net and the loss take."""

import torch

from sktorch.data.batches import Resident
from sktorch.data.tensors import as_tensor
from sktorch.nets import float_dtype, reads_ids

__all__ = ["batch_rows", "input_dtype", "place"]

_EVAL_ROWS = 4096


def input_dtype(net):
    """Dtype that ``net`` takes X in."""
    return torch.int64 if reads_ids(net) else float_dtype(net)


def batch_rows(batch_size, n_samples):
    """Rows of a training batch; "auto" is at most 200, and more where there are very many rows."""
    if batch_size == "auto":
        batch_size = 200 if n_samples <= 20_000 else 512
    return min(batch_size, n_samples)


def place(rows, net, device, *, layout, shape, batch_size=_EVAL_ROWS, generator=None):
    """Return the rows as batches on ``device``.

    Parameters
    ----------
    rows : Rows
        With y encoded.
    net : nn.Module
    device : torch.device
    layout : {"index", "indicator", "values"}
        "index" makes y int64 of shape (n_samples,); the others give it the dtype of ``net`` and the
        shape of its output, so that no loss can broadcast the one against the other.
    shape : tuple
        Shape of the net's output for one sample.
    batch_size : int
    generator : torch.Generator or None
        Shuffles each epoch; None keeps the order.
    """
    dtype = float_dtype(net)
    x = as_tensor(rows.X, input_dtype(net), device, "X")
    if layout == "index":
        y = as_tensor(rows.y, torch.int64, device, "y")
    else:
        y = as_tensor(rows.y, dtype, device, "y").reshape(len(rows), *shape)
    weight = None
    if rows.weight is not None:
        weight = as_tensor(rows.weight, dtype, device, "sample_weight")
    return Resident(x, y, weight, batch_size, generator)
