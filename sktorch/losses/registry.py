"""``LOSSES``: each loss, what it takes the net's output to mean, and which numbers it takes.

A loss is a pointwise function and a line here; weights, reduction and ``predict_proba``
follow from the line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real

import torch.nn.functional as F

from sktorch.losses import classification, regression
from sktorch.losses.reduction import averaged

__all__ = ["LOSSES", "Loss", "check_parameters"]


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


def _are_cutoffs(value):
    if value is None:
        return True
    try:
        return all(isinstance(v, Integral) for v in value) and [*value] == sorted({*value})
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
    batched : bool, default=False
        Whether for class numbers ``pointwise`` also takes many batches, ``y_pred`` of shape
        (n_batches, n_classes, n_samples) and ``y_true`` of (n_batches, n_samples).
    """

    pointwise: Callable
    meaning: str | None
    targets: tuple
    mean: Callable | None = None
    constraints: Mapping = field(default_factory=dict)
    outputs_per_target: int = 1
    scaling: str | None = "standard"
    takes: tuple | None = None
    batched: bool = False


_BOTH = ("index", "indicator")
_VALUES = ("values",)

LOSSES = {
    "cross_entropy": Loss(
        classification.cross_entropy,
        "logits",
        _BOTH,
        mean=classification.mean_cross_entropy,
        constraints={"label_smoothing": _SHARE},
        batched=True,
    ),
    "bce": Loss(
        classification.bce, "logits", ("indicator",), mean=F.binary_cross_entropy_with_logits
    ),
    "bce_probability": Loss(
        classification.bce_probability, "probabilities", ("indicator",), mean=F.binary_cross_entropy
    ),
    "nll": Loss(classification.nll, "log_probabilities", ("index",), mean=F.nll_loss, batched=True),
    "kl_div": Loss(
        classification.kl_div,
        "log_probabilities",
        ("index", "values"),
        mean=classification.mean_kl_div,
        scaling=None,
        takes=(
            lambda y: (y >= 0).all() and abs(y.sum(1) - 1).max() < 1e-3,
            "distributions: rows that are not negative and sum to 1",
        ),
    ),
    "focal": Loss(
        classification.focal,
        "logits",
        _BOTH,
        constraints={
            "gamma": _NOT_NEGATIVE,
            "alpha": (
                _is_alpha,
                'a number in [0, 1], a list of one weight a class, None or "auto"',
            ),
        },
        batched=True,
    ),
    "sce": Loss(
        classification.sce,
        "logits",
        _BOTH,
        mean=classification.mean_sce,
        constraints={"a": _NOT_NEGATIVE, "b": _NOT_NEGATIVE},
        batched=True,
    ),
    "hinge": Loss(classification.hinge, "margins", _BOTH),
    "adaptive_log_softmax": Loss(
        classification.AdaptiveLogSoftmax,
        "features",
        ("index",),
        constraints={
            "cutoffs": (_are_cutoffs, "a rising list of int, or None"),
            "div_value": _POSITIVE,
        },
    ),
    "squared_error": Loss(regression.squared_error, "values", _VALUES, mean=F.mse_loss),
    "absolute_error": Loss(regression.absolute_error, "values", _VALUES, mean=F.l1_loss),
    "smooth_l1": Loss(
        regression.smooth_l1,
        "values",
        _VALUES,
        mean=F.smooth_l1_loss,
        constraints={"beta": _POSITIVE},
    ),
    "huber": Loss(
        regression.huber, "values", _VALUES, mean=F.huber_loss, constraints={"delta": _POSITIVE}
    ),
    "poisson": Loss(
        regression.poisson,
        "log_mean",
        _VALUES,
        mean=F.poisson_nll_loss,
        scaling="mean",
        takes=(lambda y: (y >= 0).all(), "values that are not negative"),
    ),
    "gamma": Loss(
        **averaged(regression.gamma),
        meaning="log_mean",
        targets=_VALUES,
        scaling="mean",
        takes=(lambda y: (y > 0).all(), "values that are positive"),
    ),
    "quantile": Loss(
        **averaged(regression.quantile),
        meaning="values",
        targets=_VALUES,
        constraints={"quantile": _INSIDE},
    ),
    "gaussian_nll": Loss(
        **averaged(regression.gaussian_nll),
        meaning="mean_and_log_variance",
        targets=_VALUES,
        outputs_per_target=2,
    ),
    "cosine": Loss(
        regression.cosine,
        "values",
        _VALUES,
        scaling=None,
        takes=(lambda y: y.any(1).all(), "rows that are not all zero"),
    ),
}


def check_parameters(entry, parameters, prefix="loss__"):
    """Refuse values that the loss of ``entry`` has no meaning for."""
    for name, value in parameters.items():
        holds, words = entry.constraints[name]
        if not holds(value):
            raise ValueError(f"{prefix}{name} must be {words}, got {value!r}.")
