"""``TorchClassifier``: labels and probabilities."""

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if

from sktorch.base import TorchEstimator
from sktorch.data.datasets import is_dataset
from sktorch.data.targets import Labels
from sktorch.losses import find_loss
from sktorch.specs import about

__all__ = ["TorchClassifier"]


def _gives_probabilities(classifier):
    """Tell whether the loss has probabilities behind it; margins have none."""
    if hasattr(classifier, "_signature"):
        meaning = classifier._signature.meaning
    else:
        try:
            meaning = find_loss(classifier.loss, classification=True).meaning
        except ValueError:
            return True  # fit will say what is wrong with it
    if meaning == "margins":
        raise AttributeError(
            "the loss gives margins, not probabilities. Use decision_function, or "
            "wrap the estimator in sklearn.calibration.CalibratedClassifierCV."
        )
    return True


class TorchClassifier(ClassifierMixin, TorchEstimator):
    """A classifier that trains any ``torch.nn.Module``.

    Parameters
    ----------
    net : str, nn.Module, class or callable, default="mlp"
        What to train: "mlp", a module (copied: each fit begins with its weights, which are never
        changed), its class, or a callable that returns one. A class or callable with arguments
        called ``n_features_in`` and ``n_outputs`` gets them from the data; others are set as
        ``net__<argument>``. It maps ``(n_samples, ...)`` to ``(n_samples, n_classes)``, or to
        one output for two classes.
    loss : str, nn.Module, class or callable, default="cross_entropy"
        Name of a loss (``sktorch.losses.LOSSES``), a module or its class, or a function
        ``(y_pred, y_true) -> loss`` with one number for each sample, or one in all. Its arguments
        are set as ``loss__<argument>``.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the loss, times that of the sample, in training and validation.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels. By default they are those that y has; a Dataset is gone through once for them.
    <shared parameters>

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in ascending order; the column numbers for multilabel data.
    <shared attributes>

    See Also
    --------
    TorchRegressor : The same for values.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktorch import TorchClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = TorchClassifier(lr=0.01, random_state=0).fit(X, y)
    >>> clf.score(X, y) > 0.9
    True
    """

    _classifies = True
    _parameter_constraints = {
        **TorchEstimator._parameter_constraints,
        "class_weight": [dict, str, None],
        "classes": ["array-like", None],
    }

    def __init__(
        self, net="mlp", *, loss="cross_entropy", class_weight=None, classes=None, **parameters
    ):
        self.class_weight = class_weight
        self.classes = classes
        super().__init__(net, loss=loss, **parameters)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _learn_target(self, rows):
        return Labels.learn(rows.y, self.classes)

    def _knows_target(self):
        balanced = isinstance(self.class_weight, str)
        return self.classes is not None and not balanced and self.loss != "adaptive_log_softmax"

    def _class_factors(self, target, rows):
        if self.class_weight is None:
            return None
        if target.kind == "multilabel":
            raise ValueError(
                "class_weight is for data with one label a sample, and y is a multilabel "
                "indicator. Set class_weight=None and pass sample_weight."
            )
        if isinstance(self.class_weight, str) and self.class_weight != "balanced":
            raise ValueError(
                f'class_weight must be "balanced", a dict or None, got {self.class_weight!r}.'
            )
        with about("class_weight"):
            factors = compute_class_weight(
                self.class_weight,
                classes=target.classes,
                # Where only some of y is known, the weights were given, and go by class.
                y=target.classes if rows.X.carries_y and self._knows_target() else rows.y,
                sample_weight=rows.weight,
            )
        if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
            raise ValueError(
                "class_weight must hold finite numbers, none negative and not all zero, got "
                f"{self.class_weight}."
            )
        return factors

    def _target_attributes(self, target):
        return {"classes_": target.classes}

    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        """Train one more epoch, on these rows only, with the optimizer as the last call left it.

        Early stopping, callbacks and ``verbose`` are of ``fit`` alone.

        Parameters
        ----------
        X : as for ``fit``
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come. Needed by the first call for data with one label a
            sample.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self : TorchClassifier
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" needs all rows at once, and partial_fit gets a part. '
                "Pass the weights as a dict: sklearn.utils.class_weight.compute_class_weight."
            )
        if classes is not None and hasattr(self, "net_"):
            self._check_same_classes(np.asarray(classes))
        return self._continue(X, y, sample_weight, classes)

    def _check_same_classes(self, classes):
        if not Labels.learn(classes).continues(self._target):
            raise ValueError(
                f"classes={classes.tolist()} are not those of the first call, "
                f"{self.classes_.tolist()}. Pass all labels on the first call, or fit a clone."
            )

    def _learn_first_target(self, rows, classes):
        if rows.y.ndim == 2 and rows.y.shape[1] > 1:
            return Labels.learn(rows.y)
        if classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: later rows may have "
                "labels that these have not."
            )
        return Labels.learn(np.asarray(classes))

    def decision_function(self, X):
        """Return a score for each class; more is likelier.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, ...)

        Returns
        -------
        scores : ndarray of shape (n_samples,), (n_samples, n_classes) or (n_samples, n_labels)
            For two classes the log odds of ``classes_[1]``; else logits or log probabilities.
        """
        return self._scores(self._outputs(X))

    def _scores(self, scores):
        if self._signature.meaning == "probabilities":
            # Kept off 0 and 1, whose log odds are infinite.
            tiny = np.finfo(np.float64).eps
            scores = np.clip(scores, tiny, 1 - tiny)
            scores = logit(scores) if self._signature.layout == "indicator" else np.log(scores)
        if self._target.kind != "binary":
            return scores
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores[:, 0]

    def predict(self, X):
        """Return the likeliest label of each sample.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, ...)

        Returns
        -------
        y : ndarray of shape (n_samples,), or an indicator of shape (n_samples, n_labels)
        """
        return self._predicted(self._outputs(X))

    def _predicted(self, outputs):
        scores = self._scores(outputs)
        if self._target.kind == "multilabel":
            return (scores > 0).astype(int)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[chosen]

    def score(self, X, y=None, sample_weight=None):
        """Return the accuracy on some data.

        Parameters
        ----------
        X : as for ``fit``
        y : array-like of shape (n_samples,) or (n_samples, n_labels), optional
            None where a Dataset holds it.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        score : float
        """
        if y is None and is_dataset(X):
            return self._held_score(X, sample_weight, accuracy_score)
        if sample_weight is None and self._is_of_classes(y):
            y_pred = self.predict(X)
            if isinstance(y_pred, np.ndarray) and y_pred.shape == y.shape:
                # What accuracy_score makes of these, without all its looks at what they might be.
                return float(np.mean(y_pred == y))
        return super().score(X, y, sample_weight)

    def _is_of_classes(self, y):
        """Whether y is an array of labels, one a sample, of the kind of ``classes_``."""
        is_plain = type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biuU"
        classes = getattr(self, "classes_", None)
        return is_plain and type(classes) is np.ndarray and classes.dtype.kind == y.dtype.kind

    @available_if(_gives_probabilities)
    def predict_proba(self, X):
        """Return the probability of each class, or of each label in multilabel data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, ...)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
        """
        scores = self.decision_function(X)
        if self._target.kind == "multilabel":
            return expit(scores)
        return np.exp(self._log_probabilities(scores))

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X):
        """Return the logarithm of ``predict_proba``, without its underflow.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, ...)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
        """
        scores = self.decision_function(X)
        if self._target.kind == "multilabel":
            return log_expit(scores)
        return self._log_probabilities(scores)

    def _log_probabilities(self, scores):
        # A softmax of log probabilities is the probabilities: no meaning of the net needs a case.
        if scores.ndim == 1:
            return np.column_stack([log_expit(-scores), log_expit(scores)])
        return log_softmax(scores, axis=1)
