"""The parameters that both estimators have: their defaults, and what each may be."""

import copy
import functools
import inspect
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
import torch
import torchmetrics
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from sktorch.copying import duplicate
from sktorch.docstrings import SHARED_ATTRIBUTES, SHARED_PARAMETERS
from sktorch.engine.precision import PRECISIONS
from sktorch.parameters import ParametrizedEstimator

__all__ = ["FitSettings"]


class FitSettings(ParametrizedEstimator):
    """The constructor of ``TorchClassifier`` and ``TorchRegressor``, as far as they share it.

    A subclass writes ``<shared parameters>`` and ``<shared attributes>`` in its docstring where
    theirs are to stand.
    """

    _prefixes = ("net", "loss", "optimizer", "lr_scheduler")
    _parameter_constraints = {
        "net": [str, torch.nn.Module, callable],
        "loss": [str, callable],
        "optimizer": [str, type],
        "lr": [Interval(Real, 0, None, closed="left"), Mapping],
        "weight_decay": [Interval(Real, 0, None, closed="left"), Mapping, callable],
        "lr_scheduler": [str, callable, None],
        "l1": [Interval(Real, 0, None, closed="left"), Mapping, callable],
        "l2": [Interval(Real, 0, None, closed="left"), Mapping, callable],
        "grad_clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "grad_accumulation_steps": [Interval(Integral, 1, None, closed="left")],
        "ema_decay": [Interval(Real, 0, 1, closed="neither"), None],
        "precision": [StrOptions({*PRECISIONS}), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [None, Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "monitor": [str],
        "mode": [StrOptions({"auto", "min", "max"})],
        "min_delta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "restore_best": ["boolean"],
        "metrics": [str, torchmetrics.Metric, "array-like", Mapping, None],
        "callbacks": ["array-like", None],
        "verbose": ["verbose"],
        "device": [str, torch.device],
        "data_source": [StrOptions({"auto", "resident", "streamed"})],
        "num_workers": [Interval(Integral, 0, None, closed="left")],
        "accelerator": [StrOptions({"auto"}), HasMethods(["prepare_model", "reduce"]), None],
        "compile": ["boolean", StrOptions({"auto"})],
        "dtype": [StrOptions({"auto", "float16", "bfloat16", "float32", "float64"})],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            text = inspect.cleandoc(cls.__doc__)
            text = text.replace("<shared parameters>", SHARED_PARAMETERS)
            cls.__doc__ = text.replace("<shared attributes>", SHARED_ATTRIBUTES)

    def _validate_params(self):
        """Check the parameters; True and False are no numbers, though Python says they are."""
        values = tuple(getattr(self, name) for name in self._parameter_constraints)
        if all(map(_is_known, values)):
            _check_all_known(type(self), (*map(type, values),), values)
            return
        for name, value in zip(self._parameter_constraints, values, strict=True):
            if _is_known(value):
                _check_known(type(self), name, type(value), value)
            else:
                _check_parameter(type(self), name, value)

    def __sklearn_clone__(self):
        # scikit-learn copies parameters by ``copy.deepcopy``, a module too unless it has a way of
        # its own to be cloned.
        if not isinstance(vars(self).get("net"), torch.nn.Module):
            return super().__sklearn_clone__()
        twin = copy.copy(self)
        twin.net = _ClonedNet(self.net)
        return super(FitSettings, twin).__sklearn_clone__()

    def __init__(
        self,
        net,
        *,
        loss,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        lr_scheduler=None,
        l1=0.0,
        l2=0.0,
        grad_clip_norm=None,
        grad_accumulation_steps=1,
        ema_decay=None,
        max_epochs=200,
        batch_size="auto",
        shuffle=True,
        early_stopping="auto",
        validation_fraction=0.1,
        patience=10,
        monitor="val_loss",
        mode="auto",
        min_delta="auto",
        restore_best=True,
        metrics=None,
        callbacks=None,
        verbose=0,
        device="auto",
        data_source="auto",
        num_workers=0,
        accelerator=None,
        dtype="auto",
        precision=None,
        compile=False,
        warm_start=False,
        random_state=None,
        **parameters,
    ):
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_scheduler = lr_scheduler
        self.l1 = l1
        self.l2 = l2
        self.grad_clip_norm = grad_clip_norm
        self.grad_accumulation_steps = grad_accumulation_steps
        self.ema_decay = ema_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.monitor = monitor
        self.mode = mode
        self.min_delta = min_delta
        self.restore_best = restore_best
        self.metrics = metrics
        self.callbacks = callbacks
        self.verbose = verbose
        self.device = device
        self.data_source = data_source
        self.num_workers = num_workers
        self.accelerator = accelerator
        self.dtype = dtype
        self.precision = precision
        self.compile = compile
        self.warm_start = warm_start
        self.random_state = random_state
        super().__init__(**parameters)


def _check_parameter(cls, name, value):
    """Check a parameter of an estimator of a class."""
    constraints = cls._parameter_constraints
    if isinstance(value, bool | np.bool_) and not {"boolean", "verbose"} & {
        c for c in constraints[name] if isinstance(c, str)
    }:
        raise ValueError(
            f"The {name!r} parameter of {cls.__name__} cannot be {value}, which is "
            "neither a number nor a name."
        )
    validate_parameter_constraints(constraints, {name: value}, caller_name=cls.__name__)


def _is_known(value):
    return isinstance(value, str | int | float | None)


@functools.lru_cache(maxsize=1024)
def _check_known(cls, name, kind, value):
    """Check a value that cannot change, which takes as long as a step, once."""
    _check_parameter(cls, name, value)


@functools.lru_cache(maxsize=256)
def _check_all_known(cls, kinds, values):
    """Do the same for all values of an estimator, which are often those of another."""
    for name, kind, value in zip(cls._parameter_constraints, kinds, values, strict=True):
        _check_known(cls, name, kind, value)


class _ClonedNet:
    """Stands for a net while its estimator is cloned."""

    def __init__(self, net):
        self._net = net

    def __sklearn_clone__(self):
        return duplicate(self._net)
