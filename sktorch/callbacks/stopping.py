"""When a fit stops, and with which weights."""

import math
from numbers import Real

from sktorch.callbacks.base import Callback
from sktorch.history import is_better

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stop when a recorded value no longer improves, and keep the best weights.

    The estimator's own parameters make one of these; one in ``callbacks`` takes its place.

    Parameters
    ----------
    monitor : str
        Column of the history.
    mode : {"auto", "min", "max"}, default="auto"
        Whether less or more is better; "auto" knows it of the loss and of most metrics.
    patience : int or float, default=10
        Epochs in a row without improvement after which to stop; ``inf`` for never.
    min_delta : float, default=0.0
        A smaller gain does not count as an improvement when waiting. The *best* epoch is the best
        by any margin; a tie does not replace it.
    restore_best : bool, default=True
        Whether the fit ends with the weights of the best epoch.
    """

    def __init__(self, monitor, mode="auto", patience=10, min_delta=0.0, restore_best=True):
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best

    def on_fit_begin(self, state):
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(
                f'EarlyStopping: mode must be "auto", "min" or "max", got {self.mode!r}.'
            )
        if not isinstance(self.patience, Real) or not self.patience >= 1:
            raise ValueError(
                f"EarlyStopping: patience must be a number of epochs, got {self.patience!r}."
            )
        self.direction = state.direction(self.monitor) if self.mode == "auto" else self.mode
        self._best = self._reference = math.inf if self.direction == "min" else -math.inf
        self._waited = 0

    def state_dict(self):
        return {
            "rule": [self.monitor, self.direction, float(self.min_delta), self.restore_best],
            "seen": [self._best, self._reference, self._waited],
        }

    def load_state_dict(self, state):
        if (now := self.state_dict()["rule"]) != state["rule"]:
            raise ValueError(
                "EarlyStopping: monitor, mode, min_delta and restore_best were "
                f"{state['rule']} when the checkpoint was written and are {now}. Set them back."
            )
        self._best, self._reference, self._waited = state["seen"]

    def on_epoch_end(self, state):
        row = state.history.last
        if self.monitor not in row:
            lacks = self.monitor.startswith("val_") and "val_loss" not in row
            raise ValueError(
                f"EarlyStopping: monitor={self.monitor!r} is not recorded. Recorded: "
                f"{', '.join(row)}. "
                + ("Pass X_val and y_val to fit, or set early_stopping=True." if lacks else "")
            )
        value = row[self.monitor]
        if is_better(value, self._best, self.direction):
            self._best = value
            if self.restore_best:
                state.keep_weights(self)
        if is_better(value, self._reference, self.direction, self.min_delta):
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
            state.restore_weights(self)
