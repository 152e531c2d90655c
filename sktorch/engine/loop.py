"""Epochs: train, evaluate, record, ask whether to go on."""

import math
import time
from contextlib import contextmanager
from itertools import islice

import torch

from sktorch.engine.means import Mean
from sktorch.engine.memory import keep_freed_memory
from sktorch.engine.plan import plan_step, release_step
from sktorch.engine.shortage import halves, in_memory, is_shortage, n_rows, shortage_of_fit
from sktorch.engine.snapshot import restore_callbacks
from sktorch.engine.step import eval_step
from sktorch.engine.threads import threads_for, using_threads
from sktorch.exceptions import FitDivergedError
from sktorch.finite import all_finite

__all__ = [
    "aborting",
    "begin",
    "begin_epoch",
    "check_weights",
    "end",
    "end_epoch",
    "go_on",
    "gradients",
    "groups_of",
    "run",
]

# A loss that is larger than before training by this factor is one that blew up.
_BLOWN_UP = 1e3


@contextmanager
def gradients():
    """Compute gradients inside, also where the caller has turned them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def run(state):
    """Train until the budget is spent or a callback stops the fit; leave the net in eval mode."""
    try:
        run_epochs(state)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
    else:
        return
    # Outside of the handler, whose error keeps alive what the failed step has computed.
    raise shortage_of_fit(state)


def run_epochs(state):
    """Run epochs, and what comes before and after them."""
    keep_freed_memory()
    with computing(state):
        begin(state)
        while state.epochs_left:
            begin_epoch(state)
            run_epoch(state)
        end(state)
    check_weights(state)


def go_on(state):
    """Run the epoch that has begun, and what is left of a fit."""
    with computing(state):
        for module in state.modules:
            module.train()
        run_epoch(state)
        while state.epochs_left:
            begin_epoch(state)
            run_epoch(state)
        end(state)


@contextmanager
def computing(state):
    """Compute with the threads and in the precision of a fit inside."""
    with aborting(state), using_threads(threads_for(state)), state.precision.in_use():
        try:
            yield
        finally:
            release_step(state)


@contextmanager
def aborting(state):
    """Tell callbacks where a fit fails or is interrupted."""
    try:
        yield
    except BaseException:
        notify(state, "on_fit_abort")
        raise


def begin(state):
    """Prepare for the first epoch."""
    state.epochs_left = state.max_epochs
    for module in state.modules:
        module.train()
    notify(state, "on_fit_begin")
    restore_callbacks(state)


def begin_epoch(state):
    """Count an epoch and note the learning rates it begins with."""
    state.epoch += 1
    notify(state, "on_epoch_begin")
    state.rates = state.learning_rates()


def run_epoch(state):
    """Run the epoch that has begun, and record it."""
    plan_step(state)
    started = time.perf_counter()
    values = compute_epoch(state)
    end_epoch(state, values, time.perf_counter() - started)


def compute_epoch(state):
    """Train and validate; return a number for each loss and metric, by name."""
    values = train_epoch(state)
    if state.valid is not None:
        values |= validate(state)
    # The epoch's only read from the device.
    return dict(zip(values, torch.stack([*values.values()]).tolist(), strict=True))


def end_epoch(state, values, seconds):
    """Record an epoch, and see whether there is to be another."""
    check_losses(state, values)
    state.history.append({"epoch": state.epoch, **values, **state.rates, "epoch_time": seconds})
    notify(state, "on_epoch_end")
    if state.ranks is not None:
        state.stop_reason = state.ranks.any_of(state.stop_reason)
    state.epochs_left -= 1
    if state.stop_reason:
        state.epochs_left = 0
    else:
        schedule(state)
    notify(state, "on_checkpoint")


def end(state):
    """Leave the net as it is to be used."""
    notify(state, "on_fit_end")
    if state.ranks is not None:
        state.ranks.same_buffers(state.modules)
    for module in state.modules:
        module.eval()


def train_epoch(state):
    """Take one step a batch, or a group of batches; return the means over samples by name."""
    if state.average is not None:
        state.average.use(averages=False)
    step, metrics = state.step, state.train_metrics
    begin, end = state.hooks["on_batch_begin"], state.hooks["on_batch_end"]
    mean = Mean(state.ranks)
    for batches in groups_of(state.accumulation, state.train):
        for hook in begin:
            for batch in batches:
                hook(state, batch)
        for batch, (loss, y_pred) in zip(batches, step(state, batches), strict=True):
            mean.add(loss, batch.total)
            if metrics is not None:
                metrics.add(y_pred, batch.y)
            for hook in end:
                hook(state, batch, loss, y_pred)
    if state.average is not None:
        state.average.use(averages=True)
    return summary("train", mean, metrics)


def validate(state):
    """Return the means over the validation data by name, on the device."""
    begin, end = state.hooks["on_batch_begin"], state.hooks["on_batch_end"]
    mean = Mean(state.ranks)
    for module in state.modules:
        module.eval()
    # Not inference_mode: what a net keeps of it for later, such as a mask, must bear gradients.

    def step(batch):
        for hook in begin:
            hook(state, batch)
        return eval_step(state, batch)

    with torch.no_grad():
        steps = in_memory(step, state.valid, n_rows, halves, state.device)
        for batch, (loss, y_pred) in steps:
            mean.add(loss, batch.total)
            if state.valid_metrics is not None:
                state.valid_metrics.add(y_pred, batch.y)
            for hook in end:
                hook(state, batch, loss, y_pred)
        values = summary("val", mean, state.valid_metrics)
    for module in state.modules:
        module.train()
    return values


def summary(part, mean, metrics):
    """Return the mean loss and the metrics of one part of the data, 0-d tensors by name."""
    values = {f"{part}_loss": mean.compute()}
    if metrics is not None:
        values |= {f"{part}_{name}": value for name, value in metrics.compute().items()}
    return values


def groups_of(size, items):
    """Yield lists of ``size`` consecutive items; the last may be shorter."""
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


def schedule(state):
    """Step a schedule that goes by epochs."""
    if state.scheduler is not None and state.scheduled != "step":
        plateau = state.scheduled == "plateau"
        state.step_schedule(*([state.history.last[state.monitor]] if plateau else []))


def notify(state, hook):
    """Call ``hook`` of each callback that overrides it."""
    for call in state.hooks[hook]:
        call(state)


def check_losses(state, values):
    """Refuse to go on from a loss that is not finite."""
    for name, value in values.items():
        if name.endswith("_loss") and not math.isfinite(value):
            raise FitDivergedError(
                f"{name} became {value} in epoch {state.epoch}. {_remedy(state)}"
            )


def check_weights(state):
    """Refuse to return a net whose weights are not finite, or that is worse than before by far."""
    weights = [p.detach() for p in state.parameters]
    if not all_finite(*weights):
        raise FitDivergedError(
            f"weights are no longer finite after epoch {state.epoch}. {_remedy(state)}"
        )
    drawn = state.stream.states
    with torch.no_grad():
        loss = eval_step(state, state.first_rows)[0].item()
    state.stream.states = drawn
    if not loss <= _BLOWN_UP * (1 + abs(state.first_loss)):
        raise FitDivergedError(
            f"the loss of the first rows was {state.first_loss:.3g} before training and is "
            f"{loss:.3g} after epoch {state.epoch}. {_remedy(state)}"
        )


def _remedy(state):
    lr = state.optimizer.param_groups[0]["lr"]
    return f"Lower lr (it is {lr:g}), standardise X, or check the loss for values it cannot take."
