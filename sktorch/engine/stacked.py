"""Many fits at once: those of one kind as one batched program, the others one by one."""

import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import nn

from sktorch.engine.grouping import group, why_alone
from sktorch.engine.loop import (
    aborting,
    begin,
    begin_epoch,
    check_weights,
    end,
    end_epoch,
    gradients,
    run,
)
from sktorch.engine.stack import Stack
from sktorch.engine.threads import using_threads

__all__ = ["run_together"]

# Members of a stack beyond which more of them save nothing, and its tensors leave the cache.
_MOST_MEMBERS = 128


def run_together(states, warn, check=lambda: None):
    """Train many fits; each ends as ``run`` alone would end it.

    Parameters
    ----------
    states : list of FitState
    warn : callable
        Is told, once for each kind, why fits are trained one by one.
    check : callable
        Called between steps; what it raises ends the training.

    Returns
    -------
    errors : list of BaseException or None
        What each fit raised.
    """
    errors = {}
    jobs = []
    n_threads = torch.get_num_threads() if states[0].device.type == "cpu" else 1
    for states_of_kind in group(states):
        reason = "" if len(states_of_kind) == 1 else _why_alone(states_of_kind[0])
        if reason:
            warn(reason)
        if reason or len(states_of_kind) == 1:
            jobs += [([state], False) for state in states_of_kind]
        else:
            jobs += [(part, True) for part in _parts(states_of_kind, n_threads)]

    def work(job):
        members, stacked = job
        with using_threads(1 if len(jobs) > 1 else n_threads), gradients():
            if stacked:
                _run_stack(members, errors, warn, check)
            else:
                _run_alone(members, errors, check)

    if len(jobs) == 1:
        work(jobs[0])
    else:
        with ThreadPoolExecutor(n_threads, thread_name_prefix="sktorch-stack") as pool:
            list(pool.map(work, jobs))
    return [errors.get(id(state)) for state in states]


def _why_alone(state):
    try:
        return why_alone(state)
    except Exception as error:
        return _words(error)


def _parts(states, n_threads):
    """Split fits of one kind into stacks, one for each thread, and none too large."""
    n_parts = max(min(n_threads, len(states) // 2), -(-len(states) // _MOST_MEMBERS))
    size = -(-len(states) // max(1, n_parts))
    return [states[start : start + size] for start in range(0, len(states), size)]


def _run_alone(states, errors, check):
    for state in states:
        check()
        try:
            run(state)
        except BaseException as error:
            errors[id(state)] = error


def _run_stack(states, errors, warn, check):
    """Train fits of one kind as one; where that fails, one by one from the start."""
    starts = [_Start(state) for state in states]
    try:
        StackedRun(states, errors, check).run()
    except Exception as error:
        check()
        warn(_words(error))
        for start in starts:
            start.restore()
            errors.pop(id(start.state), None)
        _run_alone(states, errors, check)


class StackedRun:
    """The training loop over a stack: that of ``engine.loop``, for all members at a time."""

    def __init__(self, states, errors, check: Callable):
        self.states = states
        self.errors = errors
        self.check = check

    def run(self):
        """Train each member until its own end."""
        self._each(self.states, begin)
        alive = [state for state in self.states if id(state) not in self.errors]
        if not alive:
            return
        stack = Stack(alive)
        while stack.members:
            self._each(stack.members, begin_epoch)
            stack.release(self._failed(stack))
            if not stack.members:
                return
            started = time.perf_counter()
            values = self._compute_epoch(stack)
            share = (time.perf_counter() - started) / len(stack.members)
            rows = dict(zip(map(id, stack.members), values, strict=True))
            self._each(stack.members, _Record(rows, share))
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
        """Train and validate; return for each member the losses and metrics by name."""
        columns = {"train_loss": stack.train(self.check)}
        train_metrics = [self._metrics(state, "train") for state in stack.members]
        if stack.members[0].valid is not None:
            columns["val_loss"] = stack.validate()
        valid_metrics = [self._metrics(state, "val") for state in stack.members]
        # The epoch's only read from the device.
        losses = torch.stack([*columns.values()]).T.tolist()
        return [
            {
                name: value
                for part, metrics in (("train", train), ("val", valid))
                for name, value in [(f"{part}_loss", by_name.get(f"{part}_loss")), *metrics.items()]
                if value is not None
            }
            for by_name, train, valid in zip(
                (dict(zip(columns, row, strict=True)) for row in losses),
                train_metrics,
                valid_metrics,
                strict=True,
            )
        ]

    def _metrics(self, state, part):
        metrics = {"train": state.train_metrics, "val": state.valid_metrics}[part]
        if metrics is None or id(state) in self.errors:
            return {}
        values = {}
        self._each([state], lambda state: values.update(metrics.compute()))
        return {f"{part}_{name}": value.item() for name, value in values.items()}


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
        self.progress = state.progress()
        self.rows = list(state.history.rows)
        self.tensors = [tensor.detach().clone() for tensor in self._held()]

    def _held(self):
        return [
            t for module in self.state.modules for t in (*module.parameters(), *module.buffers())
        ]

    def restore(self):
        for own, tensor in zip(self._held(), self.tensors, strict=True):
            own.data = tensor
        self.state.resume(self.progress, self.rows)
        self.state.stop_reason = None


def _words(error):
    """Return what failed, and in which layer."""
    layer = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            layer = f" in {type(module).__name__}"
    message = (str(error).strip().splitlines() or [""])[0]
    return f"torch.func cannot map the step over nets ({type(error).__name__}{layer}: {message})"
