"""Records of a fit beside ``history_``."""

import csv
from numbers import Real
from pathlib import Path

from sktorch.callbacks.base import Callback

__all__ = ["CSVLogger", "LearningRateMonitor", "TensorBoardLogger"]


class CSVLogger(Callback):
    """Write the row of each epoch to a file as it is finished.

    Parameters
    ----------
    path : str or path-like
        Overwritten by each fit; one that is resumed begins it with the epochs before. It has the
        columns of the first epoch.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn.datasets import load_iris
    >>> from sktorch import TorchClassifier
    >>> from sktorch.callbacks import CSVLogger
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "fit.csv"
    >>> clf = TorchClassifier(max_epochs=2, callbacks=[CSVLogger(path)])
    >>> _ = clf.fit(*load_iris(return_X_y=True))
    >>> path.read_text().splitlines()[0]
    'epoch,train_loss,lr,epoch_time'
    """

    writes = True

    def __init__(self, path):
        self.path = path

    def on_fit_begin(self, state):
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        Path(self.path).write_text("", encoding="utf-8")
        self._columns = None
        self._earlier = list(state.history.rows)

    def state_dict(self):
        return {"columns": self._columns}

    def load_state_dict(self, state):
        self._columns = state["columns"]
        self._write([self._columns, *map(self._cells, self._earlier)])

    def on_epoch_end(self, state):
        lines = []
        if self._columns is None:
            self._columns = list(state.history.last)
            lines = [self._columns]
        self._write([*lines, self._cells(state.history.last)])

    def _cells(self, row):
        return [row.get(name, "") for name in self._columns]

    def _write(self, lines):
        with Path(self.path).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)


class TensorBoardLogger(Callback):
    """Write losses, metrics and learning rates of each epoch for TensorBoard.

    Parameters
    ----------
    log_dir : str, path-like or None, default=None
        Where to write; None is ``runs/`` and the time, as TensorBoard chooses.
    writer : object, optional
        With ``add_scalar(tag, value, step)`` and ``close()``, in place of torch's
        ``SummaryWriter``, which needs the package ``tensorboard``.
    """

    writes = True

    def __init__(self, log_dir=None, writer=None):
        self.log_dir = log_dir
        self.writer = writer

    def __deepcopy__(self, memo):
        # The writer is where the user wants it all to go, and holds files.
        return type(self)(self.log_dir, self.writer)

    def on_fit_begin(self, state):
        self._writer = self.writer
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    "TensorBoardLogger needs the package tensorboard: pip install tensorboard, "
                    "or pass writer=."
                ) from error
            self._writer = SummaryWriter(self.log_dir)

    def on_epoch_end(self, state):
        for name, value in state.history.last.items():
            if name == "epoch" or not isinstance(value, Real):
                continue
            part, _, rest = name.partition("_")
            tag = f"{rest}/{part}" if part in ("train", "val") else name
            self._writer.add_scalar(tag, value, state.epoch)

    def on_fit_end(self, state):
        self._writer.close()

    def on_fit_abort(self, state):
        self._writer.close()


class LearningRateMonitor(Callback):
    """Add ``lr_min`` and ``lr_max`` to ``history_``: the range over the steps of each epoch.

    The column ``lr`` is that of the epoch's first step; with a schedule that changes it at each
    step this tells the rest.
    """

    def on_epoch_begin(self, state):
        self._rates = []

    def on_batch_begin(self, state, batch):
        if state.net.training:
            self._rates += [group["lr"] for group in state.optimizer.param_groups]

    def on_epoch_end(self, state):
        state.history.last.update(lr_min=min(self._rates), lr_max=max(self._rates))
