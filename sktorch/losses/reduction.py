"""From a value for each output to one for each sample."""

import functools

__all__ = ["averaged", "row_mean"]


def row_mean(values):
    """Average everything but the first axis: ``(n_samples, ...) -> (n_samples,)``."""
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def averaged(elementwise):
    """Return ``pointwise`` and ``mean`` of a loss that gives a value for each output."""

    @functools.wraps(elementwise)
    def pointwise(y_pred, y_true, **parameters):
        return row_mean(elementwise(y_pred, y_true, **parameters))

    def mean(y_pred, y_true, **parameters):
        return elementwise(y_pred, y_true, **parameters).mean()

    return {"pointwise": pointwise, "mean": mean}
