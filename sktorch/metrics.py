"""Metrics beside the loss: by name, as objects of torchmetrics, or as scorers of scikit-learn.

``METRICS`` is the registry: what each name means for each kind of problem, and whether more of it
is better.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torchmetrics
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names
from torchmetrics import classification, regression

from sktorch.specs import describe

__all__ = ["METRICS", "Measure", "Problem", "ScorerMetric", "named_metrics"]


class Problem(NamedTuple):
    """What is predicted.

    Parameters
    ----------
    kind : {"binary", "multiclass", "multilabel", "regression"}
    n_outputs : int
        Classes, labels or values.
    """

    kind: str
    n_outputs: int


@dataclass(frozen=True)
class Measure:
    """A metric and what is known of it.

    Parameters
    ----------
    metric : torchmetrics.Metric, or an object with its ``update``, ``compute`` and ``reset``
    mode : {"min", "max"} or None
        Whether less or more is better; None where the metric does not say.
    columns : bool, default=False
        Whether it takes one probability for each class also of two; otherwise that of the second.
    """

    metric: object
    mode: str | None
    columns: bool = False


def _classifier(name, average=None, of_second=True):
    """Return a builder of the metric ``name`` of torchmetrics for each kind of classification.

    ``of_second`` is for a metric of the second of two classes; otherwise both are averaged.
    """

    def build(problem):
        averaged = {} if average is None else {"average": average}
        if problem.kind == "binary" and of_second:
            return getattr(classification, f"Binary{name}")(validate_args=False)
        if problem.kind in ("binary", "multiclass"):
            kind = getattr(classification, f"Multiclass{name}")
            return kind(num_classes=problem.n_outputs, validate_args=False, **averaged)
        kind = getattr(classification, f"Multilabel{name}", None)
        if kind is None:
            raise ValueError(f"metrics: {name} is not defined for multilabel data.")
        return kind(num_labels=problem.n_outputs, validate_args=False, **averaged)

    return build


def _auroc(problem):
    return _UndefinedForOneClass(_classifier("AUROC", "macro")(problem), problem)


def _accuracy(problem):
    if problem.kind == "multilabel":
        # All labels of a sample right, as in ``score``.
        return classification.MultilabelExactMatch(problem.n_outputs, validate_args=False)
    return _classifier("Accuracy", "micro")(problem)


def _balanced_accuracy(problem):
    if problem.kind == "multilabel":
        raise ValueError("metrics: balanced_accuracy is not defined for multilabel data.")
    n_classes = max(2, problem.n_outputs)
    return classification.MulticlassRecall(n_classes, average="macro", validate_args=False)


def _regressor(kind, **settings):
    return lambda problem: kind(**settings)


class _Gathered(torchmetrics.Metric):
    """A metric of all predictions at once, for what sums over batches give too few digits of.

    Parameters
    ----------
    value : callable
        ``(preds, target) -> (n_outputs,)`` of float64 tensors of shape (n_samples, n_outputs).
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, value):
        super().__init__()
        self.value = value
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, preds, target):
        """Take in predictions."""
        self.preds.append(preds)
        self.target.append(target)

    def compute(self):
        """Return the mean over outputs."""
        preds, target = (torch.cat(list(parts)) for parts in (self.preds, self.target))
        columns = (part.reshape(len(part), -1) for part in (preds, target))
        return self.value(*columns).mean()


class _GatheredError(_Gathered):
    higher_is_better = False


def _share(rest, whole):
    """Return ``1 - rest / whole`` as scikit-learn does where the whole is zero."""
    perfect = (rest == 0).to(rest.dtype)
    return torch.where(whole > 0, 1 - rest / whole, perfect)


def _r2(preds, target):
    if len(target) < 2:
        return torch.full_like(target[0], torch.nan)
    return _share(((target - preds) ** 2).sum(0), ((target - target.mean(0)) ** 2).sum(0))


def _explained_variance(preds, target):
    rest = target - preds
    return _share(((rest - rest.mean(0)) ** 2).mean(0), ((target - target.mean(0)) ** 2).mean(0))


def _root_mean_squared_error(preds, target):
    return ((target - preds) ** 2).mean(0).sqrt()


def _pearson(preds, target):
    a, b = preds - preds.mean(0), target - target.mean(0)
    return (a * b).sum(0) / ((a**2).sum(0) * (b**2).sum(0)).sqrt()


def _gathered(value, kind=_Gathered):
    return lambda problem: kind(value)


class _UndefinedForOneClass(torchmetrics.Metric):
    """AUROC that is NaN, as in scikit-learn, where a class is missing among the targets."""

    higher_is_better = True
    full_state_update = False

    def __init__(self, metric, problem):
        super().__init__()
        self.metric = metric
        self.problem = problem
        self.add_state("counts", torch.zeros(max(2, problem.n_outputs), 2), "sum")

    def update(self, preds, target):
        """Take in predictions."""
        self.metric.update(preds, target)
        if self.problem.kind == "multilabel":
            seen = torch.stack([(target == 0).sum(0), target.sum(0)], dim=1)
            self.counts[: len(seen)] += seen
        else:
            self.counts[:, 1] += torch.bincount(target, minlength=len(self.counts))
            self.counts[:, 0] += 1

    def compute(self):
        """Return the area, or NaN."""
        n_rows = self.problem.n_outputs
        if (self.counts[:n_rows] == 0).any():
            return torch.full((), torch.nan)
        return self.metric.compute()

    def reset(self):
        """Begin anew."""
        super().reset()
        self.metric.reset()


class _Entry(NamedTuple):
    build: object
    mode: str
    regression: bool = False
    columns: bool = False


_HARMONIC = {"f1": "F1Score", "precision": "Precision", "recall": "Recall"}

METRICS = {
    "accuracy": _Entry(_accuracy, "max"),
    "balanced_accuracy": _Entry(_balanced_accuracy, "max", columns=True),
    "auroc": _Entry(_auroc, "max"),
    "average_precision": _Entry(_classifier("AveragePrecision", "macro"), "max"),
    **{name: _Entry(_classifier(kind, "macro"), "max") for name, kind in _HARMONIC.items()},
    **{
        f"{name}_{average}": _Entry(
            _classifier(kind, average, of_second=False), "max", columns=True
        )
        for name, kind in _HARMONIC.items()
        for average in ("macro", "micro", "weighted")
    },
    "matthews_corrcoef": _Entry(_classifier("MatthewsCorrCoef"), "max"),
    "cohen_kappa": _Entry(_classifier("CohenKappa"), "max"),
    "r2": _Entry(_gathered(_r2), "max", regression=True),
    "explained_variance": _Entry(_gathered(_explained_variance), "max", regression=True),
    "mean_squared_error": _Entry(_regressor(regression.MeanSquaredError), "min", regression=True),
    "root_mean_squared_error": _Entry(
        _gathered(_root_mean_squared_error, _GatheredError), "min", regression=True
    ),
    "mean_absolute_error": _Entry(_regressor(regression.MeanAbsoluteError), "min", regression=True),
    "mean_absolute_percentage_error": _Entry(
        _regressor(regression.MeanAbsolutePercentageError), "min", regression=True
    ),
    "pearson_corrcoef": _Entry(_gathered(_pearson), "max", regression=True),
}


class ScorerMetric:
    """A scorer of scikit-learn as a metric: predictions leave the device, and are scored there.

    Parameters
    ----------
    name : str
        As in ``sklearn.metrics.get_scorer_names()``; more is always better.
    problem : Problem
    """

    def __init__(self, name, problem):
        self.scorer = get_scorer(name)
        self.problem = problem
        self.distributed_available_fn = lambda: False
        self.parts = []

    def update(self, preds, target):
        """Take in predictions, as ``predict_proba`` or ``predict`` of the estimator gives them."""
        self.parts.append((preds.cpu().numpy(), target.cpu().numpy()))

    def compute(self):
        """Return the score of all predictions taken in."""
        parts = self.parts
        if self.distributed_available_fn():
            everyones = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(everyones, parts)
            parts = [part for theirs in everyones for part in theirs]
        preds, target = (np.concatenate(part) for part in zip(*parts, strict=True))
        stub = {"regression": _Regression, "multilabel": _Labels}.get(
            self.problem.kind, _Classification
        )
        return torch.tensor(float(self.scorer(stub(preds), preds, target)), dtype=torch.float64)

    def reset(self):
        """Begin anew."""
        self.parts = []

    def to(self, device):
        """Stay on the CPU."""
        return self


class _Stub(BaseEstimator):
    """Stands for a fitted estimator whose predictions are known."""

    def __init__(self, outputs):
        self.outputs = outputs

    def __sklearn_is_fitted__(self):
        return True


class _Regression(RegressorMixin, _Stub):
    def predict(self, X):
        return self.outputs


class _Classification(ClassifierMixin, _Stub):
    @property
    def classes_(self):
        return np.arange(self.outputs.shape[1])

    def predict_proba(self, X):
        return self.outputs

    def predict(self, X):
        return self.outputs.argmax(axis=1)


class _Labels(_Classification):
    def predict(self, X):
        return (self.outputs > 0.5).astype(int)


def named_metrics(metrics, problem):
    """Return what a user gave as ``metrics``, by the names it has in ``history_``.

    Parameters
    ----------
    metrics : str, Metric, list of them, dict of them by name, or None
    problem : Problem

    Returns
    -------
    measures : dict of str to Measure
        With metrics of their own, nothing of the user's.
    """
    if metrics is None:
        return {}
    if isinstance(metrics, str | torchmetrics.Metric):
        metrics = [metrics]
    if isinstance(metrics, torchmetrics.MetricCollection):
        metrics = dict(metrics.items())
    if not isinstance(metrics, Mapping):
        pairs = [(_name(metric), metric) for metric in metrics]
        metrics = dict(pairs)
        if len(metrics) < len(pairs):
            raise ValueError(
                f"metrics has two of one name: {', '.join(name for name, _ in pairs)}. Pass a dict "
                "with a name for each."
            )
    if "loss" in metrics:
        raise ValueError('metrics: the name "loss" is taken. Pass a dict with another name.')
    return {name: _measure(metric, problem) for name, metric in metrics.items()}


def _name(metric):
    if isinstance(metric, str):
        return metric
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(metric).__name__)
    return words.lower()


def _measure(metric, problem):
    if isinstance(metric, torchmetrics.Metric):
        better = metric.higher_is_better
        mode = None if better is None else "max" if better else "min"
        columns = type(metric).__name__.startswith("Multiclass")
        return Measure(copy.deepcopy(metric), mode, columns)
    regression = problem.kind == "regression"
    entry = METRICS.get(metric) if isinstance(metric, str) else None
    if entry is not None and entry.regression == regression:
        return Measure(entry.build(problem), entry.mode, entry.columns)
    if entry is None and isinstance(metric, str) and metric in get_scorer_names():
        return Measure(ScorerMetric(metric, problem), "max", columns=True)
    names = [name for name, entry in METRICS.items() if entry.regression == regression]
    raise ValueError(
        f"metrics: {describe(metric)} is not known for {problem.kind} data. Known names: "
        f"{', '.join(names)}, and the scorers of scikit-learn; or pass an object of torchmetrics."
    )
