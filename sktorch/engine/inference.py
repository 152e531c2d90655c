"""What a fitted net gives for rows it has not seen."""

import math

import numpy as np
import torch

from sktorch.data.checks import unaugmented
from sktorch.data.collate import to_array
from sktorch.data.inputs import Stream
from sktorch.data.streams import prefetched
from sktorch.data.tensors import as_tensors, check_finite
from sktorch.engine.placement import EVAL_ROWS, check_ids, eval_rows
from sktorch.engine.probe import forward_or_explain
from sktorch.engine.shortage import in_memory
from sktorch.fields import each, leaves, outline

__all__ = ["chunks", "outputs"]


def outputs(net, X, dtype, device, decoder=None):
    """Return what ``net``, in eval mode, gives for each row of X.

    Parameters
    ----------
    net : nn.Module
    X : Arrays, Samples or Stream
    dtype : torch.dtype, or a dict or tuple of them
        What ``net`` takes X in.
    device : torch.device
        Where ``net`` is.
    decoder : nn.Module, optional
        Has ``log_probabilities``, which turns the net's output into them.

    Returns
    -------
    y_pred : ndarray of shape (n_samples, n_outputs), float64
    y : ndarray of shape (n_samples, ...), or None
        The targets that X holds, in the same order.
    """

    def forward(chunk):
        x, *_ = chunk
        _check_outline(x, dtype)
        if not X.checked:
            check_finite(x)
        # Copied, since the net may write to what it is given.
        x = as_tensors(x, dtype, device, copy=True)
        check_ids(net, x)
        y_pred = forward_or_explain(net, x)
        y_pred = y_pred.reshape(len(y_pred), -1)
        return (y_pred if decoder is None else decoder.log_probabilities(y_pred)).cpu()

    given, targets = [], []
    with torch.inference_mode():
        for (_, y, _), y_pred in in_memory(forward, chunks(X), _n_rows, _halves, device):
            given.append(y_pred)
            targets.append(y)
    y_pred = torch.cat(given).double().numpy()
    # A sum is quicker to look at, and not a number if one of its terms is not.
    with np.errstate(invalid="ignore", over="ignore"):
        total = y_pred.sum()
    if np.isnan(total) and np.isnan(y_pred).any():
        raise ValueError(
            f"net gives NaN for {np.isnan(y_pred).any(axis=1).sum()} of {len(y_pred)} rows of X, "
            "of which it was fitted on no such. Look for values of X far outside of the training "
            "data."
        )
    if targets[0] is None:
        return y_pred, None
    return y_pred, np.concatenate([to_array(y, "y") for y in targets])


def _n_rows(chunk):
    return leaves(chunk[0])[0][1].shape[0]


def _halves(chunk):
    """Return a chunk as two, in the order of its rows."""
    middle = _n_rows(chunk) // 2
    return [
        tuple(None if part is None else each(lambda p, r=rows: p[r], part) for part in chunk)
        for rows in (slice(None, middle), slice(middle, None))
    ]


def chunks(X):
    """Yield ``(x, y, weight)`` of all of X, some thousand rows at a time."""
    if isinstance(X, Stream):
        yield from X.batches(EVAL_ROWS)
        return
    X = unaugmented(X)
    x, _, _ = X.head(1)
    n_rows = eval_rows(sum(math.prod(p.shape[1:]) * p.dtype.itemsize for _, p in leaves(x)))
    starts = range(0, len(X), n_rows)
    rows = [slice(start, min(start + n_rows, len(X))) for start in starts]
    # What lies in memory is a view: there is nothing to read ahead.
    yield from map(X.read, rows) if X.elsewhere is None else prefetched(X.read, rows)


def _check_outline(x, dtype):
    """Refuse inputs other than those the net was fitted with."""
    if outline(x) != outline(dtype):
        given, wanted = (_inputs(outline(value)) for value in (x, dtype))
        raise ValueError(f"X must hold {wanted}, as in fit, got {given}.")


def _inputs(found):
    if found is None:
        return "one array"
    return (
        f"{found} inputs" if isinstance(found, int) else f"the inputs {', '.join(map(str, found))}"
    )
