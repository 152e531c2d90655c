"""From what a user gave as ``loss`` to what is known of it."""

import torch.nn.functional as F
from torch import nn

from sktorch.losses.modules import FocalLoss, SCELoss
from sktorch.losses.registry import LOSSES, Loss
from sktorch.specs import describe, lookup

__all__ = ["find_loss"]

_LABELS = ("index", "indicator")

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

# Those of values that have a meaning of their own are as ours of these names.
_TORCH_VALUES = {
    **dict.fromkeys([nn.PoissonNLLLoss, F.poisson_nll_loss], "poisson"),
    **dict.fromkeys([nn.KLDivLoss, F.kl_div], "kl_div"),
}

# Those that take other targets, or more than predictions and targets, and what serves instead.
_INSTEAD = {
    **dict.fromkeys([nn.GaussianNLLLoss, F.gaussian_nll_loss], "gaussian_nll"),
    **dict.fromkeys([nn.CosineEmbeddingLoss, F.cosine_embedding_loss], "cosine"),
    **dict.fromkeys([nn.SoftMarginLoss, F.soft_margin_loss], "bce"),
    **dict.fromkeys([nn.HingeEmbeddingLoss, F.hinge_embedding_loss], "hinge"),
    nn.AdaptiveLogSoftmaxWithLoss: "adaptive_log_softmax",
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
        if loss in LOSSES and _is_for(LOSSES[loss], classification):
            return LOSSES[loss]
        own = {name: entry for name, entry in LOSSES.items() if _is_for(entry, classification)}
        if loss in LOSSES:
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
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    try:
        hash(kind)
    except TypeError:
        kind = type(loss)
    if kind in _INSTEAD:
        raise ValueError(
            f"loss: {describe(loss)} does not take (y_pred, y_true) as given here. "
            f"Use loss={_INSTEAD[kind]!r}."
        )
    if not classification:
        own = LOSSES[_TORCH_VALUES.get(kind, "squared_error")]
        return Loss(loss, own.meaning, ("values",), scaling=own.scaling, takes=own.takes)
    if kind in (FocalLoss, SCELoss):
        return Loss(loss, "logits", _LABELS)
    meaning, targets = _TORCH_LOSSES.get(kind, (None, _LABELS))
    return Loss(loss, meaning, targets)


def _is_for(entry, classification):
    """Whether a loss of ours is for class labels, or for values."""
    targets = _LABELS if classification else ("values",)
    return any(target in targets for target in entry.targets)
