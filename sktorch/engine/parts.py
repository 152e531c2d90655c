"""The parts of a fit, each from the settings that concern it."""

import math
import warnings
from operator import length_hint

import numpy as np
import torch
from torch import nn

from sktorch.engine.precision import PRECISIONS, Full
from sktorch.fields import each
from sktorch.losses import find_loss
from sktorch.nets import build_net, float_dtype, is_built_in
from sktorch.objective import Signature, build_objective
from sktorch.optim import build_scheduler, needs_closure
from sktorch.specs import describe, user_level

__all__ = [
    "LAST_LAYERS",
    "check_values",
    "new_net",
    "new_objective",
    "new_precision",
    "new_schedule",
    "new_signature",
    "rebuild_objective",
]

# What a built-in net ends with so that its output means what a loss takes it to mean.
LAST_LAYERS = {
    "probabilities": nn.Sigmoid,
    "log_probabilities": lambda: nn.LogSoftmax(dim=1),
}


def new_net(settings, x, n_outputs, device, loss):
    """Build the net of a fit that begins anew, in the dtype it is to compute in.

    ``x`` is an array or a tensor with the first rows of X, or a dict or tuple of them.
    """
    built_in = is_built_in(settings.net)
    if built_in and (isinstance(x, dict | tuple) or x.ndim != 2):
        shapes = each(lambda part: ("n_samples", *part.shape[1:]), x)
        raise ValueError(
            f'net="{settings.net}" takes X of shape (n_samples, n_features), got '
            f"{str(shapes).replace(chr(39), '')}. Reshape X, or pass a net for such samples."
        )
    widths = each(lambda part: part.shape[1] if part.ndim > 1 else 1, x)
    net = build_net(
        settings.net, settings.arguments("net"), n_features_in=widths, n_outputs=n_outputs
    )
    if built_in and loss.meaning in LAST_LAYERS:
        net.append(LAST_LAYERS[loss.meaning]())
    if settings.dtype != "auto":
        dtype = getattr(torch, settings.dtype)
    elif built_in:
        wide = (
            device.type == "cpu"
            and str(x.dtype).removeprefix("torch.") != "float32"
            and settings.precision is None
        )
        dtype = torch.float64 if wide else torch.float32
    else:
        return net
    # Going through all modules takes long, and finds nothing to do in most of ours.
    return net if built_in and float_dtype(net) is dtype else net.to(dtype)


def new_objective(settings, loss, train, target, y_pred, trained):
    """Build the objective in the dtype of the net; ``trained`` is the loss as a fit left it."""
    if trained is not None:
        objective = rebuild_objective(settings, target, trained)
    else:
        sizes = {}
        if loss.meaning == "features" and target.stratified:
            counts = torch.from_numpy(np.bincount(train.y, minlength=len(target.classes)))
            width = math.prod(y_pred.shape[1:])
            sizes = {"n_features": width, "n_outputs": len(target.classes), "counts": counts}
        elif loss.meaning == "features":
            raise ValueError(
                f"loss={settings.loss!r} is for one label a sample, and y is a multilabel "
                'indicator. Use loss="bce".'
            )
        objective = build_objective(settings.loss, settings.arguments("loss"), loss, **sizes)
    if objective.module is not None:
        objective.module.to(y_pred.device, y_pred.dtype)
    return objective


def rebuild_objective(settings, target, trained):
    """Build the objective of a finished fit again; ``trained`` is the loss as it was trained."""
    loss = find_loss(settings.loss, classification=target.classifies)
    if trained is None:
        return build_objective(settings.loss, settings.arguments("loss"), loss)
    return build_objective(trained, {}, loss)


def new_signature(settings, loss, target, x, probe):
    """Return what the net takes and gives, or refuse the net."""
    shape = tuple(probe.y_pred.shape[1:])
    width = math.prod(shape)
    layout = target.layout(width, loss)
    meaning = _meaning(settings, loss, probe)
    if loss.outputs_per_target > 1:
        shape = (width // loss.outputs_per_target,)
    return Signature(
        probe.input_dtype,
        width,
        layout,
        meaning,
        () if layout == "index" else shape,
        each(lambda part: tuple(part.shape[1:]), x),
    )


def _meaning(settings, loss, probe):
    """Return what the net's output means: what the loss says, or what it looks like."""
    y_pred, seen = probe.y_pred, probe.looks
    name = describe(settings.loss)
    if loss.meaning == "log_probabilities" and seen != loss.meaning:
        raise ValueError(
            f"net must give log probabilities for loss={name}: rows whose exponentials sum to 1. "
            'End it with LogSoftmax(dim=1), or use loss="cross_entropy", which takes logits.'
        )
    if settings.loss == "bce_probability" and not ((y_pred >= 0) & (y_pred <= 1)).all():
        raise ValueError(
            f"net must give probabilities for loss={name}, got {y_pred.min():.3g} to "
            f'{y_pred.max():.3g}. End it with Sigmoid(), or use loss="bce", which takes logits.'
        )
    if loss.meaning == "logits" and seen == "probabilities":
        warnings.warn(
            f"net gives probabilities, but loss={name} takes logits and applies a softmax or "
            "sigmoid of its own, so that the net learns badly. Remove the last layer of net, or "
            "pass a loss that takes probabilities.",
            UserWarning,
            stacklevel=user_level(),
        )
    return loss.meaning or seen


def new_precision(settings, net, optimizer, device):
    """Return how the forward of training computes."""
    if settings.precision is None:
        if float_dtype(net) is torch.float16:
            warnings.warn(
                "net is of float16, in which small updates are lost and training fails easily. "
                'Make it float32 (dtype="float32") and set precision="float16" or "bfloat16".',
                UserWarning,
                stacklevel=user_level(),
            )
        return Full()
    if float_dtype(net) is not torch.float32:
        raise ValueError(
            f"precision={settings.precision!r} is for a net of float32, got one of "
            f'{float_dtype(net)}. Set dtype="float32", or precision=None.'
        )
    if settings.precision == "float16" and needs_closure(optimizer):
        raise ValueError(
            f'precision="float16" scales gradients, which {describe(type(optimizer))} cannot '
            'take. Set precision=None or "bfloat16".'
        )
    return PRECISIONS[settings.precision](device)


def new_schedule(settings, optimizer, batches, mode):
    """Return the fields of a fit's state that concern the schedule of the learning rate."""
    arguments = settings.arguments("lr_scheduler")
    if settings.lr_scheduler is None:
        if arguments:
            raise ValueError(
                f"lr_scheduler__{next(iter(arguments))} is set, but lr_scheduler is None. "
                "Set lr_scheduler to a name or class of torch.optim.lr_scheduler."
            )
        return {}
    n_batches = length_hint(batches, 0)
    if not n_batches:
        raise ValueError(
            f"lr_scheduler={describe(settings.lr_scheduler)} needs the number of batches, and X "
            "has no length. Give the IterableDataset a __len__, or set lr_scheduler=None."
        )
    scheduler, scheduled = build_scheduler(
        settings.lr_scheduler,
        arguments,
        optimizer,
        max_epochs=settings.max_epochs,
        steps_per_epoch=-(-n_batches // settings.grad_accumulation_steps),
        mode=mode,
    )
    return {"scheduler": scheduler, "scheduled": scheduled}


def check_values(settings, loss, target, *parts):
    """Refuse values to predict that the loss is not defined for."""
    if loss.takes is None or target.classifies:
        return
    holds, words = loss.takes
    for rows in parts:
        if rows is not None and not holds(rows.y):
            y = rows.y * target.scale + target.mean
            raise ValueError(
                f"y must hold {words} for loss={describe(settings.loss)}, "
                f"got values from {y.min():g} to {y.max():g}."
            )
