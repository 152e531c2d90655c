"""Rows to the device, in the dtypes and the shapes that the net and the loss take."""

from functools import partial

import torch

from sktorch.data.batches import Resident, row_bytes
from sktorch.data.inputs import Samples, Stream
from sktorch.data.sharing import Shared
from sktorch.data.streams import Arriving, Streamed
from sktorch.data.tensors import as_tensor, as_tensors, check_finite
from sktorch.engine.source import choose_source, usable_workers
from sktorch.nets import first_layer, float_dtype, has_batch_norm

__all__ = ["EVAL_ROWS", "batch_rows", "check_ids", "eval_rows", "place"]

# Enough rows that the arithmetic dwarfs the overhead of a call, and few activations at once.
EVAL_ROWS = 8192
_EVAL_BYTES = 2**26

# Samples that are read one by one; a step waits for no more of them than this.
_READ_AT_ONCE = 1024


def batch_rows(batch_size, n_samples):
    """Rows of a training batch; "auto" is at most 200, and more where there are very many rows."""
    if batch_size == "auto":
        batch_size = 200 if n_samples <= 20_000 else 512
    # Of numpy's integers too, which do not multiply lists.
    return min(int(batch_size), n_samples)


def eval_rows(sample_bytes):
    """Rows of a batch to evaluate or predict; fewer where samples are large."""
    return max(1, min(EVAL_ROWS, _EVAL_BYTES // max(1, sample_bytes)))


class Load:
    """Reads rows as tensors of the net and the loss.

    Parameters
    ----------
    rows : Rows
        With y encoded.
    net : nn.Module
    device : torch.device
    signature : Signature
        The layout "index" makes y int64 of shape (n_samples,); the others give it the dtype of
        ``net`` and the shape of its output, so that no loss can broadcast one against the other.
    copy : bool
        Whether tensors must not share memory with the user's data.
    """

    def __init__(self, rows, net, device, signature, copy):
        self.rows = rows
        self.device = device
        self.signature = signature
        self.copy = copy
        self.dtype = float_dtype(net)
        self.net = net

    def __call__(self, rows):
        """Return ``(x, y, weight)`` of a slice or an array of rows."""
        return self.tensors(*self.rows.read(rows))

    def arriving(self, x, y, weight):
        """Return the same of a batch that was read elsewhere."""
        return self.tensors(x, *self.rows.encoded(y, weight))

    def tensors(self, x, y, weight):
        """Convert and check what was read."""
        signature, device = self.signature, self.device
        if not self.rows.X.checked:
            check_finite(x)
        x = as_tensors(x, signature.input_dtype, device, self.copy)
        check_ids(self.net, x)
        y_dtype = torch.int64 if signature.layout == "index" else self.dtype
        y = as_tensor(y, y_dtype, device, "y", self.copy)
        y = y.reshape(len(y), *signature.target_shape)
        if weight is not None:
            weight = as_tensor(weight, self.dtype, device, "sample_weight", self.copy)
        return x, y, weight


def place(
    rows,
    net,
    device,
    *,
    signature,
    batch_size=None,
    generator=None,
    source="auto",
    workers=0,
    stream=None,
    ranks=None,
):
    """Return the rows as batches on ``device``.

    Parameters
    ----------
    rows : Rows
        With y encoded.
    net : nn.Module
    device : torch.device
    signature : Signature
    batch_size : int, "auto" or None
        Rows of a training step; None for rows to evaluate on.
    generator : torch.Generator or None
        Shuffles each epoch; None keeps the order.
    source : {"auto", "resident", "streamed"}
        Whether the data lies on the device as a whole.
    workers : int
        Processes that read streamed data.
    stream : RandomStream, optional
        What a Dataset draws random numbers from as it is read.
    ranks : Ranks, optional
        Processes that share each batch; ``batch_size`` is for one of them.
    """
    X = rows.X
    if isinstance(X, Stream):
        batches = _arriving(rows, net, device, signature, batch_size, workers, stream)
        return batches if ranks is None else Shared(batches, ranks, float_dtype(net))
    chosen = choose_source(X, source, signature.input_dtype, device)
    if chosen.kind == "resident":
        load = Load(rows, net, device, signature, copy=False)
        index = None
        if generator is not None and ranks is None and batch_rows(batch_size, len(X)) < len(X):
            # What is gathered anew for each epoch is gathered from where it lies.
            index = getattr(X, "index", None)
        if index is None:
            x, y, weight = load(slice(None))
        else:
            x, y, weight = load.tensors(X.values, rows.y, rows.weight)
            index = torch.from_numpy(index).to(device)
        sizes = _sizes(rows, net, batch_size, generator, row_bytes(x, y), ranks)
        batches = Resident(x, y, weight, **sizes, index=index)
    else:
        cpu = torch.device("cpu")
        load = Load(rows, net, cpu, signature, copy=True)
        if stream is not None and isinstance(X, Samples) and stream.feeds(lambda: X.head(1)):
            load = partial(stream.call, load)
        x, y, _ = load(slice(0, 1))
        batches = Streamed(
            load,
            len(rows),
            device,
            **_sizes(rows, net, batch_size, generator, row_bytes(x, y), ranks),
            most_rows=_READ_AT_ONCE if isinstance(X, Samples) else None,
            workers=usable_workers(workers),
            seed=0 if stream is None else stream.seed,
        )
    batches.reason = chosen.reason
    return batches if ranks is None else Shared(batches, ranks, float_dtype(net))


def _sizes(rows, net, batch_size, generator, sample_bytes, ranks):
    """Return which batches to make: those of a training step, or those to evaluate on."""
    count = 1 if ranks is None else ranks.count
    if len(rows) < count:
        raise ValueError(f"X has {len(rows)} rows for {count} processes. Start fewer.")
    if batch_size is None:
        return {"batch_size": max(count, eval_rows(sample_bytes)), "least_rows": count}
    batch_size = batch_rows(batch_size, len(rows))
    lone_row = not has_batch_norm(net)
    if not lone_row and min(batch_size, len(rows)) == 1:
        raise ValueError(
            f"batch_size={batch_size} of {len(rows)} rows gives batches of one row, which the "
            "batch norm of net cannot be trained on. Set batch_size to 2 or more."
        )
    least_rows = count if lone_row else 2 * count
    batch_size = min(batch_size * count, len(rows))
    return {"batch_size": batch_size, "generator": generator, "least_rows": least_rows}


# Rows of a batch of samples that can only be iterated, where batch_size="auto".
_STREAM_ROWS = 200


def _arriving(rows, net, device, signature, batch_size, workers, stream):
    """Return batches of data that comes in an order of its own."""
    X = rows.X
    load = Load(rows, net, torch.device("cpu"), signature, copy=True)
    if X.has_batches:
        batch_size = getattr(X.source, "batch_size", None) or 1
    elif batch_size in (None, "auto"):
        batch_size = _STREAM_ROWS
    workers = 0 if X.has_batches else usable_workers(workers)
    one_pass = partial(X.batches, batch_size, workers)
    batches = Arriving(
        one_pass if stream is None else lambda: stream.advance(one_pass()),
        load.arriving,
        device,
        X.count(batch_size),
        batch_size,
    )
    batches.reason = X.elsewhere
    return batches


def check_ids(net, x):
    """Refuse ids that the embedding ``net`` begins with does not have."""
    if isinstance(x, dict | tuple) or x.dtype is not torch.int64:
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
