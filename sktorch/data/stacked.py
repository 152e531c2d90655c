"""Batches of several parts of data side by side, for nets that train as one."""

from itertools import groupby, zip_longest
from typing import NamedTuple

import torch

from sktorch.data.batches import Batch, total_of

__all__ = ["share_rows", "stacked_batches"]

# Rows are gathered for some steps at once; this bounds what they take, as if none were shared, and
# there may be three copies of them for a moment.
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
    orders = _orders(parts)
    done = [0] * len(parts)
    for n_steps, runs in _blocks(parts):
        gathered = [
            _gathered(parts[members], orders[members], done[members], n_steps, size)
            for members, size in runs
        ]
        for step in range(n_steps):
            for (members, size), rows in zip(runs, gathered, strict=True):
                x, y, weight = (None if each is None else each.of(step) for each in rows)
                yield members, Batch(x, y, weight, total_of(weight, size))
        for members, size in runs:
            done[members] = [start + n_steps * size for start in done[members]]


class _Nothing:
    """No rows."""

    sizes = ()
    generator = None


def _orders(parts):
    """Return the order of the next epoch of each part, or None; equal ones are one object.

    It takes a fraction of the time of drawing to see that a generator stands where another did,
    and to let it go on from where that one is now.
    """
    orders, drawn = [], {}
    for part in parts:
        if part.generator is None:
            orders.append(None)
            continue
        place = part.n_rows, part.generator.get_state().numpy().tobytes()
        if place in drawn:
            part.generator.set_state(drawn[place][1])
        else:
            drawn[place] = part.draw_order(), part.generator.get_state()
        orders.append(drawn[place][0])
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
    """Return x, y and weight of the next steps, as ``_SideBySide`` or None."""
    stops = [start + n_steps * size for start in starts]
    places = [*zip(parts, orders, starts, stops, strict=True)]
    return [_side_by_side(places, name, (n_steps, 1, size)) for name in ("x", "y", "weight")]


class _SideBySide(NamedTuple):
    """Rows of some steps, for members of which several may have the same.

    Parameters
    ----------
    rows : Tensor of shape (n_steps, n_different, size, ...)
    which : Tensor of int64, shape (n_members,), or None
        Which of these are those of each member; None where all differ.
    """

    rows: torch.Tensor
    which: torch.Tensor | None

    def of(self, step):
        """Return the rows of one step, of shape (n_members, size, ...)."""
        rows = self.rows[step]
        # Copied only now, so that they are still in the cache when they are used.
        return rows if self.which is None else rows.index_select(0, self.which)


def _side_by_side(places, name, shape):
    """Return one of x, y and weight of ``_gathered``."""
    known, which = {}, []
    for part, order, start, stop in places:
        source = getattr(part, name)
        if source is None:
            return None
        index = part.index if name == "x" else None
        key = id(source), id(order), id(index), start
        if key not in known:
            rows = _rows(part, name, order, start, stop)
            known[key] = len(known), rows.reshape(*shape, *source.shape[1:])
        which.append(known[key][0])
    rows = torch.cat([block for _, block in known.values()], 1)
    if len(known) == len(places):
        return _SideBySide(rows, None)
    which = torch.tensor(which, device=rows.device)
    if 2 * len(known) > len(places) or not rows.is_cpu:
        # Where few are shared, or each copy is a kernel to launch, it is less to copy them once.
        return _SideBySide(rows.index_select(1, which), None)
    return _SideBySide(rows, which)


def _rows(part, name, order, start, stop):
    """Return some rows of x, y or weight of a part, in the order of an epoch."""
    source = getattr(part, name)
    if order is None:
        return source[start:stop]
    where = order[start:stop]
    return source.index_select(0, part.x_rows(where) if name == "x" else where)
