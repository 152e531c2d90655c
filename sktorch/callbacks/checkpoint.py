"""Weights on disk while a fit runs."""

import math
import os
from pathlib import Path

import torch

from sktorch.callbacks.base import Callback

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Write the state of a fit to a directory, whole or not at all.

    Each file holds ``net`` (a state dict on the CPU), ``loss`` (that of a loss with weights of its
    own, where there is one), ``epoch``, ``history`` (a list of rows) and ``progress`` (optimizer,
    schedule and generators). It is written beside its place and moved there, so that a process
    that dies leaves the file before.

    Parameters
    ----------
    dirname : str or path-like
        Made if it does not exist. Files are called ``epoch-0007.pt``; what is in the directory
        already stays, so give each fit one of its own.
    every : int, default=1
        Epochs between two files.
    keep_best : int, default=1
        How many of the best epochs by the monitored value to keep beside the latest.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sktorch import TorchClassifier
    >>> from sktorch.callbacks import Checkpoint
    >>> folder = tempfile.mkdtemp()
    >>> clf = TorchClassifier(max_epochs=3, callbacks=[Checkpoint(folder)])
    >>> _ = clf.fit(*load_iris(return_X_y=True))
    >>> state = torch.load(f"{folder}/epoch-0003.pt", weights_only=True)
    >>> state["epoch"], sorted(state)
    (3, ['epoch', 'history', 'net', 'progress'])
    """

    writes = True

    def __init__(self, dirname, every=1, keep_best=1):
        self.dirname = dirname
        self.every = every
        self.keep_best = keep_best

    def on_fit_begin(self, state):
        for name in ("every", "keep_best"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < (name == "every"):
                raise ValueError(f"Checkpoint: {name} must be a whole number, got {value!r}.")
        Path(self.dirname).mkdir(parents=True, exist_ok=True)
        self._written = {}

    def on_epoch_end(self, state):
        if state.epoch % self.every:
            return
        path = Path(self.dirname) / f"epoch-{state.epoch:04}.pt"
        content = {
            "net": {name: value.cpu() for name, value in state.net.state_dict().items()},
            "epoch": state.epoch,
            "history": state.history.rows,
            "progress": state.progress(),
        }
        if state.objective.trained_module() is not None:
            content["loss"] = state.objective.module.state_dict()
        write_whole(content, path)
        self._written[path] = state.history.last[state.monitor]
        self._remove_the_rest(path, state.mode)

    def _remove_the_rest(self, latest, mode):
        sign = -1 if mode == "max" else 1

        def rank(path):
            value = self._written[path]
            return (math.isnan(value), sign * value)

        ranked = sorted(self._written, key=rank)
        for path in set(ranked[self.keep_best :]) - {latest}:
            path.unlink(missing_ok=True)
            del self._written[path]


def write_whole(content, path):
    """Save ``content`` so that ``path`` holds all of it or what it held before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
