"""Losses of values: ``(y_pred, y_true, **params) -> (n_samples,)``.

Both have shape ``(n_samples, n_outputs)``, or ``(n_samples,)`` for a net that gives that.
"""

import torch
import torch.nn.functional as F

from sktorch.losses.reduction import row_mean

__all__ = [
    "absolute_error",
    "cosine",
    "gamma",
    "gaussian_nll",
    "huber",
    "poisson",
    "quantile",
    "smooth_l1",
    "squared_error",
]


def squared_error(y_pred, y_true):
    """``(y_pred - y_true)**2``, averaged over outputs."""
    return row_mean(F.mse_loss(y_pred, y_true, reduction="none"))


def absolute_error(y_pred, y_true):
    """``|y_pred - y_true|``, averaged over outputs."""
    return row_mean(F.l1_loss(y_pred, y_true, reduction="none"))


def smooth_l1(y_pred, y_true, beta=1.0):
    """Squared error over ``2 beta`` up to ``beta``, absolute beyond (Girshick, 2015)."""
    return row_mean(F.smooth_l1_loss(y_pred, y_true, reduction="none", beta=beta))


def huber(y_pred, y_true, delta=1.0):
    """Half the squared error up to ``delta``, linear beyond (Huber, 1964)."""
    return row_mean(F.huber_loss(y_pred, y_true, reduction="none", delta=delta))


def poisson(y_pred, y_true):
    """Negative log likelihood of a count, less its constant; the net gives the log of the mean."""
    return row_mean(F.poisson_nll_loss(y_pred, y_true, reduction="none"))


# The next three give a value for each output; the registry averages them.


def quantile(y_pred, y_true, quantile=0.5):
    """Pinball loss, least at the ``quantile`` of y (Koenker and Bassett, 1978)."""
    error = y_true - y_pred
    return torch.maximum(quantile * error, (quantile - 1) * error)


def gamma(y_pred, y_true):
    """Negative log likelihood of a Gamma up to its shape; the net gives the log of the mean."""
    return y_pred + y_true * torch.exp(-y_pred)


def gaussian_nll(y_pred, y_true):
    """Negative log likelihood of a normal, less its constant; the net gives mean and log variance.

    The first half of the outputs are means, the second the logarithms of the variances
    (Nix and Weigend, 1994).
    """
    mean, log_variance = y_pred.chunk(2, dim=1)
    return 0.5 * (log_variance + (y_true - mean) ** 2 * torch.exp(-log_variance))


def cosine(y_pred, y_true):
    """One minus the cosine of the angle between the rows of ``y_pred`` and ``y_true``."""
    return 1 - F.cosine_similarity(y_pred, y_true, dim=1)
