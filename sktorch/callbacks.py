"""Hooks that a training loop calls, and those that come with sktorch."""

import math

from sktorch.history import is_better

__all__ = ["HOOKS", "Callback", "EarlyStopping", "overriding"]


class Callback:
    """Base class: override the hooks you need; the others cost nothing.

    Each hook gets ``state``, the ``FitState`` of the running fit: its ``net``, ``optimizer``,
    ``history`` (a list of rows), ``epoch``; setting ``state.stop_reason`` to a text ends the fit
    after the epoch. What a hook reads off a tensor it reads off the device: per batch that costs
    time. The object that a user passes is copied for each fit.
    """

    def on_fit_begin(self, state):
        """Run once, before the first epoch."""

    def on_epoch_begin(self, state):
        """Run before each epoch; ``state.epoch`` is its number, the first being 1."""

    def on_batch_begin(self, state, batch):
        """Run before each batch, also of validation, where ``state.net.training`` is False.

        ``batch`` has ``x``, ``y`` as the loss sees it, ``weight`` (or None) and ``total``.
        """

    def on_gradients(self, state):
        """Run when the gradients of an update are complete, penalties among them, before it."""

    def on_batch_end(self, state, batch, loss, y_pred):
        """Run after each batch, also of validation, where ``state.net.training`` is False.

        ``loss`` is a 0-d tensor on the device, ``y_pred`` what the net gave, detached.
        """

    def on_epoch_end(self, state):
        """Run after each epoch, when its row is in ``state.history``."""

    def on_fit_end(self, state):
        """Run once, after the last epoch."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def overriding(callbacks, hook):
    """Return the bound ``hook`` of each callback that overrides it."""
    return [
        getattr(callback, hook)
        for callback in callbacks
        if getattr(type(callback), hook) is not getattr(Callback, hook)
    ]


class EarlyStopping(Callback):
    """Stop when a recorded value no longer improves, and keep the best weights.

    Parameters
    ----------
    monitor : str
        Column of the history.
    mode : {"min", "max"}
    patience : int or float
        Epochs in a row without improvement after which to stop; ``inf`` for never.
    min_delta : float
        A smaller gain does not count as an improvement when waiting. The *best* epoch is the best
        by any margin; a tie does not replace it.
    restore_best : bool
        Whether the fit ends with the weights of the best epoch.
    """

    def __init__(self, monitor, mode, patience, min_delta=0.0, restore_best=True):
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best

    def on_fit_begin(self, state):
        worst = math.inf if self.mode == "min" else -math.inf
        self._best = self._reference = worst
        self._waited = 0

    def on_epoch_end(self, state):
        value = state.history.last[self.monitor]
        if is_better(value, self._best, self.mode):
            self._best = value
            if self.restore_best:
                state.keep_weights()
        if is_better(value, self._reference, self.mode, self.min_delta):
            self._reference = value
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            state.stop_reason = (
                f"{self.monitor} has not improved on {self._reference:.6g} "
                f"for {self._waited} epochs"
            )

    def on_fit_end(self, state):
        if self.restore_best:
            state.restore_weights()
