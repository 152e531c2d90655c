"""What a fitted net gives for rows it has not seen."""

import torch

from sktorch.data.tensors import as_tensor
from sktorch.engine.placement import input_dtype
from sktorch.engine.probe import forward_or_explain

__all__ = ["outputs"]

# Enough rows that the arithmetic dwarfs the overhead of a call, and few activations at once.
_CHUNK_ROWS = 4096


def outputs(net, X, device):
    """Return what ``net``, in eval mode, gives for each row of X.

    Parameters
    ----------
    net : nn.Module
    X : ndarray or sparse matrix of shape (n_samples, ...)
    device : torch.device
        Where ``net`` is.

    Returns
    -------
    y_pred : ndarray of shape (n_samples, n_outputs), float64
    """
    dtype = input_dtype(net)
    chunks = []
    with torch.inference_mode():
        for start in range(0, X.shape[0], _CHUNK_ROWS):
            x = as_tensor(X[start : start + _CHUNK_ROWS], dtype, device, "X")
            chunks.append(forward_or_explain(net, x).cpu())
    y_pred = torch.cat(chunks).double().numpy()
    return y_pred.reshape(len(y_pred), -1)
