"""Rows to the device, in the dtypes and the shapes that the net and the loss take."""

import torch

from sktorch.data.batches import Resident
from sktorch.data.tensors import as_tensor
from sktorch.nets import first_layer, float_dtype, has_batch_norm

__all__ = ["batch_rows", "check_ids", "place"]

_EVAL_ROWS = 4096


def batch_rows(batch_size, n_samples):
    """Rows of a training batch; "auto" is at most 200, and more where there are very many rows."""
    if batch_size == "auto":
        batch_size = 200 if n_samples <= 20_000 else 512
    # Of numpy's integers too, which do not multiply lists.
    return min(int(batch_size), n_samples)


def place(rows, net, device, *, signature, batch_size=None, generator=None):
    """Return the rows as batches on ``device``.

    Parameters
    ----------
    rows : Rows
        With y encoded.
    net : nn.Module
    device : torch.device
    signature : Signature
        The layout "index" makes y int64 of shape (n_samples,); the others give it the dtype of
        ``net`` and the shape of its output, so that no loss can broadcast one against the other.
    batch_size : int or None
        Rows of a training step; None for rows to evaluate on.
    generator : torch.Generator or None
        Shuffles each epoch; None keeps the order.
    """
    dtype = float_dtype(net)
    # What is gathered anew for each epoch is gathered from where it lies.
    gathered = generator is not None and batch_size < len(rows)
    x = as_tensor(rows.source if gathered else rows.X, signature.input_dtype, device, "X")
    check_ids(net, x)
    y_dtype = torch.int64 if signature.layout == "index" else dtype
    y = as_tensor(rows.y, y_dtype, device, "y").reshape(len(rows), *signature.target_shape)
    weight = None
    if rows.weight is not None:
        weight = as_tensor(rows.weight, dtype, device, "sample_weight")
    if batch_size is None:
        return Resident(x, y, weight, _EVAL_ROWS)
    lone_row = not has_batch_norm(net)
    if not lone_row and min(batch_size, len(rows)) == 1:
        raise ValueError(
            f"batch_size={batch_size} of {len(rows)} rows gives batches of one row, which the "
            "batch norm of net cannot be trained on. Set batch_size to 2 or more."
        )
    index = torch.from_numpy(rows.index).to(device) if gathered and rows.index is not None else None
    return Resident(x, y, weight, batch_size, generator, lone_row, index)


def check_ids(net, x):
    """Refuse ids that the embedding ``net`` begins with does not have."""
    if x.dtype is not torch.int64:
        return
    embedding = first_layer(net)
    if not hasattr(embedding, "num_embeddings"):
        return
    low, high = x.min().item(), x.max().item()
    if low < 0 or high >= embedding.num_embeddings:
        raise ValueError(
            f"X must hold ids from 0 to {embedding.num_embeddings - 1}, the rows of the embedding "
            f"that net begins with, got {low} to {high}. Make the embedding larger, or map other "
            "ids to one for the unknown."
        )
