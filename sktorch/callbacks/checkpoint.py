"""The state of a fit on disk while it runs, and back."""

import math
import warnings
from pathlib import Path

import torch

from sktorch.callbacks.base import Callback
from sktorch.digest import digest
from sktorch.exceptions import DamagedModelError
from sktorch.files import write_whole
from sktorch.specs import user_level

__all__ = ["Checkpoint", "newest_checkpoint"]


class Checkpoint(Callback):
    """Write the state of a fit to a directory, whole or not at all.

    ``fit(..., resume_from=dirname)`` goes on from the newest file, to the bits that the fit
    would have ended with. Each file is written beside its place, forced to the disk and moved
    there, so that a process that dies leaves the files before.

    Parameters
    ----------
    dirname : str or path-like
        Made if it does not exist. Files are called ``epoch-0007.pt``. A fit that begins anew
        refuses a directory with checkpoints: none are lost, and none are taken for its own.
    every : int, default=1
        Epochs between two files.
    keep_best : int, default=1
        How many of the best epochs by the monitored value to keep beside the latest.

    Notes
    -----
    ``torch.load(path, weights_only=True)`` reads a file. It holds ``net`` (a state dict on the
    CPU), ``loss`` (that of a loss with a state of its own, where there is one), ``epoch``,
    ``history`` (a list of rows), ``progress`` (optimizer, schedule, scale of the gradients, weights
    without average, generators), ``kept`` (best weights), ``callbacks`` (what their
    ``state_dict`` returned), ``seeds``, ``fingerprint`` (checksums of parameters and data), and
    ``sha256``, a checksum of all this. A net's state outside of its parameters, buffers
    and ``get_extra_state`` is not in it, nor is that of callbacks of skorch.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sktorch import TorchClassifier
    >>> from sktorch.callbacks import Checkpoint
    >>> X, y = load_iris(return_X_y=True)
    >>> folder = tempfile.mkdtemp()
    >>> clf = TorchClassifier(max_epochs=3, callbacks=[Checkpoint(folder)]).fit(X, y)
    >>> torch.load(f"{folder}/epoch-0003.pt", weights_only=True)["epoch"]
    3
    >>> clf.set_params(max_epochs=5).fit(X, y, resume_from=folder).n_iter_
    5
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
        folder = Path(self.dirname)
        folder.mkdir(parents=True, exist_ok=True)
        found = numbered_files(folder)
        if found and not state.epoch:
            raise ValueError(
                f"Checkpoint: {str(folder)!r} holds checkpoints of another fit, the newest of "
                f"epoch {max(found)}. Go on with that fit by resume_from={str(folder)!r}, give "
                "this fit a directory of its own, or remove them."
            )
        for left_over in folder.glob(".epoch-*.pt.*"):
            left_over.unlink(missing_ok=True)
        rows = {row["epoch"]: row for row in state.history.rows}
        self._written = {
            path: rows[epoch][state.monitor] for epoch, path in found.items() if epoch in rows
        }

    def on_checkpoint(self, state):
        if state.epoch % self.every:
            return
        path = Path(self.dirname) / f"epoch-{state.epoch:04}.pt"
        content = {**state.snapshot(), **state.origin()}
        content["sha256"] = digest(content)
        write_whole(path, lambda file: torch.save(content, file))
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


def numbered_files(folder):
    """Return the checkpoints in a directory, by their epoch."""
    paths = {path.stem.removeprefix("epoch-"): path for path in Path(folder).glob("epoch-*.pt")}
    return {int(number): path for number, path in paths.items() if number.isdecimal()}


def newest_checkpoint(folder):
    """Return the content of the newest checkpoint in a directory that is whole, or None.

    Raises
    ------
    DamagedModelError
        If there are files, and none is whole.
    """
    damaged = []
    for _, path in sorted(numbered_files(folder).items(), reverse=True):
        try:
            content = _read(path)
        except DamagedModelError as error:
            damaged.append(error)
            continue
        if damaged:
            warnings.warn(
                f"{damaged[0]} Going on from {path.name}.", UserWarning, stacklevel=user_level()
            )
        return content
    if damaged:
        raise DamagedModelError(f"{damaged[0]} No checkpoint beside it is whole either.")
    return None


def _read(path):
    try:
        # What is made in inference mode cannot be trained on.
        with torch.inference_mode(False):
            content = torch.load(path, map_location="cpu", weights_only=True)
        stored = content.pop("sha256")
    except Exception as error:
        raise DamagedModelError(
            f"{str(path)!r} is damaged, or no checkpoint of sktorch ({type(error).__name__})."
        ) from error
    if digest(content) != stored:
        raise DamagedModelError(f"{str(path)!r} is damaged: it does not match its checksum.")
    return content
