"""The pipeline of a fit: check, encode, split, build, place, probe, run, publish."""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from operator import length_hint

import numpy as np
import pandas as pd
import torch

from sktorch.callbacks import EarlyStopping, PrintLog, ProgressBar
from sktorch.data.checks import check_rows, tried_on
from sktorch.data.datasets import is_dataset
from sktorch.data.encoding import encoded
from sktorch.data.split import split
from sktorch.engine.build import build
from sktorch.engine.loop import gradients
from sktorch.engine.lr_range import lr_range, suggest
from sktorch.engine.randomness import RandomStream
from sktorch.engine.shortage import explained_shortage
from sktorch.engine.snapshot import restore_snapshot
from sktorch.engine.source import DataSource
from sktorch.fields import leaves
from sktorch.fingerprint import Fingerprint
from sktorch.fitted import Fitted
from sktorch.interop.accelerate import join
from sktorch.interop.foreign import prepare_callbacks
from sktorch.interop.meeting import run
from sktorch.interop.sklearn_callbacks import CallbackSupport, fit_tasks, with_callbacks
from sktorch.metrics import named_metrics
from sktorch.resumption import find_checkpoint, origin_of
from sktorch.seeds import Seeds
from sktorch.settings import FitSettings
from sktorch.specs import about, describe
from sktorch.storing import Storable
from sktorch.summaries import parameter_rules
from sktorch.watch import Watch, plan_watch

__all__ = ["TorchEstimator"]


class TorchEstimator(Fitted, Storable, CallbackSupport, FitSettings):
    """What ``TorchClassifier`` and ``TorchRegressor`` share; they add what their y means."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # What a subclass says of its y ------------------------------------------------------------

    @abstractmethod
    def _learn_target(self, rows):
        """Return the ``Labels`` or ``Values`` that y of ``rows`` holds."""

    @abstractmethod
    def _learn_first_target(self, rows, classes):
        """Return the same for the first of several parts of the data."""

    @abstractmethod
    def _class_factors(self, target, rows):
        """Return a factor for the weight of each class, or None."""

    @abstractmethod
    def _target_attributes(self, target):
        """Return the fitted attributes that tell of y."""

    @abstractmethod
    def _knows_target(self):
        """Return whether nothing need be learned of y before the first epoch."""

    _classifies = None

    # Fitting ----------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X,
        y=None,
        sample_weight=None,
        *,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
        resume_from=None,
    ):
        """Train the net.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict or tuple of them, Dataset or DataLoader
            Finite numbers: arrays, frames, sparse matrices, tensors, memory maps, and what can be
            sliced like one. A net that begins with an embedding gets integers as integers. A dict
            or tuple is for nets with several inputs, by the names or the positions of their
            arguments. The samples of a Dataset, and the batches of a DataLoader, are ``(x, y)``,
            ``(x, y, weight)`` or a dict that names its target ``labels``, ``label``, ``y`` or
            ``target``. What can only be iterated keeps its own order.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
            None where a Dataset holds it.
        sample_weight : array-like of shape (n_samples,), optional
            Not negative. The loss of a batch is ``sum(w * loss) / sum(w)``; a weight of zero is as
            if the row were not there.
        X_val, y_val, sample_weight_val : optional
            Data to validate on, in place of held-out rows, in any form that X and y may have.
        resume_from : str or path-like, optional
            Directory of a ``Checkpoint``: the fit goes on from its newest file and ends, on the
            same machine, with the bits that it would have ended with had it not been cut off.
            Parameters and data must be those of that fit, save ``max_epochs``, ``verbose``,
            ``callbacks`` and ``device``. Where a ``Checkpoint`` in ``callbacks`` has the same
            directory, nothing need be in it yet.

        Returns
        -------
        self : estimator
            On an error or an interrupt it is as it was before.

        Raises
        ------
        ValueError
            Naming the parameter or the data at fault.
        FitDivergedError
            If the loss or the weights stop being finite.
        """
        self._validate_params()
        draft = self._draft()
        rows = draft._check_rows(X, y, sample_weight, reset=True, known=self._knows_target())
        given = draft._check_validation(X_val, y_val, sample_weight_val)
        target = draft._learn_target(rows)
        ranks = join(self)
        seeds = Seeds.draw(self.random_state)
        fingerprint = self._fingerprint(rows, given)
        checkpoint = find_checkpoint(resume_from, self, fingerprint)
        if checkpoint is not None:
            seeds = Seeds(*checkpoint["seeds"])
        seeds = seeds.shared(ranks)
        rows, given = draft._encode(target, rows, given)
        measures = named_metrics(self.metrics, target.problem)
        modes = {name: measure.mode for name, measure in measures.items()}
        n_samples = length_hint(rows.X, 0)
        watch, fraction = plan_watch(self, n_samples, given is not None, modes)
        train, valid = split(rows, given, fraction, target, seeds.split)
        goes_on = self.warm_start and checkpoint is None
        earlier = self._earlier(target) if goes_on else None
        tasks = fit_tasks(self, X, y, sample_weight)
        with gradients():
            running = {
                "estimator": draft,
                "fitted": lambda: self._fitted(draft, state, target, signature, watch),
                "target": target,
                "train": train,
                "valid": valid,
            }
            stopper, callbacks = self._fit_callbacks(watch, running, ranks)
            with explained_shortage(n_samples):
                state, signature = build(
                    self,
                    train,
                    valid,
                    target,
                    seeds,
                    watch,
                    earlier,
                    [*callbacks, *tasks],
                    measures,
                    ranks,
                )
            state.max_epochs = self.max_epochs
            state.origin = partial(origin_of, fingerprint, seeds)
            if checkpoint is not None:
                restore_snapshot(state, checkpoint)
            for task in tasks:
                task.follow(lambda: self._fitted(draft, state, target, signature, watch))
            run(state)
        watch = watch._replace(monitor=stopper.monitor, mode=stopper.direction)
        self._publish(draft, state, target, signature, watch)
        for task in tasks:
            task.finish()
        return self

    def lr_find(self, X, y, sample_weight=None, *, lr_min=1e-6, lr_max=1.0, n_steps=100):
        """Find a learning rate by raising it from step to step (Smith, 2017).

        The estimator stays as it was: set ``lr`` to the suggestion if it suits you.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As for ``fit``.
        lr_min, lr_max : float, default=1e-6 and 1.0
            Ends of the range, covered in equal ratios.
        n_steps : int, default=100

        Returns
        -------
        suggestion : float
            Where the smoothed loss falls steepest before its least value. Where ``lr`` is a dict,
            the others keep their ratio to the largest of its rates, which this is.
        steps : DataFrame of shape (n_steps, 3)
            ``lr``, ``loss`` before the update, ``smoothed``; NaN from where the loss blew up.
        """
        if not 0 < lr_min < lr_max < math.inf or not isinstance(n_steps, Integral) or n_steps < 10:
            raise ValueError(
                "lr_find needs 0 < lr_min < lr_max and a whole n_steps >= 10, got "
                f"lr_min={lr_min}, lr_max={lr_max}, n_steps={n_steps}."
            )
        parameters = self.get_params(deep=False)
        without = {k: v for k, v in parameters.items() if not k.startswith("lr_scheduler__")}
        lr = self.lr if isinstance(self.lr, Mapping) else lr_min
        draft = type(self)(**{**without, "lr": lr, "lr_scheduler": None})
        draft._validate_params()
        rows = draft._check_rows(X, y, sample_weight, reset=True, known=self._knows_target())
        target = draft._learn_target(rows)
        rows, _ = draft._encode(target, rows, None)
        rates = np.geomspace(lr_min, lr_max, n_steps)
        seeds = Seeds.draw(copy.deepcopy(self.random_state))
        with gradients():
            state, _ = build(draft, rows, None, target, seeds, Watch("train_loss"))
            with state.precision.in_use():
                losses = lr_range(state, rates)
        suggestion, smoothed = suggest(rates, losses)
        return suggestion, pd.DataFrame({"lr": rates, "loss": losses, "smoothed": smoothed})

    def _continue(self, X, y, sample_weight, classes=None):
        """Train one more epoch, on these rows, with the optimizer as the last call left it."""
        self._validate_params()
        fitted = hasattr(self, "net_")
        draft = self._draft()
        if fitted:
            vars(draft).update(_input_attributes(self))
        rows = draft._check_rows(X, y, sample_weight, reset=not fitted, known=fitted)
        target = self._target if fitted else self._learn_first_target(rows, classes)
        rows, _ = draft._encode(target, rows, None)
        if fitted:
            self._require_stored("loss")
        earlier = self._trained_modules() if fitted else None
        ranks = join(self)
        seeds = Seeds.draw(self.random_state).shared(ranks)
        watch = Watch("train_loss")
        measures = named_metrics(self.metrics, target.problem)
        with gradients():
            state, signature = build(
                self, rows, None, target, seeds, watch, earlier, (), measures, ranks
            )
            if fitted:
                state.resume(copy.deepcopy(self._progress), self._history.rows)
            run(state)
        self._publish(draft, state, target, signature, watch)
        return self

    def _describe_net(self):
        """Return what tells the net that was given from others, in words that can be stored."""
        net = repr(self.net) if isinstance(self.net, torch.nn.Module) else describe(self.net)
        return f"{net} with {self.arguments('net')}"

    def _fit_callbacks(self, watch, running, ranks):
        """Return what stops the fit, and all callbacks: it, the user's, what ``verbose`` shows.

        The user's are copied; an ``EarlyStopping`` among them takes the place of ours.
        """
        given = self.callbacks or []
        given = prepare_callbacks(given if ranks is None else ranks.those_of(given), running)
        shown = {1: [ProgressBar], 2: [PrintLog]}.get(min(int(self.verbose), 2), [])
        shown = shown if ranks is None else ranks.those_of(shown)
        callbacks = [*given, *(show() for show in shown)]
        explicit = next((c for c in given if isinstance(c, EarlyStopping)), None)
        if explicit is not None:
            return explicit, callbacks
        stopper = EarlyStopping(*watch)
        return stopper, [stopper, *callbacks]

    def _fingerprint(self, rows, given):
        """Return what a checkpoint of this fit is known by."""

        def data():
            held = {**dict(leaves(rows.X.users())), "y": rows.y, "sample_weight": rows.weight}
            if given is not None:
                held |= dict(leaves(given.X.users(), "X_val"))
                held |= {"y_val": given.y, "sample_weight_val": given.weight}
            return held

        return Fingerprint(self.get_params(deep=False), data)

    def _draft(self):
        """Return an unfitted twin: what checks set on it is published only if the fit succeeds."""
        return type(self)(**self.get_params(deep=False))

    def _check_rows(self, X, y, sample_weight, *, reset, known=False):
        signature = getattr(self, "_signature", None)
        # A Dataset may draw random numbers as it is read; they are not to be the process's own.
        stream = RandomStream(0, torch.device("cpu")) if is_dataset(X) else nullcontext()
        with stream:
            return check_rows(
                self,
                X,
                y,
                sample_weight,
                y_numeric=not self._classifies,
                reset=reset,
                several=signature is not None and isinstance(signature.input_dtype, tuple),
                known=known,
            )

    def _check_validation(self, X_val, y_val, sample_weight_val):
        if X_val is None and y_val is None:
            if sample_weight_val is not None:
                raise ValueError("sample_weight_val is given without X_val and y_val. Pass all.")
            return None
        if X_val is None or (y_val is None and not is_dataset(X_val)):
            missing, given = ("X_val", "y_val") if X_val is None else ("y_val", "X_val")
            raise ValueError(f"{given} is given without {missing}. Pass both, or neither.")
        with about("X_val, y_val"):
            return tried_on(self._check_rows(X_val, y_val, sample_weight_val, reset=False))

    def _encode(self, target, rows, given):
        """Return both parts with y as numbers, and weights that class weights are part of."""
        factors = self._class_factors(target, rows)
        rows = encoded(target, rows, factors)
        if given is not None:
            with about("X_val, y_val"):
                given = encoded(target, given, factors)
        return rows, given

    def _earlier(self, target):
        """Return copies of the net and the loss of an earlier fit, for a fit to begin with."""
        if not hasattr(self, "net_"):
            return None
        if not target.continues(self._target):
            raise ValueError(
                "warm_start=True needs the classes or outputs of the fit before. "
                "Set warm_start=False, or fit a clone."
            )
        if self._net_given != self._describe_net():
            raise ValueError(
                "warm_start=True goes on with the net of the fit before, which was given as "
                f"{self._net_given}, not as {self._describe_net()}. Set warm_start=False."
            )
        return self._trained_modules()

    def _trained_modules(self):
        """Return copies of the net and of the loss, which can be trained on wherever this is."""
        with gradients():
            return copy.deepcopy((self.net_, self._loss_module))

    def _fitted(self, draft, state, target, signature, watch):
        """Return the fitted attributes, as of now; before the first epoch those to predict with."""
        fitted = {
            **_input_attributes(draft),
            **self._target_attributes(target),
            "net_": state.net,
            "device_": state.device,
            "_target": target,
            "_signature": signature,
            "_loss_module": state.objective.trained_module(),
        }
        if not state.history.rows:
            return fitted
        best = state.history.best(watch.monitor, watch.mode)
        return {
            **fitted,
            "n_outputs_": signature.width,
            "n_iter_": len(state.history.rows),
            "best_epoch_": best["epoch"],
            "best_score_": best[watch.monitor],
            "_history": state.history,
            "_net_given": self._describe_net(),
            "_progress": state.progress(),
            "data_source_": DataSource(state.train.kind, state.train.reason),
            "_parameter_rules": parameter_rules(state.optimizer),
        }

    def _publish(self, draft, state, target, signature, watch):
        """Replace whatever was fitted before, all at once."""
        fitted = self._fitted(draft, state, target, signature, watch)
        parameters = self.get_params(deep=False)
        kept = {
            name: value
            for name, value in vars(self).items()
            if name in parameters or not (name.endswith("_") or name in fitted)
        }
        self.__dict__ = {**kept, **fitted}


def _input_attributes(estimator):
    names = ("n_features_in_", "feature_names_in_")
    return {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}
