"""What ``verbose`` shows while a fit runs."""

import threading
import time
from datetime import datetime
from numbers import Integral, Real
from operator import length_hint

from tqdm.auto import tqdm

from sktorch.callbacks.base import Callback
from sktorch.history import is_better

__all__ = ["PrintLog", "ProgressBar", "StackProgress"]

# Epochs that take longer than this get a bar of their own.
_LONG_EPOCH_SECONDS = 3.0

_NOT_SHOWN = ("epoch", "lr", "epoch_time")


def _words(value, width=0):
    """Format a number to four digits, and anything else as it is."""
    is_number = isinstance(value, Real) and not isinstance(value, Integral)
    return f"{value:>{width}.4g}" if is_number else f"{value!s:>{width}}"


class ProgressBar(Callback):
    """One bar over epochs on standard error, and one over the steps of an epoch that takes long.

    It shows the losses and metrics of the last epoch, and its best epoch.
    """

    writes = True

    def on_fit_begin(self, state):
        self._steps = None
        self._shown = {}
        self._epochs = tqdm(total=state.max_epochs, desc="epochs", unit="epoch")

    def on_epoch_begin(self, state):
        self._started = time.perf_counter()
        self._n_batches = 0

    def on_batch_end(self, state, batch, loss, y_pred):
        if not state.net.training:
            return
        self._n_batches += 1
        if self._steps is not None:
            if self._steps.update():
                # The bar was drawn again: the time to read a value off the device.
                self._steps.set_postfix(loss=f"{loss.item():.4g}", refresh=False)
        elif time.perf_counter() - self._started > _LONG_EPOCH_SECONDS:
            self._steps = tqdm(
                total=length_hint(state.train, 0) or None,
                initial=self._n_batches,
                desc=f"epoch {state.epoch}",
                unit="step",
                leave=False,
            )

    def on_epoch_end(self, state):
        self._close_steps()
        row = state.history.last
        shown = {name: _words(value) for name, value in row.items() if name not in _NOT_SHOWN}
        best = state.history.best(state.monitor, state.mode)["epoch"]
        self._shown = shown | {"best": best}
        self._epochs.set_postfix(self._shown, refresh=False)
        self._epochs.update()

    def on_fit_end(self, state):
        self._close_steps()
        if state.stop_reason:
            self._epochs.set_postfix(self._shown | {"stopped": state.stop_reason})
        self._epochs.close()

    def on_fit_abort(self, state):
        self._close_steps()
        if hasattr(self, "_epochs"):
            self._epochs.close()

    def _close_steps(self):
        if self._steps is not None:
            self._steps.close()
            self._steps = None


class StackProgress:
    """One bar for many fits that train together: the epochs of all of them, on standard error.

    Parameters
    ----------
    states : list of FitState
    """

    def __init__(self, states):
        self._left = {id(state): state.max_epochs for state in states}
        self._lock = threading.Lock()
        self._best = None
        self._bar = tqdm(total=sum(self._left.values()), desc="fits", unit="epoch")

    def update(self, states):
        """Take in the epoch that each of some fits has just run."""
        with self._lock:
            for state in states:
                left = getattr(state, "epochs_left", 0)
                self._bar.update(self._left[id(state)] - left)
                self._left[id(state)] = left
                if state.history.rows:
                    value = state.history.best(state.monitor, state.mode)[state.monitor]
                    if self._best is None or is_better(value, self._best, state.mode):
                        self._best, self._monitor = value, state.monitor
            shown = {"alive": sum(left > 0 for left in self._left.values())}
            if self._best is not None:
                shown[f"best {self._monitor}"] = _words(self._best)
            self._bar.set_postfix(shown, refresh=False)

    def close(self):
        """End the bar."""
        self._bar.close()


class PrintLog(Callback):
    """One line an epoch on standard output: the time, each column, a star at a new best epoch."""

    writes = True

    def on_fit_begin(self, state):
        self._columns = None

    def on_epoch_end(self, state):
        row = state.history.last
        if self._columns is None:
            self._columns = {name: max(10, len(name)) for name in row}
            print("time    ", *(f"{name:>{width}}" for name, width in self._columns.items()))
        cells = [_words(row.get(name, ""), width) for name, width in self._columns.items()]
        is_best = state.history.best(state.monitor, state.mode) is row
        print(f"{datetime.now():%H:%M:%S}", *cells, "*" if is_best else "", flush=True)

    def on_fit_end(self, state):
        best = state.history.best(state.monitor, state.mode)
        reason = state.stop_reason or f"max_epochs={state.epoch} are run"
        print(
            f"stopped: {reason}; best epoch {best['epoch']} "
            f"({state.monitor} {best[state.monitor]:.6g})",
            flush=True,
        )
