"""What y means: labels or values, how they are encoded for a loss and decoded from a net.

Both classes answer the same three questions: how many outputs a net needs (``n_outputs``),
in which layout a loss gets the targets for the outputs a net has (``layout``), and which
numbers stand for a given y (``encode``).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from sktorch.metrics import Problem

__all__ = ["Labels", "Values"]


@dataclass(frozen=True)
class Labels:
    """Class labels.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted labels; for multilabel data the column numbers.
    kind : {"binary", "multiclass", "multilabel"}
    """

    classes: np.ndarray
    kind: str

    classifies = True

    @classmethod
    def learn(cls, y, classes=None):
        """Read the kind of problem off ``y``, or off ``classes`` where they are given."""
        y = _plain_labels(y if classes is None else np.asarray(classes))
        labels = np.unique(y) if _is_a_column_of_labels(y) else None
        # Few values that come again and again are labels; of the rest scikit-learn judges.
        if labels is None or 2 * len(labels) > len(y):
            check_classification_targets(y)
        if y.ndim == 2 and type_of_target(y) == "multilabel-indicator":
            return cls(np.arange(y.shape[1]), "multilabel")
        if y.ndim == 2:
            raise ValueError(
                f"y of shape {y.shape} is neither one label a sample nor an indicator of zeros and "
                "ones. For several label columns wrap the estimator in MultiOutputClassifier."
            )
        labels = np.unique(y) if labels is None else labels
        if len(labels) < 2:
            raise ValueError(
                f"y must have at least two classes to tell apart, got 1 class: "
                f"{labels.tolist()[0]!r}. Rows of weight zero do not count."
            )
        return cls(labels, "binary" if len(labels) == 2 else "multiclass")

    @property
    def problem(self):
        """What is predicted, for metrics."""
        return Problem(self.kind, len(self.classes))

    @property
    def stratified(self):
        """Whether a split should keep the shares of the encoded targets."""
        return self.kind != "multilabel"

    def n_outputs(self, loss):
        """Outputs to ask of a net that is sized from the data."""
        if loss.meaning == "features":
            return min(64, max(16, len(self.classes)))
        if self.kind == "binary" and "index" not in loss.targets:
            return 1
        return len(self.classes)

    def layout(self, width, loss):
        """Return the layout of the targets for a net of ``width`` outputs, or refuse the net."""
        if loss.meaning == "features" and self.kind != "multilabel":
            return "index"
        indicator = self.kind == "multilabel" or (self.kind == "binary" and width == 1)
        layout = "indicator" if indicator else "index"
        widths = {"binary": (1, 2)}.get(self.kind, (len(self.classes),))
        if width not in widths:
            raise ValueError(
                f"net gives {width} outputs a sample, but y has {len(self.classes)} "
                f"{'labels' if self.kind == 'multilabel' else 'classes'}, which need "
                f"{' or '.join(map(str, widths))}. Change the last layer, or let the net be sized "
                "from the data with an argument n_outputs."
            )
        if layout not in loss.targets:
            other = "a net with one output, or " if width == 2 else "a net with two outputs, or "
            raise ValueError(
                f"loss does not take {self.kind} targets for a net with {width} "
                f"output{'s' if width > 1 else ''} a sample. Use "
                f'{other if self.kind == "binary" else ""}loss="cross_entropy".'
            )
        return layout

    def continues(self, other):
        """Whether a net that was trained on ``other`` can go on with these targets."""
        return self.kind == other.kind and np.array_equal(self.classes, other.classes)

    def encode(self, y):
        """Return class numbers of shape (n_samples,), or indicators (n_samples, n_labels)."""
        y = _plain_labels(y)
        if self.kind == "multilabel":
            if y.ndim != 2 or y.shape[1] != len(self.classes):
                raise ValueError(
                    f"y must be an indicator with {len(self.classes)} columns, got shape {y.shape}."
                )
            return y
        if y.ndim == 2:
            raise ValueError(
                f"y must have one label a sample, as when it was first fitted, got shape {y.shape}."
            )
        if _is_a_column_of_labels(y) and y.dtype == self.classes.dtype:
            numbers = np.searchsorted(self.classes, y)
            if np.array_equal(self.classes.take(numbers, mode="clip"), y):
                return numbers
        found = np.unique(y)
        try:
            known = np.isin(found, self.classes)
        except TypeError:
            known = np.zeros(len(found), dtype=bool)
        if not known.all():
            raise ValueError(
                f"y has labels that are not among the classes: {found[~known].tolist()}. "
                f"Classes: {self.classes.tolist()}."
            )
        return np.searchsorted(self.classes, y)

    def restore(self, y):
        """Return labels, from what a loss gets for them in any layout."""
        y = np.asarray(y).astype(np.int64)
        return y if self.kind == "multilabel" else self.classes[y.reshape(len(y))]


def _is_a_column_of_labels(y):
    """Whether y is a column of integers, bools or strings."""
    return y.ndim == 1 and y.dtype.kind in "biuU"


def _plain_labels(y):
    """Flatten a column, and give an array of objects the dtype of what it holds."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.dtype == object and not all(isinstance(label, str) for label in y.flat):
        n_missing = sum(label is None for label in y.flat)
        if n_missing:
            raise ValueError(f"y has {n_missing} missing labels (None). Leave out their rows.")
        kinds = {isinstance(label, str) for label in y.flat}
        if len(kinds) > 1:
            raise ValueError(
                "y mixes strings with other labels, which have no order. Make them all of one type."
            )
        y = np.array(y.tolist())
    return y


@dataclass(frozen=True)
class Values:
    """Numbers to predict, standardised or as they are.

    Parameters
    ----------
    n_columns : int or None
        Columns of y; None where y has shape (n_samples,).
    mean, scale : ndarray of shape (n_outputs,)
        The net learns ``(y - mean) / scale``.
    """

    n_columns: int | None
    mean: np.ndarray
    scale: np.ndarray

    classifies = False
    stratified = False

    @property
    def problem(self):
        """What is predicted, for metrics."""
        return Problem("regression", self.n_columns or 1)

    @classmethod
    def learn(cls, y, weight, scaling):
        """Learn what the loss is to see of ``y``.

        ``scaling`` is "standard" for y less its mean, over its standard deviation; "mean" for y
        over its mean; None for y as it is.
        """
        columns = y.reshape(len(y), -1)
        n_columns = None if y.ndim == 1 else y.shape[1]
        if scaling is None:
            return cls(n_columns, np.zeros(columns.shape[1]), np.ones(columns.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            scaler = StandardScaler().fit(columns, sample_weight=weight)
        if not (np.isfinite(scaler.mean_).all() and np.isfinite(scaler.scale_).all()):
            raise ValueError(
                f"y has values from {y.min():g} to {y.max():g}, too large to be standardised. "
                "Divide y by a number, or set target_scaling=None."
            )
        if scaling == "mean":
            mean = np.where(scaler.mean_ > 0, scaler.mean_, 1.0)
            return cls(n_columns, np.zeros_like(mean), mean)
        return cls(n_columns, scaler.mean_, scaler.scale_)

    def n_outputs(self, loss):
        """Outputs to ask of a net that is sized from the data."""
        return (self.n_columns or 1) * loss.outputs_per_target

    def layout(self, width, loss):
        """Return the layout of the targets for a net of ``width`` outputs, or refuse the net."""
        wanted = self.n_outputs(loss)
        if width != wanted:
            pairs = (
                ", with a mean and a log variance for each" if loss.outputs_per_target > 1 else ""
            )
            raise ValueError(
                f"net gives {width} outputs a sample, but y has {self.n_columns or 1}{pairs}. "
                "Change the last layer, or let the net be sized from the data with an argument "
                "n_outputs."
            )
        return "values"

    def continues(self, other):
        """Whether a net that was trained on ``other`` can go on with these targets."""
        return self.n_columns == other.n_columns

    def encode(self, y):
        """Return the targets of the loss, of shape (n_samples, n_outputs)."""
        if (None if y.ndim == 1 else y.shape[1]) != self.n_columns:
            wanted = "(n_samples,)" if self.n_columns is None else f"(n_samples, {self.n_columns})"
            raise ValueError(f"y must have shape {wanted}, as before, got {y.shape}.")
        columns = y.reshape(len(y), -1).astype(np.float64, copy=False)
        return (columns - self.mean) / self.scale

    def decode(self, output, meaning):
        """Return predictions in the units of y, in its shape.

        Parameters
        ----------
        output : ndarray of shape (n_samples, n_outputs)
        meaning : str
            As in ``Loss``.
        """
        if meaning in ("log_mean", "log_probabilities"):
            output = np.exp(output)
        if meaning == "mean_and_log_variance":
            output = output[:, : len(self.mean)]
        return self._shaped(output * self.scale + self.mean)

    def restore(self, y):
        """Return y in its units and shape, from what a loss gets for it."""
        return self._shaped(np.asarray(y).reshape(len(y), -1) * self.scale + self.mean)

    def deviation(self, output):
        """Return standard deviations from the second half of ``output``, log variances."""
        return self._shaped(np.exp(0.5 * output[:, len(self.mean) :]) * self.scale)

    def _shaped(self, values):
        return values.ravel() if self.n_columns is None else values
