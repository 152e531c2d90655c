"""What a fitted net gives for rows it has not seen."""

import numpy as np
import torch

from sktorch.data.tensors import as_tensor
from sktorch.engine.placement import check_ids
from sktorch.engine.probe import forward_or_explain
from sktorch.engine.shortage import in_memory

__all__ = ["outputs"]

# Enough rows that the arithmetic dwarfs the overhead of a call, and few activations at once.
_CHUNK_ROWS = 4096


def outputs(net, X, dtype, device, decoder=None):
    """Return what ``net``, in eval mode, gives for each row of X.

    Parameters
    ----------
    net : nn.Module
    X : ndarray or sparse matrix of shape (n_samples, ...)
    dtype : torch.dtype
        What ``net`` takes X in.
    device : torch.device
        Where ``net`` is.
    decoder : nn.Module, optional
        Has ``log_probabilities``, which turns the net's output into them.

    Returns
    -------
    y_pred : ndarray of shape (n_samples, n_outputs), float64
    """

    def chunk(rows):
        # Copied, since the net may write to what it is given.
        x = as_tensor(X[rows.start : rows.stop], dtype, device, "X", copy=True)
        check_ids(net, x)
        y_pred = forward_or_explain(net, x).reshape(len(x), -1)
        if decoder is not None:
            y_pred = decoder.log_probabilities(y_pred)
        return y_pred.cpu()

    n_rows = X.shape[0]
    chunks = [range(n_rows)[i : i + _CHUNK_ROWS] for i in range(0, n_rows, _CHUNK_ROWS)]
    with torch.inference_mode():
        parts = [y_pred for _, y_pred in in_memory(chunk, chunks, len, _halves, device)]
    y_pred = torch.cat(parts).double().numpy()
    if np.isnan(y_pred).any():
        raise ValueError(
            f"net gives NaN for {np.isnan(y_pred).any(axis=1).sum()} of {n_rows} rows of X, of "
            "which it was fitted on no such. Look for values of X far outside of the training data."
        )
    return y_pred


def _halves(rows):
    middle = len(rows) // 2
    return [rows[:middle], rows[middle:]]
