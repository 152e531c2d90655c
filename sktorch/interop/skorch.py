"""Callbacks of skorch, unmodified, driven by a fit of ours.

skorch calls its callbacks around each batch. Here that is done only where one of them needs it:
most read no more than means over the epoch, and ``EpochScoring`` all predictions at once.
"""

import dis
import warnings
from collections import deque

import numpy as np
import torch
from skorch import callbacks as stock
from skorch.dataset import Dataset
from skorch.exceptions import SkorchException
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sktorch.callbacks import Callback
from sktorch.interop.skorch_net import NOT_COLUMNS, Row, RunningNet
from sktorch.specs import user_level

__all__ = ["adapt"]


def adapt(callbacks, *, estimator, fitted, target, train, valid):
    """Return ``callbacks`` with those of skorch behind one of ours.

    It stands where the first of them stood, so that what they record can be read by later ones.

    Parameters
    ----------
    callbacks : list
        Of ``Callback``, and of skorch's or classes of these. Nobody else's: they are changed.
    estimator : TorchEstimator
        With the parameters of the fit.
    fitted : callable
        Returns the fitted attributes as of now, in a dict.
    target : Labels or Values
    train, valid : Rows
        With y encoded; ``valid`` may be None.

    Returns
    -------
    callbacks : list of Callback
    """
    first = next(i for i, item in enumerate(callbacks) if not isinstance(item, Callback))
    theirs = [item for item in callbacks if not isinstance(item, Callback)]
    driver = SkorchCallbacks(
        [_initialized(item) for item in theirs], estimator, fitted, target, train, valid
    )
    ours = [item for item in callbacks[first:] if isinstance(item, Callback)]
    return [*callbacks[:first], driver, *driver.around_batches(), *ours]


def _dataset(rows, target):
    """Return rows as the Dataset that callbacks of skorch get."""
    if rows.X.carries_y:
        raise ValueError(
            f"callbacks: those of skorch need X and y side by side, and {rows.X.elsewhere}. Pass "
            "arrays or a map-style Dataset, or callbacks of sktorch.callbacks."
        )
    return Dataset(rows.X.users(), target.restore(rows.y))


def _initialized(item):
    callback = item() if isinstance(item, type) else item
    if isinstance(callback, stock.InputShapeSetter):
        raise ValueError(
            "callbacks: InputShapeSetter sets parameters of a net that is built already. Remove "
            "it: an argument n_features_in of a net's class is filled from the data."
        )
    # A clone of LoadInitState has a checkpoint of its own, which is in no list of callbacks.
    for held in vars(callback).values():
        if isinstance(held, stock.Callback):
            held.initialize()
    callback.initialize()
    return callback


# What callbacks need of a batch ---------------------------------------------------------------

_NOTHING, _CALL, _VALUES = "nothing", "call", "values"


def _scheduler_needs(callback):
    if callback.step_every != "batch":
        return _NOTHING
    return _VALUES if issubclass(callback.policy_, ReduceLROnPlateau) else _CALL


def _logger_needs(callback):
    return _VALUES if callback.log_on_batch_end else _NOTHING


# By the ``on_batch_end`` that a callback has; what is not here may read anything.
_NEEDS = {
    stock.Callback.on_batch_end: lambda callback: _NOTHING,
    stock.EpochScoring.on_batch_end: lambda callback: _NOTHING,
    stock.TensorBoard.on_batch_end: lambda callback: _NOTHING,
    stock.LRScheduler.on_batch_end: _scheduler_needs,
    stock.MlflowLogger.on_batch_end: _logger_needs,
    stock.NeptuneLogger.on_batch_end: _logger_needs,
    stock.SacredLogger.on_batch_end: _logger_needs,
}


def _needs(callback):
    return _NEEDS.get(type(callback).on_batch_end, lambda callback: _VALUES)(callback)


def _overriding(callbacks, hook):
    base = getattr(stock.Callback, hook)
    return [callback for callback in callbacks if getattr(type(callback), hook) is not base]


def _collects(callback):
    is_stock = type(callback).on_batch_end is stock.EpochScoring.on_batch_end
    return is_stock and callback.use_caching


# Hooks ----------------------------------------------------------------------------------------


class SkorchCallbacks(Callback):
    """Drives callbacks of skorch, with a stand-in for their ``net``.

    Parameters
    ----------
    callbacks : list of skorch.callbacks.Callback
        Initialized.
    estimator, fitted, target, train, valid
        As in ``adapt``.
    """

    def __init__(self, callbacks, estimator, fitted, target, train, valid):
        # What prints a row comes last, so that the row is complete.
        self.callbacks = sorted(callbacks, key=lambda c: isinstance(c, stock.PrintLog))
        self.unfreezes = any(isinstance(c, stock.ParamMapper) for c in callbacks)
        self.scorers = [c for c in callbacks if _collects(c)]
        self.at_begin = _overriding(callbacks, "on_batch_begin")
        self.at_gradients = _overriding(callbacks, "on_grad_computed")
        self.at_end = [c for c in callbacks if _needs(c) != _NOTHING]
        self.readers = [c for c in callbacks if _needs(c) == _VALUES]
        self._estimator = estimator
        self._fitted = fitted
        self._target = target
        self._train = _dataset(train, target)
        self._valid = None if valid is None else _dataset(valid, target)
        self._begun = deque()

    def around_batches(self):
        """Return the callbacks of ours without which nothing happens around a batch."""
        hooks = {
            BatchBegin: self.at_begin,
            Gradients: self.at_gradients,
            BatchEnd: self.at_begin or self.at_end or self.scorers,
        }
        return [hook(self) for hook, needed in hooks.items() if needed]

    def on_fit_begin(self, state):
        """Run ``on_train_begin``."""
        self._state = state
        self._stopped = False
        self.net = RunningNet(state, self._estimator, self._fitted)
        if self.readers:
            names = ", ".join(dict.fromkeys(type(c).__name__ for c in self.readers))
            warnings.warn(
                f"callbacks: {names} of skorch: values are read off the device after each batch, "
                "which an accelerator waits for. Callbacks that go by epochs spare that, such as "
                "EpochScoring in place of BatchScoring.",
                UserWarning,
                stacklevel=user_level(),
            )
        self._notify("on_train_begin", X=self._train.X, y=self._train.y)
        self._least = {
            name: min((row.get(name, np.inf) for row in self.net.history.to_list()), default=np.inf)
            for name in ("train_loss", "valid_loss")
        }

    def on_epoch_begin(self, state):
        """Run ``on_epoch_begin``."""
        self.net.history.new_epoch()
        self._losses = []
        self._seen = {True: [], False: []}
        self._notify("on_epoch_begin", dataset_train=self._train, dataset_valid=self._valid)

    def on_epoch_end(self, state):
        """Run ``on_epoch_end``, and make columns of what was recorded."""
        columns, row = state.history.last, self.net.history.last
        mirrored = self._mirror(columns, row)
        self._replay()
        self._notify("on_epoch_end", dataset_train=self._train, dataset_valid=self._valid)
        for name, value in row.items():
            is_new = name not in mirrored or name in self.net.history.recorded
            if is_new and name not in columns and name not in ("batches", "valid_loss"):
                columns[name] = value.item() if isinstance(value, np.generic) else value

    def state_dict(self):
        """Return their names: what they know of the fit cannot be had."""
        return {"names": [type(callback).__name__ for callback in self.callbacks]}

    def load_state_dict(self, state):
        """Warn that they begin anew."""
        warnings.warn(
            f"callbacks: {', '.join(state['names'])} of skorch know nothing of the epochs before "
            "the checkpoint, and begin anew. Callbacks of sktorch are resumed.",
            UserWarning,
            stacklevel=user_level(),
        )

    def on_fit_end(self, state):
        """Run ``on_train_end``, also where a callback has stopped the fit."""
        self._stopped = False
        self._notify("on_train_end", X=self._train.X, y=self._train.y)

    def begin_batch(self, batch):
        """Run ``on_batch_begin``."""
        row, rows = Row(), self.net.history.last["batches"]
        rows.append(row)
        self._notify(
            "on_batch_begin",
            self.at_begin,
            batch=(batch.x, self._users_y(batch.y)),
            training=self._state.net.training,
        )
        # Several batches may begin before the first of them ends, where gradients accumulate.
        self._begun.append(rows.pop())

    def end_batch(self, batch, loss, y_pred):
        """Run ``on_batch_end`` where it is needed, and keep what scores are computed of."""
        training = self._state.net.training
        if any(scorer.on_train is training for scorer in self.scorers):
            self._seen[training].append((batch.y, y_pred))
        if not (self.at_begin or self.at_end):
            return
        part = "train" if training else "valid"
        row = self._begun.popleft() if self._begun else Row()
        row[f"{part}_batch_size"] = len(batch.y)
        self.net.history.last["batches"].append(row)
        pair = None
        if self.readers:
            row[f"{part}_loss"] = loss.item()
            pair = (batch.x, self._users_y(batch.y))
        else:
            self._losses.append((row, f"{part}_loss", loss))
        self._notify(
            "on_batch_end", self.at_end, batch=pair, training=training, loss=loss, y_pred=y_pred
        )

    def compute_gradients(self):
        """Run ``on_grad_computed``."""
        named = self.net.get_all_learnable_params()
        self._notify(
            "on_grad_computed", self.at_gradients, named_parameters=named, batch=None, training=True
        )

    def _mirror(self, columns, row):
        """Write the epoch to skorch's history; return the names of what was written."""
        if self._losses:
            rows, names, losses = zip(*self._losses, strict=True)
            for batch_row, name, value in zip(
                rows, names, torch.stack(losses).tolist(), strict=True
            ):
                batch_row[name] = value
        values = {("valid_loss" if k == "val_loss" else k): v for k, v in columns.items()}
        # The number of a row goes by the history that a callback may have put in place.
        values["epoch"] = row["epoch"]
        sources = {"train": (self._state.train, self._train)}
        if self._valid is not None:
            sources["valid"] = (self._state.valid, self._valid)
        for part, (batches, dataset) in sources.items():
            loss = values[f"{part}_loss"]
            values[f"{part}_batch_count"] = len(batches)
            values[f"{part}_loss_best"] = loss < self._least[f"{part}_loss"]
            self._least[f"{part}_loss"] = min(loss, self._least[f"{part}_loss"])
            if not (self.at_begin or self.at_end):
                # The mean over all rows stands for that of each batch, which nobody has read.
                row["batches"].append(
                    Row({f"{part}_loss": loss, f"{part}_batch_size": len(dataset)})
                )
        row.update(values)
        return {*values, *NOT_COLUMNS}

    def _replay(self):
        """Give the scores of the epoch its predictions, read off the device at once."""
        for training, pairs in self._seen.items():
            if not pairs or self._stopped:
                continue
            y, y_pred = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            arguments = {"batch": (None, self._users_y(y)), "y_pred": y_pred.cpu()}
            scorers = [scorer for scorer in self.scorers if scorer.on_train is training]
            self._notify("on_batch_end", scorers, training=training, **arguments)

    def _users_y(self, y):
        """Return targets of the loss as the user's, a tensor wherever they are numbers."""
        y = y.detach().cpu()
        values = self._target.restore((y.double() if y.is_floating_point() else y).numpy())
        return torch.from_numpy(values) if values.dtype.kind in "biuf" else values

    def _notify(self, hook, callbacks=None, **arguments):
        """Run a hook of skorch; a callback that interrupts ends the fit after the epoch."""
        if self._stopped:
            return
        for callback in self.callbacks if callbacks is None else callbacks:
            try:
                getattr(callback, hook)(self.net, **arguments)
            except KeyboardInterrupt as interrupt:
                if not _is_deliberate(interrupt):
                    raise
                self._stopped = True
                name = type(callback).__name__
                self._state.stop_reason = self._state.stop_reason or f"{name} of skorch stopped it"
                return
            except (KeyError, SkorchException, ValueError) as error:
                if isinstance(error, KeyError | SkorchException) or "in history" in str(error):
                    raise self._explained(callback, error) from error
                raise

    def _explained(self, callback, error):
        last = self.net.history.last if self.net.history else {}
        remedy = "Score it by a callback that comes earlier in the list, or correct the name."
        if self._valid is None:
            remedy = (
                "There is no validation data: pass X_val and y_val to fit, set "
                'early_stopping=True, or name a value of training such as "train_loss".'
            )
        return ValueError(
            f"callbacks: {type(callback).__name__} of skorch did not find what it reads "
            f"({error}). Recorded: {', '.join(name for name in last if name != 'batches')}. "
            f"{remedy}"
        )


def _is_deliberate(interrupt):
    """Tell ``raise KeyboardInterrupt`` in some code from Ctrl-C while it ran."""
    innermost = interrupt.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    instruction = innermost.tb_frame.f_code.co_code[innermost.tb_lasti]
    return dis.opname[instruction] == "RAISE_VARARGS"


class _Around(Callback):
    def __init__(self, driver):
        self._driver = driver


class BatchBegin(_Around):
    """Tells ``driver``, a ``SkorchCallbacks``, of each batch before it."""

    def on_batch_begin(self, state, batch):
        """Run before each batch."""
        self._driver.begin_batch(batch)


class BatchEnd(_Around):
    """Tells ``driver`` of each batch after it."""

    def on_batch_end(self, state, batch, loss, y_pred):
        """Run after each batch."""
        self._driver.end_batch(batch, loss, y_pred)


class Gradients(_Around):
    """Tells ``driver`` of the gradients before each update."""

    def on_gradients(self, state):
        """Run before each update."""
        self._driver.compute_gradients()
