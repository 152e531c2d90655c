"""Losses: what is minimised, and what it takes the net's output to mean.

``LOSSES`` is the registry. A loss is a pointwise function
``(y_pred, y_true, **params) -> (n_samples,)`` and a line here; weights, reduction
and ``predict_proba`` follow from the line.

Targets come in one of three layouts: ``"index"``, class numbers of shape ``(n_samples,)`` against
one output for each class; ``"indicator"``, zeros and ones of the shape of the output, for two
classes with one output and for multilabel data; ``"values"``, of shape ``(n_samples, n_targets)``.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from sktorch.specs import describe, lookup

__all__ = ["LOSSES", "FocalLoss", "Loss", "SCELoss", "find_loss"]


def _row_mean(values):
    """Average everything but the first axis: ``(n_samples, ...) -> (n_samples,)``."""
    return values if values.ndim == 1 else values.flatten(1).mean(1)


# Classification, from logits --------------------------------------------------------------------


def cross_entropy(y_pred, y_true, label_smoothing=0.0):
    """Negative log likelihood of the class: softmax for indices, sigmoid for indicators.

    Smoothing moves the share ``label_smoothing`` of the target to all classes alike
    (Szegedy et al., 2016).
    """
    if y_true.is_floating_point():
        return bce(y_pred, _smoothed(y_true, label_smoothing))
    return F.cross_entropy(y_pred, y_true, reduction="none", label_smoothing=label_smoothing)


def _mean_cross_entropy(y_pred, y_true, label_smoothing=0.0):
    if y_true.is_floating_point():
        return F.binary_cross_entropy_with_logits(y_pred, _smoothed(y_true, label_smoothing))
    return F.cross_entropy(y_pred, y_true, label_smoothing=label_smoothing)


def _smoothed(indicator, label_smoothing):
    if not label_smoothing:
        return indicator
    return indicator * (1 - label_smoothing) + label_smoothing / 2


def bce(y_pred, y_true):
    """Binary cross entropy of logits against indicators, averaged over labels."""
    return _row_mean(F.binary_cross_entropy_with_logits(y_pred, y_true, reduction="none"))


def focal(y_pred, y_true, gamma=2.0, alpha="auto"):
    """Cross entropy times ``alpha_t (1 - p_t)**gamma``: easy samples count less.

    ``alpha`` weights the positive class, its complement the negative; a list weights each class;
    None is no weights; ``"auto"`` is 0.75 for two classes and None for more (Lin et al., 2017).
    """
    if y_true.is_floating_point():
        signed = y_pred * (2 * y_true - 1)
        values = torch.exp(gamma * F.logsigmoid(-signed)) * -F.logsigmoid(signed)
        alpha = 0.75 if alpha == "auto" else alpha
        if alpha is not None:
            values = values * (y_true * alpha + (1 - y_true) * (1 - alpha))
        return _row_mean(values)
    values = F.cross_entropy(y_pred, y_true, reduction="none")
    modulation = -torch.expm1(-values)
    if gamma < 1:
        # Kept away from 0, where the gradient of a power below 1 is infinite.
        modulation = modulation.clamp(min=torch.finfo(values.dtype).tiny)
    values = modulation**gamma * values
    weights = _class_weights(alpha, y_pred)
    return values if weights is None else values * weights[y_true]


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
        return _row_mean(a * values - b * math.log(_FLOOR) * wrong)
    p = F.softmax(y_pred, dim=1).clamp(_FLOOR, 1)
    values = F.cross_entropy(y_pred, y_true, reduction="none")
    return a * values - (p * _log_labels(p, y_true, b)).sum(1)


def _mean_sce(y_pred, y_true, a=1.0, b=1.0):
    if y_true.is_floating_point():
        return sce(y_pred, y_true, a, b).mean()
    p = F.softmax(y_pred, dim=1).clamp(_FLOOR, 1)
    reverse = torch.dot(p.flatten(), _log_labels(p, y_true, b / len(p)).flatten())
    return a * F.cross_entropy(y_pred, y_true) - reverse


def _log_labels(p, y_true, scale):
    """Return ``scale`` times the logarithm of the one-hot labels, clamped."""
    logs = torch.full_like(p, scale * math.log(_FLOOR))
    return logs.scatter_(1, y_true.unsqueeze(1), 0.0)


def hinge(y_pred, y_true):
    """``max(0, 1 - margin)``; of several classes the margin to the best of the others.

    For several classes as Crammer and Singer (2001). It gives no probabilities.
    """
    if y_true.is_floating_point():
        return _row_mean(F.relu(1 - y_pred * (2 * y_true - 1)))
    own = y_true.unsqueeze(1)
    best_other = y_pred.scatter(1, own, -torch.inf).amax(1)
    return F.relu(1 + best_other - y_pred.gather(1, own).squeeze(1))


# Classification, from probabilities -------------------------------------------------------------


def bce_probability(y_pred, y_true):
    """Binary cross entropy of probabilities, for a net that ends in a sigmoid."""
    return _row_mean(F.binary_cross_entropy(y_pred, y_true, reduction="none"))


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


# Regression -------------------------------------------------------------------------------------


def squared_error(y_pred, y_true):
    """``(y_pred - y_true)**2``, averaged over outputs."""
    return _row_mean(F.mse_loss(y_pred, y_true, reduction="none"))


def absolute_error(y_pred, y_true):
    """``|y_pred - y_true|``, averaged over outputs."""
    return _row_mean(F.l1_loss(y_pred, y_true, reduction="none"))


def smooth_l1(y_pred, y_true, beta=1.0):
    """Squared error over ``2 beta`` up to ``beta``, absolute beyond (Girshick, 2015)."""
    return _row_mean(F.smooth_l1_loss(y_pred, y_true, reduction="none", beta=beta))


def huber(y_pred, y_true, delta=1.0):
    """Half the squared error up to ``delta``, linear beyond (Huber, 1964)."""
    return _row_mean(F.huber_loss(y_pred, y_true, reduction="none", delta=delta))


def poisson(y_pred, y_true):
    """Negative log likelihood of a count, less its constant; the net gives the log of the mean."""
    return _row_mean(F.poisson_nll_loss(y_pred, y_true, reduction="none"))


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


# The registry -----------------------------------------------------------------------------------


def _averaged(elementwise):
    """Return ``pointwise`` and ``mean`` of a loss that gives a value for each output."""

    @functools.wraps(elementwise)
    def pointwise(y_pred, y_true, **parameters):
        return _row_mean(elementwise(y_pred, y_true, **parameters))

    def mean(y_pred, y_true, **parameters):
        return elementwise(y_pred, y_true, **parameters).mean()

    return {"pointwise": pointwise, "mean": mean}


def _number(holds):
    return lambda value: isinstance(value, Real) and not isinstance(value, bool) and holds(value)


_POSITIVE = (_number(lambda v: 0 < v < float("inf")), "a number > 0")
_NOT_NEGATIVE = (_number(lambda v: 0 <= v < float("inf")), "a number >= 0")
_SHARE = (_number(lambda v: 0 <= v < 1), "a number in [0, 1)")
_INSIDE = (_number(lambda v: 0 < v < 1), "a number in (0, 1)")


def _is_alpha(value):
    if value is None or isinstance(value, str):
        return value in (None, "auto")
    if isinstance(value, Real):
        return 0 <= value <= 1
    try:
        return all(_NOT_NEGATIVE[0](v) for v in value)
    except TypeError:
        return False


@dataclass(frozen=True)
class Loss:
    """One line of ``LOSSES``.

    Parameters
    ----------
    pointwise : callable
        ``(y_pred, y_true, **params) -> (n_samples,)``; or a module class of the same, with
        parameters of its own.
    meaning : str or None
        What the loss takes the net's output to mean: "logits", "margins", "log_probabilities",
        "probabilities", "features", "values", "log_mean", "mean_and_log_variance"; None for a
        user's loss that does not say.
    targets : tuple of {"index", "indicator", "values"}
        Layouts of ``y_true`` it takes.
    mean : callable, optional
        The same averaged over samples in one call of torch, for samples without weights.
    constraints : dict
        For each parameter a predicate and the words for it.
    outputs_per_target : int, default=1
        Numbers the net gives for each value to predict.
    scaling : {"standard", "mean"} or None, default="standard"
        How values may be scaled before the loss sees them.
    takes : (callable, str), optional
        A predicate over the values it is defined for, and the words for it.
    """

    pointwise: Callable
    meaning: str | None
    targets: tuple
    mean: Callable | None = None
    constraints: Mapping = field(default_factory=dict)
    outputs_per_target: int = 1
    scaling: str | None = "standard"
    takes: tuple | None = None


_BOTH = ("index", "indicator")
_VALUES = ("values",)

LOSSES = {
    "cross_entropy": Loss(
        cross_entropy,
        "logits",
        _BOTH,
        mean=_mean_cross_entropy,
        constraints={"label_smoothing": _SHARE},
    ),
    "bce": Loss(bce, "logits", ("indicator",), mean=F.binary_cross_entropy_with_logits),
    "bce_probability": Loss(
        bce_probability, "probabilities", ("indicator",), mean=F.binary_cross_entropy
    ),
    "nll": Loss(nll, "log_probabilities", ("index",), mean=F.nll_loss),
    "kl_div": Loss(
        kl_div,
        "log_probabilities",
        ("index", "values"),
        scaling=None,
        takes=(
            lambda y: (y >= 0).all() and abs(y.sum(1) - 1).max() < 1e-3,
            "distributions: rows that are not negative and sum to 1",
        ),
    ),
    "focal": Loss(
        focal,
        "logits",
        _BOTH,
        constraints={
            "gamma": _NOT_NEGATIVE,
            "alpha": (
                _is_alpha,
                'a number in [0, 1], a list of one weight a class, None or "auto"',
            ),
        },
    ),
    "sce": Loss(
        sce,
        "logits",
        _BOTH,
        mean=_mean_sce,
        constraints={"a": _NOT_NEGATIVE, "b": _NOT_NEGATIVE},
    ),
    "hinge": Loss(hinge, "margins", _BOTH),
    "adaptive_log_softmax": Loss(
        AdaptiveLogSoftmax,
        "features",
        ("index",),
        constraints={
            "cutoffs": (lambda v: v is None or list(v) == sorted(set(v)), "a rising list of int"),
            "div_value": _POSITIVE,
        },
    ),
    "squared_error": Loss(squared_error, "values", _VALUES, mean=F.mse_loss),
    "absolute_error": Loss(absolute_error, "values", _VALUES, mean=F.l1_loss),
    "smooth_l1": Loss(
        smooth_l1, "values", _VALUES, mean=F.smooth_l1_loss, constraints={"beta": _POSITIVE}
    ),
    "huber": Loss(huber, "values", _VALUES, mean=F.huber_loss, constraints={"delta": _POSITIVE}),
    "poisson": Loss(
        poisson,
        "log_mean",
        _VALUES,
        mean=F.poisson_nll_loss,
        scaling="mean",
        takes=(lambda y: (y >= 0).all(), "values that are not negative"),
    ),
    "gamma": Loss(
        **_averaged(gamma),
        meaning="log_mean",
        targets=_VALUES,
        scaling="mean",
        takes=(lambda y: (y > 0).all(), "values that are positive"),
    ),
    "quantile": Loss(
        **_averaged(quantile),
        meaning="values",
        targets=_VALUES,
        constraints={"quantile": _INSIDE},
    ),
    "gaussian_nll": Loss(
        **_averaged(gaussian_nll),
        meaning="mean_and_log_variance",
        targets=_VALUES,
        outputs_per_target=2,
    ),
    "cosine": Loss(
        cosine,
        "values",
        _VALUES,
        scaling=None,
        takes=(lambda y: y.any(1).all(), "rows that are not all zero"),
    ),
}

# What torch's own classes and functions take and mean, so that predict_proba is right for them.
_TORCH_LOSSES = {
    **dict.fromkeys([nn.CrossEntropyLoss, F.cross_entropy], ("logits", ("index",))),
    **dict.fromkeys(
        [
            nn.BCEWithLogitsLoss,
            F.binary_cross_entropy_with_logits,
            nn.MultiLabelSoftMarginLoss,
            F.multilabel_soft_margin_loss,
        ],
        ("logits", ("indicator",)),
    ),
    **dict.fromkeys([nn.NLLLoss, F.nll_loss], ("log_probabilities", ("index",))),
    **dict.fromkeys([nn.MultiMarginLoss, F.multi_margin_loss], ("margins", ("index",))),
    **dict.fromkeys(
        [
            nn.BCELoss,
            F.binary_cross_entropy,
            *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss),
            *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
        ],
        ("probabilities", ("indicator",)),
    ),
}


def find_loss(loss, *, classification):
    """Return the ``Loss`` behind what the user gave as ``loss``, without building it.

    Parameters
    ----------
    loss : str, nn.Module, class or callable
    classification : bool
        Whether class labels or values are to be predicted. A loss we do not know gets the
        meaning None where it is to predict labels: the net's output will tell.
    """
    if isinstance(loss, str):
        own = {
            name: entry
            for name, entry in LOSSES.items()
            if (
                any(t in _BOTH for t in entry.targets)
                if classification
                else "values" in entry.targets
            )
        }
        if loss in LOSSES and loss not in own:
            raise ValueError(
                f"loss={loss!r} is for {'values' if classification else 'class labels'}, which "
                f"{'TorchRegressor' if classification else 'TorchClassifier'} predicts. "
                f"Known names here: {', '.join(own)}."
            )
        return lookup(loss, own, "loss")
    if not callable(loss):
        raise ValueError(
            "loss must be a name, a torch.nn.Module, a Module class or a callable "
            f"(y_pred, y_true) -> loss, got {describe(loss)}. Names: {', '.join(LOSSES)}."
        )
    if not classification:
        return Loss(loss, "values", _VALUES)
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    if kind in (FocalLoss, SCELoss):
        return Loss(loss, "logits", _BOTH)
    meaning, targets = _TORCH_LOSSES.get(kind, (None, _BOTH))
    return Loss(loss, meaning, targets)


# For loops of one's own -------------------------------------------------------------------------


class _PointwiseLoss(nn.Module):
    """A pointwise loss as a module, with the ``reduction`` of torch's own."""

    def __init__(self, name, reduction, **parameters):
        super().__init__()
        check_parameters(LOSSES[name], parameters, prefix="")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}.')
        self.name = name
        self.reduction = reduction
        self.parameters_of_loss = parameters

    def forward(self, y_pred, y_true):
        """Return the loss, a scalar or of shape (n_samples,)."""
        values = LOSSES[self.name].pointwise(y_pred, y_true, **self.parameters_of_loss)
        return values if self.reduction == "none" else getattr(values, self.reduction)()

    def extra_repr(self):
        """Show the parameters."""
        return ", ".join(f"{name}={value}" for name, value in self.parameters_of_loss.items())


class FocalLoss(_PointwiseLoss):
    """Focal loss of logits (Lin et al., 2017): mean of ``alpha_t (1 - p_t)**gamma CE``.

    Parameters
    ----------
    gamma : float, default=2.0
        How much less easy samples count; 0 is weighted cross entropy.
    alpha : float, list of float, None or "auto", default="auto"
        Weight of the positive class, its complement that of the negative; or a weight for each
        class; None for no weights. "auto" is 0.75 for two classes and None for more.
    reduction : {"mean", "sum", "none"}, default="mean"

    Notes
    -----
    Called with logits and targets: integers of shape (n_samples,) against logits of shape
    (n_samples, n_classes); or zeros and ones of the dtype and the shape of the logits, for two
    classes with one output and for multilabel data, where the mean over labels is taken.

    Examples
    --------
    >>> import torch
    >>> from sktorch.losses import FocalLoss
    >>> logits = torch.logit(torch.tensor([[0.9], [0.1]]))
    >>> round(FocalLoss()(logits, torch.tensor([[1.0], [0.0]])).item(), 4)
    0.0005
    """

    def __init__(self, gamma=2.0, alpha="auto", reduction="mean"):
        super().__init__("focal", reduction, gamma=gamma, alpha=alpha)


class SCELoss(_PointwiseLoss):
    """Symmetric cross entropy of logits, for noisy labels (Wang et al., 2019): ``a CE + b RCE``.

    Parameters
    ----------
    a, b : float, default=1.0
        Weights of cross entropy and of reverse cross entropy, ``-sum p log q`` with the
        prediction p and the one-hot label q clamped to ``[1e-4, 1]``.
    reduction : {"mean", "sum", "none"}, default="mean"

    Notes
    -----
    Takes the same shapes as ``FocalLoss``.

    Examples
    --------
    >>> import torch
    >>> from sktorch.losses import SCELoss
    >>> SCELoss()(torch.zeros(1, 2), torch.tensor([0])).round(decimals=3)
    tensor(5.2980)
    """

    def __init__(self, a=1.0, b=1.0, reduction="mean"):
        super().__init__("sce", reduction, a=a, b=b)


def check_parameters(entry, parameters, prefix="loss__"):
    """Refuse values that the loss of ``entry`` has no meaning for."""
    for name, value in parameters.items():
        holds, words = entry.constraints[name]
        if not holds(value):
            raise ValueError(f"{prefix}{name} must be {words}, got {value!r}.")
