"""Losses: what is minimised, and what it takes the net's output to mean.

``LOSSES`` is the registry. A loss is a pointwise function
``(y_pred, y_true, **params) -> (n_samples,)`` and a line here; weights, reduction
and ``predict_proba`` follow from the line.

Classification losses take targets in one of two layouts: ``"index"``, class numbers of
shape ``(n_samples,)`` against one output for each class; and ``"indicator"``, zeros and ones
of the same shape as the output, for two classes with one output and for multilabel data.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sktorch.specs import check_arguments, describe, lookup

__all__ = ["LOSSES", "Loss", "Objective", "Signature", "build_objective", "find_loss"]


def _row_mean(values):
    """Average everything but the first axis: ``(n_samples, ...) -> (n_samples,)``."""
    return values if values.ndim == 1 else values.flatten(1).mean(1)


# Classification ---------------------------------------------------------------------------------


def cross_entropy(y_pred, y_true, label_smoothing=0.0):
    """Negative log likelihood of the class: softmax for indices, sigmoid for indicators.

    Smoothing moves the share ``label_smoothing`` of the target to all classes alike
    (Szegedy et al., 2016).
    """
    if y_true.is_floating_point():
        return bce(y_pred, y_true * (1 - label_smoothing) + label_smoothing / 2)
    return F.cross_entropy(y_pred, y_true, reduction="none", label_smoothing=label_smoothing)


def _mean_cross_entropy(y_pred, y_true, label_smoothing=0.0):
    if y_true.is_floating_point():
        y_true = y_true * (1 - label_smoothing) + label_smoothing / 2 if label_smoothing else y_true
        return F.binary_cross_entropy_with_logits(y_pred, y_true)
    return F.cross_entropy(y_pred, y_true, label_smoothing=label_smoothing)


def bce(y_pred, y_true):
    """Binary cross entropy of logits against indicators, averaged over labels."""
    return _row_mean(F.binary_cross_entropy_with_logits(y_pred, y_true, reduction="none"))


def focal(y_pred, y_true, gamma=2.0, alpha="auto"):
    """Cross entropy times ``alpha_t (1 - p_t)**gamma``: easy samples count less.

    ``alpha`` weights the positive class, its complement the negative; a list weights each class;
    ``"auto"`` is 0.75 for two classes and None, no weights, for more (Lin et al., 2017).
    """
    if y_true.is_floating_point():
        signed = y_pred * (2 * y_true - 1)
        modulation = torch.exp(gamma * F.logsigmoid(-signed))
        values = modulation * -F.logsigmoid(signed)
        alpha = 0.75 if alpha == "auto" else alpha
        if alpha is not None:
            values = values * (y_true * alpha + (1 - y_true) * (1 - alpha))
        return _row_mean(values)
    log_p = F.log_softmax(y_pred, dim=1).gather(1, y_true.unsqueeze(1)).squeeze(1)
    # Clamped away from 0, where the gradient of a power below 1 is infinite.
    modulation = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny) ** gamma
    values = modulation * -log_p
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


# Regression -------------------------------------------------------------------------------------


def squared_error(y_pred, y_true):
    """``(y_pred - y_true)**2``, averaged over outputs."""
    return _row_mean(F.mse_loss(y_pred, y_true, reduction="none"))


def absolute_error(y_pred, y_true):
    """``|y_pred - y_true|``, averaged over outputs."""
    return _row_mean(F.l1_loss(y_pred, y_true, reduction="none"))


def huber(y_pred, y_true, delta=1.0):
    """Half the squared error up to ``delta``, linear beyond (Huber, 1964)."""
    return _row_mean(F.huber_loss(y_pred, y_true, reduction="none", delta=delta))


# The registry -----------------------------------------------------------------------------------


def _positive(value):
    return isinstance(value, Real) and value > 0


def _not_negative(value):
    return isinstance(value, Real) and value >= 0


def _fraction(value):
    return isinstance(value, Real) and 0 <= value < 1


def _is_alpha(value):
    if value is None or isinstance(value, Real):
        return value is None or 0 <= value <= 1
    return value == "auto" if isinstance(value, str) else all(_not_negative(v) for v in value)


@dataclass(frozen=True)
class Loss:
    """One line of ``LOSSES``.

    Parameters
    ----------
    pointwise : callable
        ``(y_pred, y_true, **params) -> (n_samples,)``.
    meaning : {"logits", "log_probabilities", "probabilities", "values"} or None
        What the loss takes the net's output to mean; None for a user's loss that does not say.
    targets : tuple of {"index", "indicator", "values"}
        Layouts of ``y_true`` it takes; the first is preferred.
    mean : callable, optional
        The same averaged over samples in one call of torch, for samples without weights.
    constraints : dict
        For each parameter a predicate and the words for it.
    """

    pointwise: Callable
    meaning: str | None
    targets: tuple
    mean: Callable | None = None
    constraints: Mapping = field(default_factory=dict)


class Signature(NamedTuple):
    """What the net of a fit takes and gives.

    Parameters
    ----------
    input_dtype : torch.dtype
    width : int
        Numbers it gives for each sample.
    layout : {"index", "indicator", "values"}
        Layout of the targets it is compared with.
    meaning : {"logits", "log_probabilities", "probabilities", "values"}
    """

    input_dtype: torch.dtype
    width: int
    layout: str
    meaning: str


LOSSES = {
    "cross_entropy": Loss(
        cross_entropy,
        "logits",
        ("index", "indicator"),
        mean=_mean_cross_entropy,
        constraints={"label_smoothing": (_fraction, "a number in [0, 1)")},
    ),
    "bce": Loss(bce, "logits", ("indicator",), mean=F.binary_cross_entropy_with_logits),
    "focal": Loss(
        focal,
        "logits",
        ("index", "indicator"),
        constraints={
            "gamma": (_not_negative, "a number >= 0"),
            "alpha": (
                _is_alpha,
                'a number in [0, 1], a list of one weight a class, None or "auto"',
            ),
        },
    ),
    "squared_error": Loss(squared_error, "values", ("values",), mean=F.mse_loss),
    "absolute_error": Loss(absolute_error, "values", ("values",), mean=F.l1_loss),
    "huber": Loss(
        huber,
        "values",
        ("values",),
        mean=F.huber_loss,
        constraints={"delta": (_positive, "a number > 0")},
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
        own = {n: e for n, e in LOSSES.items() if ("values" not in e.targets) == classification}
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
        return Loss(loss, "values", ("values",))
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    meaning, targets = _TORCH_LOSSES.get(kind, (None, ("index", "indicator")))
    return Loss(loss, meaning, targets)


# The objective ----------------------------------------------------------------------------------


class Objective:
    """The loss of a batch as one number: ``sum(w * loss) / sum(w)``.

    Parameters
    ----------
    mean : callable
        ``(y_pred, y_true) -> scalar``, used where samples have no weights.
    pointwise : callable or None
        ``(y_pred, y_true) -> (n_samples,)``; None where the user's loss gives a scalar only.
    module : nn.Module or None
        The loss as a module, if it is one: its parameters are trained with the net's.
    """

    def __init__(self, mean, pointwise=None, module=None):
        self.mean = mean
        self.pointwise = pointwise
        self.module = module

    def __call__(self, y_pred, y_true, weight, total):
        """Loss of a batch of total weight ``total``; ``weight`` is None or ``(n_samples,)``."""
        if weight is None:
            return self.mean(y_pred, y_true)
        return torch.dot(self.pointwise(y_pred, y_true), weight) / total

    def parameters(self):
        """Named parameters of the loss itself, called ``loss.<name>``."""
        named = [] if self.module is None else self.module.named_parameters()
        return [(f"loss.{name}", parameter) for name, parameter in named]


def build_objective(loss, arguments, entry, *, weighted):
    """Build the objective of one fit.

    Parameters
    ----------
    loss : str, nn.Module, class or callable
        What the user gave.
    arguments : dict
        The ``loss__`` parameters.
    entry : Loss
        From ``find_loss``.
    weighted : bool
        Whether samples have weights.
    """
    if isinstance(loss, str):
        return _built_in_objective(arguments, entry)
    if isinstance(loss, nn.Module):
        if arguments:
            raise ValueError(
                f"loss__{next(iter(arguments))} cannot be set: loss is an instance of "
                f"{type(loss).__name__}, already built. Pass its class to set its parameters."
            )
        return _module_objective(copy.deepcopy(loss), weighted)
    if isinstance(loss, type):
        check_arguments(loss, arguments, "loss")
        return _module_objective(loss(**arguments), weighted)
    check_arguments(loss, arguments, "loss", reserved=("y_pred", "y_true"))
    return _callable_objective(partial(loss, **arguments), None, describe(loss), weighted)


def _built_in_objective(arguments, entry):
    check_arguments(entry.pointwise, arguments, "loss", reserved=("y_pred", "y_true"))
    for name, value in arguments.items():
        holds, words = entry.constraints[name]
        if not holds(value):
            raise ValueError(f"loss__{name} must be {words}, got {value!r}.")
    pointwise = partial(entry.pointwise, **arguments) if arguments else entry.pointwise
    if entry.mean is None:
        return Objective(lambda y_pred, y_true: pointwise(y_pred, y_true).mean(), pointwise)
    return Objective(partial(entry.mean, **arguments) if arguments else entry.mean, pointwise)


def _module_objective(module, weighted):
    if weighted and hasattr(module, "reduction"):
        module.reduction = "none"
    return _callable_objective(module, module, describe(type(module)), weighted)


def _callable_objective(function, module, name, weighted):
    """Wrap a loss of unknown shape: one number a sample, one an output, or one in all."""

    def values_of(y_pred, y_true):
        values = function(y_pred, y_true)
        if not isinstance(values, torch.Tensor):
            raise ValueError(f"loss: {name} must return a tensor, got {describe(values)}.")
        if values.ndim and values.shape[0] != y_true.shape[0]:
            raise ValueError(
                f"loss: {name} must return one number for each sample, or one in all, got shape "
                f"{tuple(values.shape)} for {y_true.shape[0]} samples."
            )
        return values

    def pointwise(y_pred, y_true):
        values = values_of(y_pred, y_true)
        if not values.ndim:
            raise ValueError(
                f"loss: {name} returns one number in all, so it cannot take sample_weight or "
                "class_weight. Return one number for each sample, or fit without weights."
            )
        return _row_mean(values)

    def mean(y_pred, y_true):
        return values_of(y_pred, y_true).mean()

    return Objective(mean, pointwise if weighted else None, module)
