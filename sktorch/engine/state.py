"""What one fit holds while it runs."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from sktorch.callbacks import HOOKS, Callback, overriding
from sktorch.data.batches import Batch, Resident
from sktorch.data.streams import Arriving, Streamed
from sktorch.engine.average import WeightAverage
from sktorch.engine.measure import MetricSet
from sktorch.engine.precision import Full
from sktorch.engine.randomness import RandomStream
from sktorch.engine.snapshot import take_snapshot
from sktorch.engine.step import closure_step, train_step
from sktorch.history import History
from sktorch.objective import Objective
from sktorch.optim import needs_closure
from sktorch.penalties import Penalty

__all__ = ["FitState"]


@dataclass
class FitState:
    """Everything a fit reads and changes; the user's objects are not among it.

    Parameters
    ----------
    net : nn.Module
    objective : Objective
    optimizer : torch.optim.Optimizer
    train : Resident, Streamed or Arriving
    valid : the same, or None
    order : torch.Generator
        Shuffles ``train``.
    stream : RandomStream
        What dropout draws from.
    is_random : bool
        Whether the net draws from it.
    device : torch.device
    penalty : Penalty or None
    precision : Full
    clip_norm : float or None
        Largest norm of all gradients together.
    accumulation : int
        Batches whose gradients make one update.
    scheduler : LRScheduler or None
    scheduled : {"step", "epoch", "plateau"}
        When ``scheduler`` is stepped.
    monitor : str
        Column of the history that decides which epoch was the best.
    mode : {"min", "max"}
    train_metrics, valid_metrics : MetricSet or None
    first_rows : Batch or None
        A few rows of ``train``.
    first_loss : float
        Their loss before training.
    max_epochs : int
        Epochs of this run, beyond those already in ``history``.
    callbacks : list of Callback
    history : History
    epoch : int
        The current epoch; the first is 1.
    forward : callable
        ``net`` as it is called with ``batch.x``, which may be several inputs.
    ranks : Ranks or None
        The processes that train together; see ``sktorch.interop.accelerate``.
    stop_reason : str or None
        Set by a callback to end the fit after the current epoch.
    origin : callable
        Returns what a checkpoint is to tell of the fit beside its state, in a dict.
    resumed : dict
        States of callbacks, of a fit that goes on from a checkpoint.
    epochs_left : int
        Epochs still to run.
    rates : dict of str to float
        Learning rates that the current epoch began with, by column of the history.
    compile : bool or "auto"
        Whether the step is still to be compiled.
    step : callable
        One update; see ``train_step``.
    """

    net: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    train: Resident | Streamed | Arriving
    valid: Resident | Streamed | Arriving | None
    order: torch.Generator
    stream: RandomStream
    is_random: bool
    device: torch.device
    penalty: Penalty | None = None
    precision: Full = field(default_factory=Full)
    clip_norm: float | None = None
    accumulation: int = 1
    scheduler: LRScheduler | None = None
    scheduled: str = "epoch"
    monitor: str = "train_loss"
    mode: str = "min"
    train_metrics: MetricSet | None = None
    valid_metrics: MetricSet | None = None
    first_rows: Batch | None = None
    first_loss: float = math.inf
    max_epochs: int = 1
    callbacks: list[Callback] = field(default_factory=list)
    history: History = field(default_factory=History)
    epoch: int = 0
    stop_reason: str | None = None
    origin: Callable = dict
    resumed: dict = field(default_factory=dict)
    forward: Callable | None = None
    ranks: object | None = None
    epochs_left: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    compile: bool | str = False
    step: Callable | None = None

    def __post_init__(self):
        self.forward = self.forward or self.net
        groups = self.optimizer.param_groups
        self.parameters = [p for group in groups for p in group["params"]]
        self.names = [name for group in groups for name in group["names"]]
        rates = [(group["given_lr"], group["rule"]) for group in groups]
        schedule = None if self.scheduler is None else (type(self.scheduler).__name__, rates)
        self._kinds = (type(self.optimizer).__name__, schedule)
        self.hooks = {hook: overriding(self.callbacks, hook) for hook in HOOKS}
        self.step = self.step or (closure_step if needs_closure(self.optimizer) else train_step)
        # Entered around each forward of training.
        self.randomness = self.stream if self.is_random else nullcontext()
        self.before_update = self._before_update()
        self.after_update: list[Callable] = []
        self.average: WeightAverage | None = None
        if self.scheduler is not None and self.scheduled == "step":
            self.after_update.append(self.step_schedule)
        self.modules = [m for m in (self.net, self.objective.module) if m is not None]
        self.tensors = [t for m in self.modules for t in (*m.parameters(), *m.buffers())]
        self.kept = {}

    def _before_update(self):
        """Return what is done to the gradients of the loss before they are used."""
        stages = []
        if self.ranks is not None and self.objective.named_parameters():
            own = [parameter for _, parameter in self.objective.named_parameters()]
            stages.append(lambda: self.ranks.average(own))
        if self.penalty or self.clip_norm or self.hooks["on_gradients"]:
            stages.append(lambda: self.precision.unscale(self.optimizer))
        if self.penalty is not None:
            stages.append(self.penalty.add_gradients)
        if self.clip_norm is not None:
            stages.append(lambda: nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        stages += [partial(hook, self) for hook in self.hooks["on_gradients"]]
        return stages

    def drop_callbacks(self, kind):
        """Do without the callbacks of a class; return them."""
        dropped = [callback for callback in self.callbacks if isinstance(callback, kind)]
        self.callbacks = [callback for callback in self.callbacks if callback not in dropped]
        self.hooks = {hook: overriding(self.callbacks, hook) for hook in HOOKS}
        return dropped

    def follow_average(self, average):
        """Evaluate and end with the weights of ``average``, updated after each step."""
        self.average = average
        self.after_update.append(average.update)

    def learning_rates(self):
        """Return the learning rate of the first group, and of each rule's first group."""
        groups = self.optimizer.param_groups
        rates = {"lr": groups[0]["lr"]}
        for group in groups:
            if group["rule"] is not None:
                rates.setdefault(f"lr[{group['rule']}]", group["lr"])
        return rates

    def step_schedule(self, *monitored):
        """Step the schedule; one that was told its length stays at its end."""
        length = getattr(self.scheduler, "total_steps", None)
        if length is None or self.scheduler.last_epoch + 1 < length:
            self.scheduler.step(*monitored)

    def progress(self):
        """Return what ``resume`` needs beside the weights and the history."""
        return {
            "optimizer": self._optimizer_states(),
            "order": self.order.get_state(),
            "dropout": self.stream.states,
            "scheduler": None if self.scheduler is None else _plain_state(self.scheduler),
            "scheduled": [_scheduled_settings(group) for group in self.optimizer.param_groups],
            "kinds": self._kinds,
            "unaveraged": None if self.average is None else self.average.others,
            "precision": self.precision.state_dict(),
        }

    def _optimizer_states(self):
        """Return what the optimizer keeps for each parameter that it has moved, by its name."""
        if _keeps_states_plainly(self.optimizer):
            # A callback may have replaced parameters.
            now = [p for group in self.optimizer.param_groups for p in group["params"]]
            known = self.optimizer.state
            return {n: known[p] for n, p in zip(self.names, now, strict=True) if p in known}
        states = self.optimizer.state_dict()["state"]
        return {self.names[index]: state for index, state in states.items()}

    def snapshot(self):
        """Return all that decides how the fit goes on, as plain values."""
        return take_snapshot(self)

    def resume(self, progress, rows):
        """Go on from where another fit was.

        Settings that have changed since hold: what another optimizer left is of no use to this one,
        nor is how far another schedule had come. ``progress`` may be None, if it is not known.
        """
        self.history = History(rows)
        self.epoch = len(rows)
        if progress is None:
            return
        if progress["kinds"][0] == self._kinds[0]:
            groups = self.optimizer.state_dict()["param_groups"]
            known = progress["optimizer"]
            states = {i: known[name] for i, name in enumerate(self.names) if name in known}
            self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        if self.scheduler is not None and progress["kinds"] == self._kinds:
            self.scheduler.load_state_dict(_loadable(progress["scheduler"], self.optimizer))
            pairs = zip(self.optimizer.param_groups, progress["scheduled"], strict=True)
            for group, settings in pairs:
                group.update(settings)
        if self.average is not None and progress["unaveraged"] is not None:
            self.average.others = [tensor.to(self.device) for tensor in progress["unaveraged"]]
            self.average.in_use = True
        self.precision.load_state_dict(progress["precision"])
        self.order.set_state(progress["order"])
        # Another device may have fewer generators, or more, which then begin anew.
        known = progress["dropout"][: len(self.stream.states)]
        self.stream.states = [*known, *self.stream.states[len(known) :]]

    def direction(self, monitor):
        """Return whether less or more of a column of the history is better, "min" or "max"."""
        name = monitor.split("_", 1)[-1]
        modes = {} if self.train_metrics is None else self.train_metrics.modes
        mode = {"loss": "min", **modes}.get(name)
        if mode is None:
            raise ValueError(
                f'EarlyStopping: mode="auto" does not know whether less or more of {monitor!r} is '
                'better. Set mode to "min" or "max".'
            )
        return mode

    def keep_weights(self, keeper):
        """Remember the weights as they are now, for the callback ``keeper``."""
        if id(keeper) not in self.kept:
            self.kept[id(keeper)] = [tensor.detach().clone() for tensor in self.tensors]
        else:
            self._copy(self.kept[id(keeper)], self.tensors)

    def restore_weights(self, keeper):
        """Go back to the weights last kept for ``keeper``, if any were."""
        if id(keeper) in self.kept:
            self._copy(self.tensors, self.kept[id(keeper)])
            if self.average is not None:
                # What training would have gone on with belongs to a later epoch.
                self.average.others, self.average.in_use = None, False

    @staticmethod
    @torch.no_grad()
    def _copy(into, source):
        for a, b in zip(into, source, strict=True):
            a.copy_(b)


def _keeps_states_plainly(optimizer):
    """Whether ``state_dict`` of an optimizer tells of the states what it holds, and no more."""
    hooks = ("_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks")
    hooked = any(getattr(optimizer, name, True) for name in hooks)
    return not hooked and type(optimizer).state_dict is torch.optim.Optimizer.state_dict


# What schedules change in a group of parameters.
_SCHEDULED = ("lr", "momentum", "betas")


def _scheduled_settings(group):
    return {name: group[name] for name in _SCHEDULED if name in group}


def _plain_state(scheduler):
    """Return the state of a scheduler without its functions, which building it makes anew."""
    return {
        name: value
        for name, value in scheduler.state_dict().items()
        if name not in ("lr_lambdas", "_scale_fn_custom", "_scale_fn_ref") and not callable(value)
    }


def _loadable(state, optimizer):
    """Return a plain state with a place for the functions that are to stay as they are."""
    empty = {"lr_lambdas": [None] * len(optimizer.param_groups), "_scale_fn_custom": None}
    return {**state, **empty}
