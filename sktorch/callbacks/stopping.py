"""When a fit stops, and with which weights."""

import math

from sktorch.callbacks.base import Callback
from sktorch.history import is_better

__all__ = ["EarlyStopping"]


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
