"""The tensors of many fits of one kind, each with a leading axis of members."""

import copy

import torch

from sktorch.callbacks import EarlyStopping
from sktorch.data.stacked import stacked_batches
from sktorch.engine.compiled import program_of, tensors_of
from sktorch.engine.fused_move import FusedMove
from sktorch.engine.holding import Holding
from sktorch.engine.mapped import MappedStep
from sktorch.engine.means import Means
from sktorch.engine.numbers import LiveNumbers, Numbers, Uses
from sktorch.engine.recording import bind

__all__ = ["Stack"]

# Share of the lanes of a compiled stack that must be members: a plain stack of these is as fast.
_LEAST_FILL = 0.4


class Stack:
    """Fits whose nets are computed as one.

    While a fit is a member, its parameters, buffers and the state of its optimizer are views of
    the stack's: what reads or writes them, such as a callback that keeps the best weights, does so
    as ever.

    Parameters
    ----------
    states : list of FitState
        Of one kind, as ``kind_of`` tells.

    Attributes
    ----------
    members : list of FitState
    lanes : list of FitState
        What each index along the leading axis belongs to: a member, or the shadow of one that
        left, which is computed for nothing.
    tensors : list of Tensor of shape (n_lanes, ...)
        In the order of ``Held``.
    program : callable or None
        The step compiled for all lanes.
    move : FusedMove or None
        What takes the optimizer's step in this epoch, if not formulas.
    """

    def __init__(self, states):
        # Those with as many rows are neighbours, so that their batches are.
        self.lanes = sorted(states, key=lambda state: -sum(state.train.sizes))
        first = self.lanes[0]
        for state in states:
            # Torch's schedulers warn where they are stepped before the optimizer was.
            state.optimizer._opt_called = True
        self.randomness = first.randomness
        differing = len({*map(_loss_numbers, states)}) > 1
        self.step = MappedStep(first, uses=Uses.of(*states), tensor_numbers=differing)
        self.modules = [self.step.net, *first.modules[1:]]
        self.held = {id(state): self.step.held_by(state) for state in self.lanes}
        self.tensors = self.step.gather([*self.held.values()])
        self.holdings = {}
        self._attach()

    def _attach(self):
        """Make what members hold views of the stack."""
        self.members = list(self.lanes)
        # What these hold in place of the stack's is to stay, until they leave.
        self.holdings = {id(state): self.holdings[id(state)] for state in self.departing()}
        self.views = self.step.members(self.tensors)
        for state, views in zip(self.lanes, self.views, strict=True):
            if id(state) in self.holdings:
                continue
            held = self.held[id(state)]
            self.step.place(held, views)
            if _is_watched(state):
                self.holdings[id(state)] = Holding(state, held.flat())
        self.numbers = LiveNumbers(self.step, self.lanes)
        self.program = self.program_shape = None

    def release(self, leaving):
        """Give members that leave tensors of their own, and close the ranks where it pays."""
        if not leaving:
            return
        left = {*map(id, leaving)}
        for index, state in enumerate(self.lanes):
            if id(state) in left:
                held = self.held[id(state)]
                if _is_watched(state):
                    # As it is now: what a callback has put there may be the stack's memory again.
                    held = self.step.held_by(state)
                self.step.set_free(held, self.views[index])
                self.lanes[index] = _shadow(state)
        self.members = [state for state in self.members if id(state) not in left]
        # A program is for as many lanes as it was compiled for.
        fill = len(self.members) / len(self.lanes)
        if self.members and (self.program is None or fill < _LEAST_FILL):
            alive = {*map(id, self.members)}
            kept = [index for index, state in enumerate(self.lanes) if id(state) in alive]
            self.lanes = [self.lanes[index] for index in kept]
            self.tensors = [tensor[kept] for tensor in self.tensors]
            self._attach()

    def departing(self):
        """Return members that no longer hold what is the stack's, since a callback saw to it."""
        watched = [state for state in self.members if id(state) in self.holdings]
        return [state for state in watched if not self.holdings[id(state)].lasts(state)]

    def compile(self, only_known=False):
        """Compile the step of all lanes for full batches; raise ``CannotCompileError``."""
        batch = next(batch for _, batch in stacked_batches([_shadow(s).train for s in self.lanes]))
        first, numbers = self.lanes[0], self.numbers.now
        program = program_of(self.step, first, self.tensors, numbers, batch, only_known)
        self.program = bind(program, [*self.tensors, *numbers])
        self.program_shape = batch.x.shape

    def train(self, check):
        """Run one epoch of each member; return the mean losses over samples, of shape (n_lanes,).

        ``check`` is called before each step.
        """
        self._switch(training=True)
        self.numbers.refresh()
        measured = _numbered(self.lanes, lambda state: state.train_metrics)
        moved = _numbered(self.lanes, lambda state: state.after_update)
        # What is done after each step may change more than the kernel takes for each member.
        self.move = None if moved else FusedMove.of(self.step, self.numbers, self.tensors)
        means = Means(len(self.lanes))
        for lanes, batch in stacked_batches([state.train for state in self.lanes]):
            check()
            with self.randomness:
                loss, y_pred = self.update(lanes, batch)
            means.add(lanes, loss, batch.total)
            for index, metrics in _within(measured, lanes):
                metrics.add(y_pred[index], batch.y[index])
            for _, actions in _within(moved, lanes):
                for after in actions:
                    after()
            if moved:
                self.numbers.refresh()
        self._switch(training=False)
        return means.compute()

    def update(self, lanes, batch):
        """Take one step of some lanes; return their losses and predictions."""
        if batch.x.shape == self.program_shape:
            return self.program(tensors_of(batch))
        return self.step(*self._inputs(lanes), *batch, move=self.move)

    def validate(self):
        """Return the mean validation losses, of shape (n_lanes,)."""
        means = Means(len(self.lanes))
        measured = _numbered(self.lanes, lambda state: state.valid_metrics)
        with torch.no_grad():
            for lanes, batch in stacked_batches([state.valid for state in self.lanes]):
                loss, y_pred = self.step.evaluate(*self._inputs(lanes), *batch)
                means.add(lanes, loss, batch.total)
                for index, metrics in _within(measured, lanes):
                    metrics.add(y_pred[index], batch.y[index])
        return means.compute()

    def _inputs(self, lanes):
        numbers = self.numbers.now
        if lanes == slice(0, len(self.lanes)):
            return self.tensors, numbers
        return [t[lanes] for t in self.tensors], Numbers(*(n[..., lanes, :] for n in numbers))

    def _switch(self, training):
        for module in self.modules:
            module.train(training)
        for state in self.members:
            if state.average is not None:
                state.average.use(averages=not training)


def _numbered(states, find):
    """Return what ``find`` returns for each fit that has it, by the number of the fit."""
    return {number: found for number, state in enumerate(states) if (found := find(state))}


def _within(numbered, lanes):
    """Yield those of some lanes, counted from the first of these."""
    for number, found in numbered.items():
        if lanes.start <= number < lanes.stop:
            yield number - lanes.start, found


def _is_watched(state):
    """Whether a callback may replace what a fit holds; ours that every fit has does not."""
    return any(type(callback) is not EarlyStopping for callback in state.callbacks)


def _shadow(state):
    """Return a copy of a fit to be computed for nothing: it draws and records nothing."""
    shadow = copy.copy(state)
    shadow.train = copy.copy(state.train)
    shadow.train.generator = None
    shadow.after_update, shadow.average = [], None
    shadow.train_metrics = shadow.valid_metrics = None
    return shadow


def _loss_numbers(state):
    return tuple(state.objective.numbers.values())
