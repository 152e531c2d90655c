"""Epochs: train, evaluate, record, ask whether to go on."""

import math
import time
from contextlib import contextmanager
from itertools import islice

import torch

from sktorch.callbacks import Callback
from sktorch.engine.step import eval_step, step_for
from sktorch.exceptions import FitDivergedError

__all__ = ["gradients", "groups_of", "run"]


@contextmanager
def gradients():
    """Compute gradients inside, also where the caller has turned them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def run(state):
    """Train until the budget is spent or a callback stops the fit; leave the net in eval mode."""
    state.net.train()
    notify(state, "on_fit_begin")
    for _ in range(state.max_epochs):
        state.history.append(run_epoch(state))
        notify(state, "on_epoch_end")
        if state.stop_reason:
            break
        schedule(state)
    notify(state, "on_fit_end")
    state.net.eval()
    check_weights(state)


def run_epoch(state):
    """Run one epoch and return its row of the history."""
    started = time.perf_counter()
    state.epoch += 1
    rates = state.learning_rates()
    losses = {"train_loss": train_epoch(state)}
    if state.valid is not None:
        losses["val_loss"] = evaluate(state)
    # The epoch's only read from the device.
    values = dict(zip(losses, torch.stack([*losses.values()]).tolist(), strict=True))
    check_losses(state, values)
    return {"epoch": state.epoch, **values, **rates, "epoch_time": time.perf_counter() - started}


def train_epoch(state):
    """Take one step a batch, or a group of batches, and return the mean loss over samples."""
    if state.average is not None:
        state.average.use(averages=False)
    step = step_for(state)
    losses, totals = [], []
    for batches in groups_of(state.accumulation, state.train):
        losses += step(state, batches)
        totals += [batch.total for batch in batches]
    if state.average is not None:
        state.average.use(averages=True)
    return weighted_mean(losses, totals)


def groups_of(size, items):
    """Yield lists of ``size`` consecutive items; the last may be shorter."""
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


def evaluate(state):
    """Return the mean loss over the validation data, on the device."""
    state.net.eval()
    with torch.inference_mode():
        batches = [(eval_step(state, batch), batch.total) for batch in state.valid]
        mean = weighted_mean(*zip(*batches, strict=True))
    state.net.train()
    return mean


def weighted_mean(values, weights):
    """Average 0-d tensors; the weights are numbers, or 0-d tensors too."""
    values = torch.stack(list(values))
    if isinstance(weights[0], torch.Tensor):
        weights = torch.stack(list(weights))
    else:
        weights = torch.tensor(weights, dtype=values.dtype, device=values.device)
    return torch.dot(values, weights) / weights.sum()


def schedule(state):
    """Step a schedule that goes by epochs."""
    if state.scheduler is not None and state.scheduled != "step":
        state.scheduler.step(
            *([state.history.last[state.monitor]] if state.scheduled == "plateau" else [])
        )


def notify(state, hook):
    """Call ``hook`` of each callback that overrides it."""
    for callback in state.callbacks:
        if getattr(type(callback), hook) is not getattr(Callback, hook):
            getattr(callback, hook)(state)


def check_losses(state, values):
    """Refuse to go on from a loss that is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FitDivergedError(
                f"{name} became {value} in epoch {state.epoch}. {_remedy(state)}"
            )


def check_weights(state):
    """Refuse to return a net whose weights are not finite."""
    finite = torch.stack([torch.isfinite(p.detach()).all() for p in state.parameters])
    if not finite.all():
        raise FitDivergedError(
            f"weights are no longer finite after epoch {state.epoch}. {_remedy(state)}"
        )


def _remedy(state):
    lr = state.optimizer.param_groups[0]["lr"]
    return f"Lower lr (it is {lr:g}), standardise X, or check the loss for values it cannot take."
