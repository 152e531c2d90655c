"""y as the numbers that a loss takes, and weights as it takes them."""

from functools import partial

import numpy as np

from sktorch.data.checks import Rows

__all__ = ["encoded"]


def encoded(target, rows, factors):
    """Return rows with y as numbers and weights that are 1 on average."""
    if rows.X.carries_y:
        return Rows(rows.X, target.encode(rows.y), None, partial(_encoded_parts, target, factors))
    y, weight = _encoded_parts(target, factors, rows.y, rows.weight)
    if weight is None:
        return Rows(rows.X, y)
    if not weight.any():
        raise ValueError("class_weight and sample_weight leave every row a weight of zero.")
    # Divided by the largest first: a mean of extreme weights may not be representable.
    weight = weight / weight.max()
    rows = Rows(rows.X, y, weight / weight.mean())
    return rows if weight.all() else rows.take(np.flatnonzero(weight))


def _encoded_parts(target, factors, y, weight):
    """Return y as numbers, and weights with those of the classes."""
    y = target.encode(y)
    if factors is not None:
        weight = factors[y] if weight is None else factors[y] * weight
    return y, weight
