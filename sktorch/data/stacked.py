"""Batches of several parts of data side by side, for nets that train as one."""

from itertools import groupby, zip_longest

import torch

from sktorch.data.batches import Batch, total_of

__all__ = ["share_rows", "stacked_batches"]

# Rows are gathered for some steps at once; this bounds what they take, of which there may be three
# copies for a moment.
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
    parts = [part or _Nothing() for part in parts]
    orders = _shared([part.draw_order() for part in parts])
    done = [0] * len(parts)
    for n_steps, runs in _blocks(parts):
        gathered = [
            _gathered(parts[members], orders[members], done[members], n_steps, size)
            for members, size in runs
        ]
        for step in range(n_steps):
            for (members, size), (x, y, weight) in zip(runs, gathered, strict=True):
                weights = None if weight is None else weight[step]
                yield members, Batch(x[step], y[step], weights, total_of(weights, size))
        for members, size in runs:
            done[members] = [start + n_steps * size for start in done[members]]


class _Nothing:
    """No rows."""

    sizes = ()

    def draw_order(self):
        """Return the order of the next epoch."""


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


def _blocks(parts):
    """Yield how many steps follow that are of the same runs, and these; see ``_runs``."""
    first = next(part for part in parts if part.sizes)
    row_bytes = sum(t[:1].nbytes for t in (first.x, first.y))
    steps = zip_longest(*(part.sizes for part in parts), fillvalue=0)
    for sizes, alike in groupby(steps):
        n_left = sum(1 for _ in alike)
        at_once = max(1, _GATHERED_BYTES // (sum(sizes) * max(1, row_bytes)))
        while n_left:
            yield min(n_left, at_once), _runs(sizes)
            n_left -= min(n_left, at_once)


def _runs(sizes):
    """Return neighbours whose batch is of one size, and that size."""
    edges = [i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]]
    ends = zip([0, *edges], [*edges, len(sizes)], strict=True)
    return [(slice(start, stop), sizes[start]) for start, stop in ends if sizes[start]]


def _gathered(parts, orders, starts, n_steps, size):
    """Return x, y and weight of the next steps, each of shape (n_steps, n_members, size, ...)."""
    stops = [start + n_steps * size for start in starts]
    places = [*zip(parts, orders, starts, stops, strict=True)]
    return [_side_by_side(places, name, (n_steps, 1, size)) for name in ("x", "y", "weight")]


def _side_by_side(places, name, shape):
    """Return one of x, y and weight of ``_gathered``, or None; rows that parts share once."""
    known, blocks = {}, []
    for part, order, start, stop in places:
        source = getattr(part, name)
        if source is None:
            return None
        index = part.index if name == "x" else None
        key = id(source), id(order), id(index), start
        if key not in known:
            rows = _rows(part, name, order, start, stop)
            known[key] = rows.reshape(*shape, *source.shape[1:])
        blocks.append(known[key])
    return torch.cat(blocks, 1)


def _rows(part, name, order, start, stop):
    """Return some rows of x, y or weight of a part, in the order of an epoch."""
    source = getattr(part, name)
    if order is None:
        return source[start:stop]
    where = order[start:stop]
    return source.index_select(0, part.x_rows(where) if name == "x" else where)
