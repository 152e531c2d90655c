"""What ``verbose`` shows while a fit runs."""

import time
from datetime import datetime

from tqdm.auto import tqdm

from sktorch.callbacks.base import Callback

__all__ = ["PrintLog", "ProgressBar"]

# Epochs that take longer than this get a bar of their own.
_LONG_EPOCH_SECONDS = 3.0

_NOT_SHOWN = ("epoch", "lr", "epoch_time")


class ProgressBar(Callback):
    """One bar over epochs on standard error, and one over the steps of an epoch that takes long.

    It shows the losses and metrics of the last epoch, and its best epoch.
    """

    def on_fit_begin(self, state):
        self._epochs = tqdm(total=state.max_epochs, desc="epochs", unit="epoch")
        self._steps = None

    def on_epoch_begin(self, state):
        self._started = time.perf_counter()
        self._n_batches = 0

    def on_batch_end(self, state, batch, loss, y_pred):
        if not state.net.training:
            return
        self._n_batches += 1
        if self._steps is not None:
            self._steps.update()
        elif time.perf_counter() - self._started > _LONG_EPOCH_SECONDS:
            self._steps = tqdm(
                total=len(state.train),
                initial=self._n_batches,
                desc=f"epoch {state.epoch}",
                unit="step",
                leave=False,
            )

    def on_epoch_end(self, state):
        self._close_steps()
        row = state.history.last
        shown = {name: f"{value:.4g}" for name, value in row.items() if name not in _NOT_SHOWN}
        best = state.history.best(state.monitor, state.mode)["epoch"]
        self._epochs.set_postfix(shown | {"best": best}, refresh=False)
        self._epochs.update()

    def on_fit_end(self, state):
        self._close_steps()
        self._epochs.close()

    def _close_steps(self):
        if self._steps is not None:
            self._steps.close()
            self._steps = None


class PrintLog(Callback):
    """One line an epoch on standard output: the time, each column, a star at a new best epoch."""

    def on_fit_begin(self, state):
        self._columns = None

    def on_epoch_end(self, state):
        row = state.history.last
        if self._columns is None:
            self._columns = {name: max(10, len(name)) for name in row}
            print("time    ", *(f"{name:>{width}}" for name, width in self._columns.items()))
        cells = [
            f"{row[name]:>{width}}" if name == "epoch" else f"{row[name]:>{width}.4g}"
            for name, width in self._columns.items()
        ]
        is_best = state.history.best(state.monitor, state.mode) is row
        print(f"{datetime.now():%H:%M:%S}", *cells, "*" if is_best else "", flush=True)

    def on_fit_end(self, state):
        best = state.history.best(state.monitor, state.mode)
        reason = state.stop_reason or f"max_epochs={state.max_epochs} are run"
        print(
            f"stopped: {reason}; best epoch {best['epoch']} "
            f"({state.monitor} {best[state.monitor]:.6g})",
            flush=True,
        )
