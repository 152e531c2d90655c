"""From settings and rows to a fit that is ready to run."""

import math
import warnings

import numpy as np
import torch

from sktorch.engine.device import resolve_device
from sktorch.engine.placement import batch_rows, place
from sktorch.engine.probe import PROBE_ROWS, looks_like, probe_net, probe_training
from sktorch.engine.randomness import RandomStream
from sktorch.engine.state import FitState
from sktorch.losses import Signature, build_objective, find_loss
from sktorch.nets import build_net, is_built_in
from sktorch.optim import build_optimizer, parameter_groups
from sktorch.specs import about, describe

__all__ = ["build"]


def build(settings, train, valid, target, seeds, net=None):
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

    Returns
    -------
    state : FitState
    signature : Signature
        What the net takes and gives.
    """
    device = resolve_device(settings.device)
    loss = find_loss(settings.loss, classification=target.classifies)
    weighted = train.weight is not None or (valid is not None and valid.weight is not None)
    # Lazy layers draw their weights in the probe, and a loss may have weights too.
    with RandomStream(seeds.weights, device):
        if net is None:
            net = new_net(settings, train.X, target.n_outputs(loss), device)
        net.to(device)
        input_dtype, y_pred = probe_net(net, train.X[:PROBE_ROWS], device)
        objective = build_objective(
            settings.loss, settings.arguments("loss"), loss, weighted=weighted
        )
    if objective.module is not None:
        objective.module.to(device)

    shape = tuple(y_pred.shape[1:])
    width = math.prod(shape)
    meaning = output_meaning(net, y_pred, loss, settings)
    signature = Signature(input_dtype, width, target.layout(width, loss), meaning)
    order = torch.Generator().manual_seed(seeds.order)
    placed = {"net": net, "device": device, "signature": signature, "shape": shape}
    batches = place(
        train,
        **placed,
        batch_size=batch_rows(settings.batch_size, len(train)),
        generator=order if settings.shuffle else None,
    )
    if valid is not None:
        with about("X_val, y_val"):
            valid = place(valid, **placed)
    groups = parameter_groups(net, objective.parameters(), weight_decay=settings.weight_decay)
    stream = RandomStream(seeds.dropout, device)
    trial = probe_training(net, objective, batches.head(PROBE_ROWS), stream)
    for source in (batches, valid):
        if source is not None:
            source.copies = trial.writes
    optimizer = build_optimizer(
        settings.optimizer, settings.arguments("optimizer"), groups, lr=settings.lr
    )
    state = FitState(
        net=net,
        objective=objective,
        optimizer=optimizer,
        train=batches,
        valid=valid,
        order=order,
        stream=stream,
        is_random=trial.is_random,
        device=device,
    )
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


def output_meaning(net, y_pred, loss, settings):
    """Return what the net's output means: what the loss says, or what it looks like."""
    if loss.meaning == "values":
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
