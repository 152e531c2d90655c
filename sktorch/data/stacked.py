"""Batches of several parts of data side by side, for nets that train as one."""

import torch

from sktorch.data.batches import Batch, total_of

__all__ = ["share_rows", "stacked_batches"]

# Rows are gathered for some steps at once; this bounds what the copy takes.
_GATHERED_BYTES = 2**24


def share_rows(parts):
    """Let parts that hold the same rows hold one copy of them.

    Parameters
    ----------
    parts : list of Resident or Streamed
    """
    known = {}
    for part in parts:
        for name in ("x", "y", "weight", "index"):
            # Streamed data has none, and several inputs are in a dict or a tuple.
            tensor = getattr(part, name, None)
            if not isinstance(tensor, torch.Tensor) or not len(tensor):
                continue
            # A look at a few numbers tells most apart.
            rows = tensor[:: max(1, len(tensor) // 4)].flatten(1 if tensor.ndim > 1 else 0)
            glimpse = (tensor.shape, tensor.dtype, rows.flatten()[:64].cpu().numpy().tobytes())
            alike = known.setdefault(glimpse, [])
            for other in alike:
                if other is tensor or torch.equal(other, tensor):
                    setattr(part, name, other)
                    break
            else:
                alike.append(tensor)


def stacked_batches(parts):
    """Yield one epoch of each part, its own batches in its own order, side by side.

    Parameters
    ----------
    parts : list of Resident or None
        Of samples of one shape and dtype; all with weights or none. Their sizes may differ: parts
        whose batch is of another size, or that have no more, are in a batch of their own, or in
        none.

    Yields
    ------
    members : slice
        Which of the parts.
    batch : Batch
        With an axis of members before that of samples; ``total`` has shape (n_members,) where there
        are weights.
    """
    parts = [part or _Nothing(parts) for part in parts]
    orders = _shared([part.draw_order() for part in parts])
    starts = [_starts(part.sizes) for part in parts]
    row_bytes = sum(t[:1].nbytes for t in (parts[0].x, parts[0].y))
    per_step = len(parts) * max(max(part.sizes, default=0) for part in parts) * max(1, row_bytes)
    stride = max(1, _GATHERED_BYTES // per_step)
    n_steps = max(len(part.sizes) for part in parts)
    for first in range(0, n_steps, stride):
        bounds = [[s[min(k, len(s) - 1)] for k in (first, first + stride)] for s in starts]
        x, y, weight = (_gathered(parts, orders, bounds, name) for name in ("x", "y", "weight"))
        for step in range(first, min(first + stride, n_steps)):
            for members, size in _runs(parts, step):
                start = starts[members.start][step] - bounds[members.start][0]
                rows = (members, slice(start, start + size))
                weights = None if weight is None else weight[rows]
                yield members, Batch(x[rows], y[rows], weights, total_of(weights, size))


class _Nothing:
    """No rows, of the kind of others."""

    generator = None
    index = None
    sizes = ()

    def __init__(self, parts):
        like = next(part for part in parts if part is not None)
        self.x, self.y = like.x[:0], like.y[:0]
        self.weight = None if like.weight is None else like.weight[:0]

    def draw_order(self):
        return None


def _shared(orders):
    """Return the orders, equal ones being one object."""
    known = []
    for i, order in enumerate(orders):
        if order is None:
            continue
        for other in known:
            if torch.equal(other, order):
                orders[i] = other
                break
        else:
            known.append(order)
    return orders


def _starts(sizes):
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return starts


def _runs(parts, step):
    """Return neighbours whose batch of ``step`` is of one size, and that size."""
    sizes = [part.sizes[step] if step < len(part.sizes) else 0 for part in parts]
    edges = [i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]]
    ends = zip([0, *edges], [*edges, len(sizes)], strict=True)
    return [(slice(start, stop), sizes[start]) for start, stop in ends if sizes[start]]


def _gathered(parts, orders, bounds, name):
    """Return some rows of each part in one tensor; what a shorter part leaves is not to be read."""
    first = getattr(parts[0], name)
    if first is None:
        return None
    longest = max(stop - start for start, stop in bounds)
    gathered = first.new_empty(len(parts), longest, *first.shape[1:])
    done = {}
    for into, part, order, (start, stop) in zip(gathered, parts, orders, bounds, strict=True):
        source = getattr(part, name)
        index = part.index if name == "x" else None
        same = done.setdefault((id(source), id(order), id(index), start, stop), into)
        if same is not into:
            into.copy_(same)
        elif stop == start:
            continue
        elif order is None:
            into[: stop - start] = source[start:stop]
        else:
            rows = order[start:stop] if index is None else part.x_rows(order[start:stop])
            torch.index_select(source, 0, rows, out=into[: stop - start])
    return gathered
