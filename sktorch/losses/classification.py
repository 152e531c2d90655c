"""Losses of class labels: ``(y_pred, y_true, **params) -> (n_samples,)``.

Targets of integers are class numbers against one output for each class; targets of the dtype and
the shape of the output are zeros and ones, for two classes with one output and multilabel data.
"""

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from sktorch.losses.reduction import row_mean

__all__ = [
    "AdaptiveLogSoftmax",
    "bce",
    "bce_probability",
    "cross_entropy",
    "focal",
    "hinge",
    "kl_div",
    "mean_cross_entropy",
    "mean_kl_div",
    "mean_sce",
    "nll",
    "sce",
]

# Classification, from logits --------------------------------------------------------------------


def cross_entropy(y_pred, y_true, label_smoothing=0.0):
    """Negative log likelihood of the class: softmax for indices, sigmoid for indicators.

    Smoothing moves the share ``label_smoothing`` of the target to all classes alike
    (Szegedy et al., 2016).
    """
    if y_true.is_floating_point():
        return bce(y_pred, _smoothed(y_true, label_smoothing))
    return F.cross_entropy(y_pred, y_true, reduction="none", label_smoothing=label_smoothing)


def mean_cross_entropy(y_pred, y_true, label_smoothing=0.0):
    """Average ``cross_entropy`` over samples in one call of torch."""
    if y_true.is_floating_point():
        return F.binary_cross_entropy_with_logits(y_pred, _smoothed(y_true, label_smoothing))
    return F.cross_entropy(y_pred, y_true, label_smoothing=label_smoothing)


def _smoothed(indicator, label_smoothing):
    if not label_smoothing:
        return indicator
    return indicator * (1 - label_smoothing) + label_smoothing / 2


def bce(y_pred, y_true):
    """Binary cross entropy of logits against indicators, averaged over labels."""
    return row_mean(F.binary_cross_entropy_with_logits(y_pred, y_true, reduction="none"))


def focal(y_pred, y_true, gamma=2.0, alpha="auto"):
    """Cross entropy times ``alpha_t (1 - p_t)**gamma``: easy samples count less.

    ``alpha`` weights the positive class, its complement the negative; a list weights each class;
    None is no weights; ``"auto"`` is 0.75 for two classes and None for more (Lin et al., 2017).
    """
    if y_true.is_floating_point():
        signed = y_pred * (2 * y_true - 1)
        values = torch.exp(gamma * F.logsigmoid(-signed)) * -F.logsigmoid(signed)
        weights = _label_weights(alpha, y_pred)
        if weights is not None:
            positive, negative = weights
            values = values * (y_true * positive + (1 - y_true) * negative)
        return row_mean(values)
    values = F.cross_entropy(y_pred, y_true, reduction="none")
    # Kept away from 0, where the gradient of a power below 1 is infinite.
    modulation = (-torch.expm1(-values)).clamp(min=torch.finfo(values.dtype).tiny)
    values = modulation**gamma * values
    weights = _class_weights(alpha, y_pred)
    return values if weights is None else values * weights[y_true]


def _label_weights(alpha, y_pred):
    """Return the weights of ones and of zeros, numbers or one for each label, or None."""
    if alpha is None or isinstance(alpha, str | Real):
        alpha = 0.75 if isinstance(alpha, str) else alpha
        return None if alpha is None else (alpha, 1 - alpha)
    width = 1 if y_pred.ndim == 1 else y_pred.shape[1]
    expected = (
        "for each of the 2 classes" if width == 1 else f"in [0, 1] for each of {width} labels"
    )
    if len(alpha) != max(2, width):
        raise ValueError(f"loss__alpha must have one weight {expected}, got {alpha}.")
    if width == 1:
        return alpha[1], alpha[0]
    positive = torch.as_tensor(alpha, dtype=y_pred.dtype, device=y_pred.device)
    return positive, 1 - positive


def _class_weights(alpha, y_pred):
    n_classes = y_pred.shape[1]
    if isinstance(alpha, str):
        alpha = 0.75 if n_classes == 2 else None
    if alpha is None:
        return None
    if isinstance(alpha, Real) and n_classes == 2:
        alpha = (1 - alpha, alpha)
    if isinstance(alpha, Real) or len(alpha) != n_classes:
        raise ValueError(
            f"loss__alpha must have one weight for each of the {n_classes} classes, got {alpha}. "
            f"Pass a list of {n_classes} numbers, or None."
        )
    return torch.as_tensor(alpha, dtype=y_pred.dtype, device=y_pred.device)


# Both sides of the logarithm in reverse cross entropy are clamped to [_FLOOR, 1].
_FLOOR = 1e-4


def sce(y_pred, y_true, a=1.0, b=1.0):
    """Symmetric cross entropy ``a CE + b RCE``, which bears wrong labels (Wang et al., 2019).

    ``RCE = -sum p log q`` swaps prediction and label; both are clamped to ``[1e-4, 1]``.
    """
    if y_true.is_floating_point():
        p = torch.sigmoid(y_pred)
        wrong = torch.where(y_true > 0.5, 1 - p, p).clamp(_FLOOR, 1)
        values = F.binary_cross_entropy_with_logits(y_pred, y_true, reduction="none")
        return row_mean(a * values - b * math.log(_FLOOR) * wrong)
    p = F.softmax(y_pred, dim=1).clamp(_FLOOR, 1)
    values = F.cross_entropy(y_pred, y_true, reduction="none")
    return a * values - b * (p * _log_labels(p, y_true)).sum(1)


def mean_sce(y_pred, y_true, a=1.0, b=1.0):
    """Average ``sce`` over samples, with one pass less."""
    if y_true.is_floating_point():
        return sce(y_pred, y_true, a, b).mean()
    p = F.softmax(y_pred, dim=1).clamp(_FLOOR, 1)
    reverse = torch.dot(p.flatten(), _log_labels(p, y_true).flatten()) / len(p)
    return a * F.cross_entropy(y_pred, y_true) - b * reverse


def _log_labels(p, y_true):
    """Return the logarithm of the one-hot labels, clamped."""
    logs = torch.full_like(p, math.log(_FLOOR))
    return logs.scatter(1, y_true.unsqueeze(1), 0.0)


def hinge(y_pred, y_true):
    """``max(0, 1 - margin)``; of several classes the margin to the best of the others.

    For several classes as Crammer and Singer (2001). It gives no probabilities.
    """
    if y_true.is_floating_point():
        return row_mean(F.relu(1 - y_pred * (2 * y_true - 1)))
    own = y_true.unsqueeze(1)
    best_other = y_pred.scatter(1, own, -torch.inf).amax(1)
    return F.relu(1 + best_other - y_pred.gather(1, own).squeeze(1))


# Classification, from probabilities -------------------------------------------------------------


def bce_probability(y_pred, y_true):
    """Binary cross entropy of probabilities, for a net that ends in a sigmoid."""
    return row_mean(F.binary_cross_entropy(y_pred, y_true, reduction="none"))


def nll(y_pred, y_true):
    """Negative log likelihood of log probabilities, for a net that ends in a log-softmax."""
    return F.nll_loss(y_pred, y_true, reduction="none")


def kl_div(y_pred, y_true):
    """Kullback-Leibler divergence of log probabilities from ``y_true``, summed over classes.

    ``y_true`` is a distribution over the classes, or the number of the one class.
    """
    if not y_true.is_floating_point():
        return nll(y_pred, y_true)
    return F.kl_div(y_pred, y_true, reduction="none").sum(1)


def mean_kl_div(y_pred, y_true):
    """Average ``kl_div`` over samples in one call of torch."""
    if not y_true.is_floating_point():
        return F.nll_loss(y_pred, y_true)
    return F.kl_div(y_pred, y_true, reduction="batchmean")


class AdaptiveLogSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """Softmax over many classes of very unequal frequency, with weights of its own.

    The net gives features, of any width. Frequent classes share a small softmax, rare ones larger
    clusters reached through it (Grave et al., 2017).

    Parameters
    ----------
    n_features, n_outputs : int
        Width of the net's output, and number of classes.
    counts : Tensor of shape (n_outputs,)
        Samples of each class: the clusters go by frequency.
    cutoffs : list of int or None
        Ends of the clusters among classes in order of frequency; None is a tenth and a half.
    div_value : float
        How much narrower each cluster is than the one before.
    """

    def __init__(self, n_features, n_outputs, counts, cutoffs=None, div_value=4.0):
        if cutoffs is None:
            ends = {max(1, n_outputs // 10), n_outputs // 2}
            cutoffs = sorted(end for end in ends if 0 < end < n_outputs)
        if n_features < div_value ** len(cutoffs):
            raise ValueError(
                f"net must give at least {math.ceil(div_value ** len(cutoffs))} features for "
                f"{len(cutoffs)} cutoffs and div_value={div_value}, got {n_features}"
            )
        super().__init__(n_features, n_outputs, cutoffs, div_value=div_value)
        rank = torch.empty(n_outputs, dtype=torch.int64)
        rank[torch.argsort(counts, descending=True, stable=True)] = torch.arange(n_outputs)
        self.register_buffer("rank", rank)

    def forward(self, y_pred, y_true):
        """Return the negative log likelihood, of shape (n_samples,)."""
        return -super().forward(y_pred, self.rank[y_true]).output

    def log_probabilities(self, y_pred):
        """Return log probabilities of shape (n_samples, n_outputs)."""
        return self.log_prob(y_pred)[:, self.rank]
