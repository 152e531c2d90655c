"""From settings and rows to a fit that is ready to run."""

import math
import warnings

import numpy as np
import torch

from sktorch.engine.average import WeightAverage
from sktorch.engine.device import resolve_device
from sktorch.engine.placement import batch_rows, place
from sktorch.engine.precision import PRECISIONS, Full
from sktorch.engine.probe import PROBE_ROWS, looks_like, probe_net, probe_training
from sktorch.engine.randomness import RandomStream
from sktorch.engine.state import FitState
from sktorch.losses import find_loss
from sktorch.nets import build_net, is_built_in
from sktorch.objective import Signature, build_objective
from sktorch.optim import build_optimizer, build_scheduler, needs_closure, parameter_groups
from sktorch.penalties import build_penalty
from sktorch.specs import about, describe

__all__ = ["build"]


def build(settings, train, valid, target, seeds, net=None, callbacks=()):
    """Build everything a fit holds, and try it on a few rows.

    Parameters
    ----------
    settings : estimator
        Its parameters are read, those with a prefix through ``arguments(prefix)``.
    train, valid : Rows
        With y encoded; ``valid`` may be None.
    target : Labels or Values
    seeds : Seeds
    net : nn.Module, optional
        A net to go on with, in place of a new one.
    callbacks : list of Callback

    Returns
    -------
    state : FitState
    signature : Signature
        What the net takes and gives.
    """
    device = resolve_device(settings.device)
    loss = find_loss(settings.loss, classification=target.classifies)
    check_values(settings, loss, train, valid)
    # Lazy layers draw their weights in the probe, and a loss may have weights too.
    with RandomStream(seeds.weights, device):
        if net is None:
            net = new_net(settings, train.X, target.n_outputs(loss), device)
        net.to(device)
        input_dtype, y_pred = probe_net(net, train.X[:PROBE_ROWS], device)
        objective = new_objective(settings, loss, train, valid, target, y_pred)

    shape = tuple(y_pred.shape[1:])
    width = math.prod(shape)
    meaning = output_meaning(net, y_pred, loss, settings)
    signature = Signature(input_dtype, width, target.layout(width, loss), meaning)
    if loss.outputs_per_target > 1:
        shape = (width // loss.outputs_per_target,)

    frozen = any(getattr(callback, "unfreezes", False) for callback in callbacks)
    groups = parameter_groups(
        net,
        objective.named_parameters(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        frozen=frozen,
    )
    order = torch.Generator().manual_seed(seeds.order)
    stream = RandomStream(seeds.dropout, device)
    placed = {"net": net, "device": device, "signature": signature, "shape": shape}
    train = place(
        train,
        **placed,
        batch_size=batch_rows(settings.batch_size, len(train)),
        generator=order if settings.shuffle else None,
    )
    if valid is not None:
        with about("X_val, y_val"):
            valid = place(valid, **placed)
    trial = probe_training(net, objective, train.head(PROBE_ROWS), stream)
    for source in (train, valid):
        if source is not None:
            source.copies = trial.writes

    optimizer = build_optimizer(settings.optimizer, settings.arguments("optimizer"), groups)
    state = FitState(
        net=net,
        objective=objective,
        optimizer=optimizer,
        train=train,
        valid=valid,
        order=order,
        stream=stream,
        is_random=trial.is_random,
        device=device,
        penalty=build_penalty(net, l1=settings.l1, l2=settings.l2, frozen=frozen),
        precision=new_precision(settings, optimizer, device),
        clip_norm=settings.grad_clip_norm,
        accumulation=settings.grad_accumulation_steps,
        callbacks=list(callbacks),
        **new_schedule(settings, optimizer, len(train)),
    )
    if settings.ema_decay is not None:
        state.follow_average(WeightAverage(state.parameters, settings.ema_decay))
    return state, signature


def new_net(settings, X, n_outputs, device):
    """Build the net of a fit that begins anew, in the dtype it is to compute in."""
    built_in = is_built_in(settings.net)
    if built_in and X.ndim != 2:
        raise ValueError(
            f'net="{settings.net}" takes X of shape (n_samples, n_features), got {X.shape}. '
            "Reshape X, or pass a net for such samples."
        )
    net = build_net(
        settings.net, settings.arguments("net"), n_features_in=X.shape[1], n_outputs=n_outputs
    )
    if settings.dtype != "auto":
        return net.to(getattr(torch, settings.dtype))
    if built_in:
        wide = device.type == "cpu" and X.dtype != np.float32
        return net.to(torch.float64 if wide else torch.float32)
    return net


def new_objective(settings, loss, train, valid, target, y_pred):
    """Build the objective, and a loss with weights of its own in the dtype of the net."""
    sizes = {}
    if loss.meaning == "features":
        counts = torch.from_numpy(np.bincount(train.y, minlength=len(target.classes)))
        width = math.prod(y_pred.shape[1:])
        sizes = {"n_features": width, "n_outputs": len(target.classes), "counts": counts}
    weighted = train.weight is not None or (valid is not None and valid.weight is not None)
    objective = build_objective(
        settings.loss, settings.arguments("loss"), loss, weighted=weighted, **sizes
    )
    if objective.module is not None:
        objective.module.to(y_pred.device, y_pred.dtype if sizes else None)
    return objective


def new_precision(settings, optimizer, device):
    """Return how the forward of training computes."""
    if settings.precision is None:
        return Full()
    if settings.precision == "float16" and needs_closure(optimizer):
        raise ValueError(
            f'precision="float16" scales gradients, which {describe(type(optimizer))} cannot '
            'take. Set precision=None or "bfloat16".'
        )
    return PRECISIONS[settings.precision](device)


def new_schedule(settings, optimizer, n_batches):
    """Return the fields of a fit's state that concern the schedule of the learning rate."""
    arguments = settings.arguments("lr_scheduler")
    if settings.lr_scheduler is None:
        if arguments:
            raise ValueError(
                f"lr_scheduler__{next(iter(arguments))} is set, but lr_scheduler is None. "
                "Set lr_scheduler to a name or class of torch.optim.lr_scheduler."
            )
        return {}
    scheduler, scheduled = build_scheduler(
        settings.lr_scheduler,
        arguments,
        optimizer,
        max_epochs=settings.max_epochs,
        steps_per_epoch=-(-n_batches // settings.grad_accumulation_steps),
    )
    return {"scheduler": scheduler, "scheduled": scheduled}


def check_values(settings, loss, *parts):
    """Refuse values to predict that the loss is not defined for."""
    if loss.takes is None:
        return
    holds, words = loss.takes
    for rows in parts:
        if rows is not None and rows.y.dtype.kind == "f" and not holds(rows.y):
            raise ValueError(
                f"y must hold {words} for loss={describe(settings.loss)}, "
                f"got values from {rows.y.min():g} to {rows.y.max():g}."
            )


def output_meaning(net, y_pred, loss, settings):
    """Return what the net's output means: what the loss says, or what it looks like."""
    if loss.meaning not in (None, "logits"):
        return loss.meaning
    seen = looks_like(net, y_pred)
    if loss.meaning == "logits" and seen == "probabilities":
        warnings.warn(
            f"net gives probabilities, but loss={describe(settings.loss)} takes logits and applies "
            "a softmax or sigmoid of its own, so that the net learns badly. Remove the last layer "
            "of net, or pass a loss that takes probabilities.",
            UserWarning,
            stacklevel=4,
        )
    return loss.meaning or seen
