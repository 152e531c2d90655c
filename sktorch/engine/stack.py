"""The tensors of many fits of one kind, each with a leading axis of members."""

import copy

import torch

from sktorch.data.stacked import stacked_batches
from sktorch.engine.functional import FunctionalStep, Numbers

__all__ = ["Stack"]


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
    tensors : list of Tensor of shape (n_members, ...)
        In the order of ``FunctionalStep``.
    """

    def __init__(self, states):
        # Those with as many rows are neighbours, so that their batches are.
        self.members = sorted(states, key=lambda state: -sum(state.train.sizes))
        first = self.members[0]
        for state in states:
            # Torch's schedulers warn where they are stepped before the optimizer was.
            state.optimizer._opt_called = True
        # A net of its own to call: that of a member is the member's again once it leaves.
        net = copy.deepcopy(first.net)
        self.modules = [net, *first.modules[1:]]
        self.randomness = first.randomness
        self.step = FunctionalStep(
            first,
            net=net,
            stacked=True,
            penalised=any(state.penalty is not None for state in states),
            clips=any(state.clip_norm is not None for state in states),
            tensor_numbers=len({*map(_loss_numbers, states)}) > 1,
        )
        held = [self.step.tensors(state) for state in self.members]
        self.tensors = [torch.stack(parts) for parts in zip(*held, strict=True)]
        self._attach()

    def _attach(self):
        """Make what members hold views of the stack."""
        for index, state in enumerate(self.members):
            self.step.place(state, [tensor[index] for tensor in self.tensors])
        self.numbers = Numbers(self.step, self.members)

    def release(self, leaving):
        """Give members that leave tensors of their own, and close the ranks."""
        if not leaving:
            return
        left = {*map(id, leaving)}
        for index, state in enumerate(self.members):
            if id(state) in left:
                self.step.place(state, [tensor[index].clone() for tensor in self.tensors])
        kept = [index for index, state in enumerate(self.members) if id(state) not in left]
        self.members = [self.members[index] for index in kept]
        if kept:
            self.tensors = [tensor[kept] for tensor in self.tensors]
            self._attach()

    def train(self, check):
        """Run one epoch of each member; return the mean loss over its samples, (n_members,).

        ``check`` is called before each step.
        """
        self._switch(training=True)
        moving = any(state.after_update for state in self.members)
        self.numbers.refresh()
        means = Means(len(self.members))
        for members, batch in stacked_batches([state.train for state in self.members]):
            check()
            with self.randomness:
                loss, y_pred = self.update(members, batch)
            means.add(members, loss, batch.total)
            for index, state in enumerate(self.members[members]):
                if state.train_metrics is not None:
                    state.train_metrics.add(y_pred[index], batch.y[index])
                for after in state.after_update:
                    after()
            if moving:
                self.numbers.refresh()
        self._switch(training=False)
        return means.compute()

    def update(self, members, batch):
        """Take one step of some members; return their losses and predictions."""
        return self.step(*self._inputs(members), *batch)

    def validate(self):
        """Return the mean validation loss of each member, of shape (n_members,)."""
        means = Means(len(self.members))
        with torch.no_grad():
            for members, batch in stacked_batches([state.valid for state in self.members]):
                tensors, _, loss_numbers = self._inputs(members)
                loss, y_pred = self.step.evaluate(tensors, loss_numbers, *batch)
                means.add(members, loss, batch.total)
                for index, state in enumerate(self.members[members]):
                    if state.valid_metrics is not None:
                        state.valid_metrics.add(y_pred[index], batch.y[index])
        return means.compute()

    def _inputs(self, members):
        table, loss_numbers = self.numbers.table, self.numbers.loss
        if members == slice(0, len(self.members)):
            return self.tensors, table, loss_numbers
        return [t[members] for t in self.tensors], table[:, members], loss_numbers[members]

    def _switch(self, training):
        for module in self.modules:
            module.train(training)
        for state in self.members:
            if state.average is not None:
                state.average.use(averages=not training)


class Means:
    """Means over samples, of each member."""

    def __init__(self, n_members):
        self.n_members = n_members
        self.sums = self.totals = None

    def add(self, members, loss, total):
        """Take in the mean losses of a batch, whose total weights are given."""
        if self.sums is None:
            self.sums, self.totals = loss.new_zeros(2, self.n_members)
        self.sums[members] += loss * total
        self.totals[members] += total

    def compute(self):
        """Return the means, of shape (n_members,)."""
        return self.sums / self.totals


def _loss_numbers(state):
    return tuple(state.objective.numbers.values())
