"""What a fitted estimator tells: its history, its summary, its outputs and what they are worth."""

from abc import abstractmethod

from sklearn.utils.validation import check_is_fitted

from sktorch.data.checks import check_X, tried_on
from sktorch.data.encoding import encoded
from sktorch.engine.evaluation import measure
from sktorch.engine.inference import outputs
from sktorch.engine.parts import rebuild_objective
from sktorch.metrics import named_metrics
from sktorch.objective import decoder_of
from sktorch.summaries import summarize

__all__ = ["Fitted"]


class Fitted:
    """Mixin of ``TorchEstimator``: what needs a fit, and changes nothing."""

    @property
    def history_(self):
        """One row an epoch, as a DataFrame."""
        check_is_fitted(self)
        return self._history.to_frame()

    def summary(self):
        """Tell what the fitted net is made of, as text and as a table.

        Returns
        -------
        summary : Summary
            Printed, it shows each layer with its output shape and parameters, memory in MB for one
            sample, and each parameter with its ``lr``, ``weight_decay`` and whether it is frozen.
            It has ``total_params``, ``trainable_params`` and ``parameters``, a DataFrame.

        Raises
        ------
        NotFittedError
            Before ``fit``, which tells the shape of a sample.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sktorch import TorchClassifier
        >>> clf = TorchClassifier(max_epochs=1, net__hidden_layer_sizes=(8,))
        >>> clf.fit(*load_iris(return_X_y=True)).summary().total_params
        67
        """
        check_is_fitted(self)
        return summarize(
            self.net_,
            self._signature.sample_shape,
            self._signature.input_dtype,
            self.device_,
            self._parameter_rules,
        )

    # Predicting -------------------------------------------------------------------------------

    def _outputs(self, X):
        """Return what the net gives for X, of shape (n_samples, n_outputs), float64."""
        return self._outputs_and_targets(X)[0]

    def _outputs_and_targets(self, X):
        """Return the same, and the targets that X holds in the same order, or None."""
        check_is_fitted(self)
        dtypes = self._signature.input_dtype
        X = check_X(self, X, reset=False, several=isinstance(dtypes, tuple))
        return outputs(self.net_, X, dtypes, self.device_, decoder_of(self._loss_module))

    def _held_score(self, X, sample_weight, metric):
        """Return the score on a Dataset that holds its targets, in one pass."""
        found, y = self._outputs_and_targets(X)
        if y is None:
            raise ValueError("y is None, and the samples of X hold no target. Pass y.")
        return float(metric(y, self._predicted(found), sample_weight=sample_weight))

    @abstractmethod
    def _predicted(self, outputs):
        """Return what ``predict`` returns for such outputs of the net."""

    def evaluate(self, X, y=None, sample_weight=None):
        """Return the loss and every metric of ``metrics`` on some data.

        Parameters
        ----------
        X : as for ``fit``
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
            None where a Dataset holds it.
        sample_weight : array-like of shape (n_samples,), optional
            Enters the loss; metrics count each sample once.

        Returns
        -------
        values : dict of str to float
            ``loss`` and a value for each metric; those of values are in the units of y.
        """
        check_is_fitted(self)
        self._require_stored("loss", "metrics")
        rows = tried_on(self._check_rows(X, y, sample_weight, reset=False, known=True))
        factors = self._class_factors(self._target, rows)
        rows = encoded(self._target, rows, factors)
        measures = named_metrics(self.metrics, self._target.problem)
        objective = rebuild_objective(self, self._target, self._loss_module)
        return measure(
            self.net_, objective, rows, self._signature, self._target, measures, self.device_
        )
