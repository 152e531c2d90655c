"""Many fits at once: those of one kind as one batched program, the others one by one."""

import math
import time
import traceback
from typing import NamedTuple

import torch
from torch import nn

from sktorch.callbacks import ProgressBar, StackProgress
from sktorch.copying import duplicate
from sktorch.data.stacked import share_rows
from sktorch.engine.grouping import Kind, differences, group, why_alone
from sktorch.engine.kept_threads import each_in_threads
from sktorch.engine.loop import (
    aborting,
    begin,
    begin_epoch,
    check_weights,
    end,
    end_epoch,
    go_on,
    gradients,
    run,
)
from sktorch.engine.measure import MetricSet
from sktorch.engine.memory import available_bytes, bytes_of, keep_freed_memory
from sktorch.engine.plan import plan_stack
from sktorch.engine.stack import Stack
from sktorch.engine.threads import using_threads

__all__ = ["run_together"]

# What of the progress of a fit is replaced as it goes on.
_NOT_WRITTEN_TO = ("order", "dropout")

# Members of a stack beyond which more of them save nothing, and its tensors leave the cache.
_MOST_MEMBERS = 128


class Work(NamedTuple):
    """Fits to train at once, and whether as one."""

    states: list
    stacked: bool


def run_together(states, n_threads, warn, check, memory):
    """Train many fits; each ends as ``run`` alone would end it.

    Parameters
    ----------
    states : list of FitState
    n_threads : int
        Threads to compute with, on a CPU.
    warn : callable
        Is told, once for each kind, why fits are trained one by one.
    check : callable
        Called between steps; what it raises ends the training.
    memory : float
        Share of the memory that is available which the stacks may take.

    Returns
    -------
    errors : list of BaseException or None
        What each fit raised.
    """
    keep_freed_memory()
    n_threads = n_threads if states[0].device.type == "cpu" else 1
    parts = [part for state in states for part in (state.train, state.valid) if part is not None]
    # Not with more: another process may be busy with the other processors.
    with using_threads(n_threads), gradients():
        share_rows(parts)
        works = plan_work(states, n_threads, warn, memory)
    errors = {}
    progress = _progress(works)

    def train(work):
        with using_threads(1 if len(works) > 1 else n_threads), gradients():
            if work.stacked:
                _run_stack(work.states, errors, warn, check, progress)
            else:
                _run_alone(work.states, errors, check)

    try:
        if len(works) == 1:
            train(works[0])
        else:
            each_in_threads(train, works, n_threads, "sktorch-stack")
    finally:
        if progress is not None:
            progress.close()
    return [errors.get(id(state)) for state in states]


def plan_work(states, n_threads, warn, memory):
    """Return the stacks to train, and the fits that are trained alone."""
    works = []
    groups = group(states)
    for kind, alike in groups.items():
        reason = "" if len(states) == 1 else _why_alone(kind, alike[0])
        if reason:
            warn(reason)
        if reason or len(alike) == 1:
            works += [Work([state], stacked=False) for state in alike]
        else:
            size = _stack_size(alike, n_threads, memory)
            parts = [alike[start : start + size] for start in range(0, len(alike), size)]
            works += [Work(part, stacked=True) for part in parts]
    kinds = [kind for kind in groups if isinstance(kind, Kind)]
    if len(states) == len(kinds) > 1 and not any(kind.setting for kind in kinds):
        warn(f"no two of them have the same {' and '.join(differences(kinds))}")
    return works


def _why_alone(kind, state):
    try:
        return why_alone(kind, state)
    except Exception as error:
        return _words(error)


def _stack_size(states, n_threads, memory):
    """Return how many fits of one kind make a stack: as many stacks as threads, none too large."""
    n_parts = max(1, min(n_threads, len(states) // 2), -(-len(states) // _MOST_MEMBERS))
    available = available_bytes(states[0].device)
    if available is not None:
        at_once = memory * available / bytes_of(states[0])
        n_parts = max(n_parts, math.ceil(len(states) * n_threads / max(1.0, at_once)))
    return -(-len(states) // n_parts)


def _progress(works):
    """Return one bar in place of those of the fits that are stacked, or None without any."""
    states = [state for work in works if work.stacked for state in work.states]
    shown = [state for state in states if state.drop_callbacks(ProgressBar)]
    return StackProgress(states) if shown else None


def _run_alone(states, errors, check):
    for state in states:
        check()
        state.hooks["on_batch_begin"].insert(0, lambda *_: check())
        try:
            run(state)
        except BaseException as error:
            errors[id(state)] = error


def _run_stack(states, errors, warn, check, progress):
    """Train fits of one kind as one; where that fails, one by one from the start."""
    starts = [_Start(state) for state in states]
    try:
        with states[0].precision.in_use():
            StackedRun(states, errors, warn, check, progress).run()
    except Exception as error:
        check()
        warn(_words(error))
        for start in starts:
            start.restore()
            errors.pop(id(start.state), None)
        _run_alone(states, errors, check)


class StackedRun:
    """The training loop over a stack: that of ``engine.loop``, for all members at a time."""

    def __init__(self, states, errors, warn, check, progress):
        self.states = states
        self.errors = errors
        self.warn = warn
        self.check = check
        self.progress = progress

    def run(self):
        """Train each member until its own end."""
        self._each(self.states, begin)
        alive = [state for state in self.states if id(state) not in self.errors]
        if not alive:
            return
        stack = Stack(alive)
        seconds = math.inf
        while stack.members:
            plan_stack(stack, seconds)
            self._each(stack.members, begin_epoch)
            departing = stack.departing()
            if departing:
                self.warn("a callback changes which parameters are trained, or replaces them")
            stack.release(self._failed(stack) + departing)
            for state in departing:
                self._each([state], go_on, aborts=False)
            if not stack.members:
                return
            started = time.perf_counter()
            rows = self._compute_epoch(stack)
            seconds = time.perf_counter() - started
            self._each(stack.members, _Record(rows, seconds / len(stack.members)))
            if self.progress is not None:
                self.progress.update(stack.members)
            done = [state for state in stack.members if not state.epochs_left]
            self._each(done, end)
            stack.release(done + self._failed(stack))
            self._each(done, check_weights, aborts=False)

    def _failed(self, stack):
        return [state for state in stack.members if id(state) in self.errors]

    def _each(self, states, action, aborts=True):
        """Do something for each member; what goes wrong is that member's alone."""
        for state in states:
            if id(state) in self.errors:
                continue
            try:
                if aborts:
                    with aborting(state):
                        action(state)
                else:
                    action(state)
            except BaseException as error:
                self.errors[id(state)] = error

    def _compute_epoch(self, stack):
        """Train and validate; return the losses and metrics of each member, by its id."""
        parts = {"train": stack.train(self.check)}
        if any(state.valid is not None for state in stack.lanes):
            parts["val"] = stack.validate()
        # The epoch's only read from the device.
        losses = dict(zip(parts, torch.stack([*parts.values()]).tolist(), strict=True))
        rows = {}
        for lane, state in enumerate(stack.lanes):
            metrics = {"train": state.train_metrics, "val": state.valid_metrics}
            row = rows[id(state)] = {}
            for part in parts:
                if part == "val" and state.valid is None:
                    continue
                row[f"{part}_loss"] = losses[part][lane]
                if metrics[part] is not None:
                    self._each([state], _Compute(metrics[part], part, row))
        return rows


class _Compute(NamedTuple):
    """Adds the metrics of one part of the data to a member's row of the history."""

    metrics: MetricSet
    part: str
    row: dict

    def __call__(self, state):
        for name, value in self.metrics.compute().items():
            self.row[f"{self.part}_{name}"] = value.item()


class _Record(NamedTuple):
    """Ends an epoch of a member with its row of the history."""

    rows: dict
    seconds: float

    def __call__(self, state):
        end_epoch(state, self.rows[id(state)], self.seconds)


class _Start:
    """Where a fit began, to go back to."""

    def __init__(self, state):
        self.state = state
        self.progress = {
            name: part if name in _NOT_WRITTEN_TO else duplicate(part)
            for name, part in state.progress().items()
        }
        self.rows = list(state.history.rows)
        self.tensors = [tensor.detach().clone() for tensor in state.tensors]

    def restore(self):
        """Go back, with tensors of its own again."""
        for own, tensor in zip(self.state.tensors, self.tensors, strict=True):
            own.data = tensor
        self.state.resume(self.progress, self.rows)
        self.state.stop_reason = None
        for metrics in (self.state.train_metrics, self.state.valid_metrics):
            if metrics is not None:
                metrics.reset()


def _words(error):
    """Return what failed, and in which layer."""
    layer = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            layer = f" in {type(module).__name__}"
    message = (str(error).strip().splitlines() or [""])[0]
    return f"training them as one failed ({type(error).__name__}{layer}: {message})"
