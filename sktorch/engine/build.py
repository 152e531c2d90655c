"""From settings and rows to a fit that is ready to run."""

from contextlib import nullcontext

import torch

from sktorch.copying import duplicate
from sktorch.data.batches import copied
from sktorch.engine.average import WeightAverage
from sktorch.engine.device import resolve_device
from sktorch.engine.measure import Readout, new_metrics
from sktorch.engine.parts import (
    check_values,
    new_net,
    new_objective,
    new_precision,
    new_schedule,
    new_signature,
)
from sktorch.engine.placement import place
from sktorch.engine.probe import (
    PROBE_ROWS,
    check_loss,
    forward_or_explain,
    probe_net,
    probe_training,
    warn_of_standstill,
)
from sktorch.engine.randomness import RandomStream
from sktorch.engine.state import FitState
from sktorch.engine.trials import is_small, net_key, recall, remember, trial_key
from sktorch.fields import caller
from sktorch.losses import find_loss
from sktorch.nets import has_sparse_gradients, lies_on
from sktorch.objective import decoder_of
from sktorch.optim import build_optimizer, needs_closure, parameter_groups
from sktorch.penalties import build_penalty
from sktorch.specs import about, describe

__all__ = ["build"]


# Keeps what a Dataset draws apart from the order of its rows.
_READING = 0x5BD1E995


def build(
    settings,
    train,
    valid,
    target,
    seeds,
    watch,
    earlier=None,
    callbacks=(),
    measures=None,
    ranks=None,
):
    """Build everything a fit holds, and try it on a few rows.

    Parameters
    ----------
    settings : estimator
        Its parameters are read, those with a prefix through ``arguments(prefix)``.
    train, valid : Rows
        With y encoded; ``valid`` may be None.
    target : Labels or Values
    seeds : Seeds
    watch : Watch
    earlier : tuple of (nn.Module, nn.Module or None), optional
        A net to go on with, and a loss with trained weights, in place of new ones.
    callbacks : list of Callback
    measures : dict of str to Measure, optional
        Metrics to record.
    ranks : Ranks, optional
        The processes that train together; see ``sktorch.interop.accelerate``.

    Returns
    -------
    state : FitState
    signature : Signature
        What the net takes and gives.
    """
    device = resolve_device(settings.device) if ranks is None else ranks.device
    net, objective, signature, key = learner(settings, train, valid, target, seeds, device, earlier)
    frozen = any(getattr(callback, "unfreezes", False) for callback in callbacks)
    groups = parameter_groups(
        net,
        objective.named_parameters(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        frozen=frozen,
    )
    order = torch.Generator().manual_seed(seeds.order)
    train, valid = sources(settings, train, valid, net, signature, device, order, seeds, ranks)
    # Each process drops other units.
    stream = RandomStream(seeds.dropout + (0 if ranks is None else ranks.index), device)
    trial = try_out(net, objective, train, valid, stream, seeds, key)
    optimizer = build_optimizer(
        settings.optimizer,
        settings.arguments("optimizer"),
        groups,
        sparse=has_sparse_gradients(net),
    )
    if ranks is not None and needs_closure(optimizer):
        raise ValueError(
            f"optimizer={describe(settings.optimizer)} evaluates the loss as often as it likes, "
            "which several processes cannot do in step. Set accelerator=None, or another optimizer."
        )
    state = FitState(
        net=net,
        objective=objective,
        optimizer=optimizer,
        train=train,
        valid=valid,
        order=order,
        stream=stream,
        is_random=trial.is_random,
        first_rows=trial.rows,
        first_loss=trial.loss,
        device=device,
        penalty=build_penalty(net, l1=settings.l1, l2=settings.l2, frozen=frozen),
        precision=new_precision(settings, net, optimizer, device),
        clip_norm=settings.grad_clip_norm,
        accumulation=settings.grad_accumulation_steps,
        compile=settings.compile,
        monitor=watch.monitor,
        mode=watch.mode,
        callbacks=list(callbacks),
        forward=caller(net if ranks is None else ranks.wrap(net), signature.input_dtype),
        ranks=ranks,
        **new_schedule(settings, optimizer, train, watch.mode),
    )
    readout = Readout(signature, target, decoder_of(objective.module), device)
    state.train_metrics = new_metrics(measures, readout, device, ranks)
    if measures:
        net.eval()
        with torch.no_grad(), stream.undone():
            rows = copied(trial.rows) if trial.writes else trial.rows
            state.train_metrics.try_out(state.forward(rows.x), rows.y)
    if valid is not None:
        state.valid_metrics = new_metrics(measures, readout, device, ranks)
    if settings.ema_decay is not None:
        state.follow_average(WeightAverage(state.parameters, settings.ema_decay))
    return state, signature


def learner(settings, train, valid, target, seeds, device, earlier):
    """Return the net, its objective and its signature, after a forward on a few rows.

    And a key that is equal for fits which begin alike, or None.
    """
    loss = find_loss(settings.loss, classification=target.classifies)
    check_values(settings, loss, target, train, valid)
    net, trained = earlier or (None, None)
    reading = RandomStream(seeds.order ^ _READING, device)
    # What lies in memory draws no random numbers.
    with nullcontext() if train.X.elsewhere is None else reading:
        x, _, _ = train.X.head(PROBE_ROWS)
    n_outputs = target.n_outputs(loss)
    key = None if earlier else net_key(settings, x, n_outputs, loss, seeds, device)

    def begin():
        new = new_net(settings, x, n_outputs, device, loss) if net is None else net
        if not lies_on(new, device):
            new.to(device)
        return probe_net(new, x, device)

    # Lazy layers draw their weights in the probe, and a loss may have weights too.
    with RandomStream(seeds.weights, device):
        probe = recall(key) or begin()
        key = key if is_small(probe.net) else None
        remember(key, probe)
        net = probe.net if key is None else duplicate(probe.net)
        objective = new_objective(settings, loss, train, target, probe.y_pred, trained)
    return net, objective, new_signature(settings, loss, target, x, probe), key


def sources(settings, train, valid, net, signature, device, order, seeds, ranks):
    """Return the batches to train on, and those to validate on, or None."""
    placed = {
        "net": net,
        "device": device,
        "signature": signature,
        "source": settings.data_source,
        "workers": settings.num_workers,
        "stream": RandomStream(seeds.order ^ _READING, device),
        "ranks": ranks,
    }
    batches = place(
        train,
        **placed,
        batch_size=settings.batch_size,
        generator=order if settings.shuffle else None,
    )
    if valid is not None:
        with about("X_val, y_val"):
            valid = place(valid, **placed)
    return batches, valid


def try_out(net, objective, train, valid, stream, seeds, key):
    """Compute the loss once in training mode, and once as in validation; see ``Trial``.

    What fits with an equal ``key`` found, if it is not None, is not computed again.
    """
    rows = train.head(PROBE_ROWS)
    key = trial_key(key, objective, seeds, rows)
    trial = recall(key) or probe_training(net, objective, rows, stream)._replace(rows=None)
    remember(key, trial)
    warn_of_standstill(trial)
    trial = trial._replace(rows=train.head(PROBE_ROWS) if trial.writes else rows)
    train.copies = trial.writes
    if valid is not None:
        valid.copies = trial.writes
        batch = valid.head(PROBE_ROWS)
        if batch.weight is not None:
            net.eval()
            with stream.undone():
                check_loss(objective, forward_or_explain(net, batch.x), batch)
    return trial
