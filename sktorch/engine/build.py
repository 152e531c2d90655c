"""From settings and rows to a fit that is ready to run."""

import math

import numpy as np
import torch

from sktorch.data.tensors import as_tensor
from sktorch.engine.device import resolve_device
from sktorch.engine.placement import batch_rows, input_dtype, place
from sktorch.engine.probe import PROBE_ROWS, probe_net, probe_training
from sktorch.engine.randomness import RandomStream
from sktorch.engine.state import FitState
from sktorch.losses import Output, build_objective, find_loss
from sktorch.nets import build_net, is_built_in
from sktorch.optim import build_optimizer, parameter_groups

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
    output : Output
        What the net gives.
    """
    device = resolve_device(settings.device)
    loss = find_loss(settings.loss, classification=target.classifies)
    weighted = train.weight is not None or (valid is not None and valid.weight is not None)
    # Lazy layers draw their weights in the probe, and a loss may have weights too.
    with RandomStream(seeds.weights, device):
        if net is None:
            net = new_net(settings, train.X, target.n_outputs(loss), device)
        net.to(device)
        x = as_tensor(train.X[:PROBE_ROWS], input_dtype(net), device, "X")
        shape = probe_net(net, x)
        objective = build_objective(
            settings.loss, settings.arguments("loss"), loss, weighted=weighted
        )
    if objective.module is not None:
        objective.module.to(device)

    width = math.prod(shape)
    output = Output(width, target.layout(width, loss), loss.meaning)
    order = torch.Generator().manual_seed(seeds.order)
    placed = {"net": net, "device": device, "layout": output.layout, "shape": shape}
    batches = place(
        train,
        **placed,
        batch_size=batch_rows(settings.batch_size, len(train)),
        generator=order if settings.shuffle else None,
    )
    groups = parameter_groups(net, objective.parameters(), weight_decay=settings.weight_decay)
    stream = RandomStream(seeds.dropout, device)
    is_random = probe_training(net, objective, batches.head(PROBE_ROWS), stream)
    optimizer = build_optimizer(
        settings.optimizer, settings.arguments("optimizer"), groups, lr=settings.lr
    )
    state = FitState(
        net=net,
        objective=objective,
        optimizer=optimizer,
        train=batches,
        valid=None if valid is None else place(valid, **placed),
        order=order,
        stream=stream,
        is_random=is_random,
        device=device,
    )
    return state, output


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
    if built_in and device.type == "cpu" and X.dtype != np.float32:
        return net.to(torch.float64)
    return net
