"""``TorchRegressor``: values and their scaling."""

from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions

from sktorch.base import TorchEstimator
from sktorch.data.datasets import is_dataset
from sktorch.data.targets import Values
from sktorch.losses import find_loss

__all__ = ["TorchRegressor"]


class TorchRegressor(RegressorMixin, TorchEstimator):
    """A regressor that trains any ``torch.nn.Module``.

    Parameters
    ----------
    net : str, nn.Module, class or callable, default="mlp"
        What to train: "mlp", a module (copied: each fit begins with its weights, which are never
        changed), its class, or a callable that returns one. A class or callable with arguments
        called ``n_features_in`` and ``n_outputs`` gets them from the data; others are set as
        ``net__<argument>``. It maps ``(n_samples, ...)`` to ``(n_samples, n_outputs)`` or, for
        one output, ``(n_samples,)``.
    loss : str, nn.Module, class or callable, default="squared_error"
        Name of a loss (``sktorch.losses.LOSSES``), a module or its class, or a function
        ``(y_pred, y_true) -> loss`` with one number for each sample, or one in all. Its arguments
        are set as ``loss__<argument>``, in units of the scaled target.
    target_scaling : "standard" or None, default="standard"
        Whether the net learns y less its mean, over its standard deviation, for each output.
        Predictions are in the units of y either way. The losses "poisson" and "gamma" get y over
        its mean, "kl_div" and "cosine" y as it is, since they mean nothing otherwise.
    <shared parameters>

    Attributes
    ----------
    <shared attributes>

    See Also
    --------
    TorchClassifier : The same for labels.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sktorch import TorchRegressor
    >>> X, y = make_regression(n_features=5, noise=1.0, random_state=0)
    >>> reg = TorchRegressor(lr=0.01, random_state=0).fit(X, y)
    >>> reg.score(X, y) > 0.9
    True
    """

    _classifies = False
    _parameter_constraints = {
        **TorchEstimator._parameter_constraints,
        "target_scaling": [StrOptions({"standard"}), None],
    }

    def __init__(self, net="mlp", *, loss="squared_error", target_scaling="standard", **parameters):
        self.target_scaling = target_scaling
        super().__init__(net, loss=loss, **parameters)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _learn_target(self, rows):
        return Values.learn(rows.y, rows.weight, self._scaling())

    def _scaling(self):
        return find_loss(self.loss, classification=False).scaling if self.target_scaling else None

    def _knows_target(self):
        return self._scaling() is None

    def _learn_first_target(self, rows, classes):
        return self._learn_target(rows)

    def _class_factors(self, target, rows):
        return None

    def _target_attributes(self, target):
        return {}

    def partial_fit(self, X, y=None, sample_weight=None):
        """Train one more epoch, on these rows only, with the optimizer as the last call left it.

        Early stopping, callbacks and ``verbose`` are of ``fit`` alone. The scaling of the target is
        that of the first call.

        Parameters
        ----------
        X : as for ``fit``
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self : TorchRegressor
        """
        return self._continue(X, y, sample_weight)

    def _predicted(self, outputs):
        return self._target.decode(outputs, self._signature.meaning)

    def score(self, X, y=None, sample_weight=None):
        """Return R2, the share of the variance of y that is predicted.

        Parameters
        ----------
        X : as for ``fit``
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
            None where a Dataset holds it.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        score : float
        """
        if y is None and is_dataset(X):
            return self._held_score(X, sample_weight, r2_score)
        return super().score(X, y, sample_weight)

    def predict(self, X, return_std=False):
        """Return the predicted values, in the units of y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, ...)
        return_std : bool, default=False
            Also return the standard deviation that the net gives; with ``loss="gaussian_nll"``.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
        std : ndarray of the same shape
            Only with ``return_std``.
        """
        outputs = self._outputs(X)
        y = self._predicted(outputs)
        if not return_std:
            return y
        if self._signature.meaning != "mean_and_log_variance":
            raise ValueError(
                "return_std=True needs a net that was fitted to give standard deviations. "
                'Fit with loss="gaussian_nll".'
            )
        return y, self._target.deviation(outputs)
