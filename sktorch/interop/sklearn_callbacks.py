"""scikit-learn's own callbacks (``sklearn.callback``, from 1.9 on), as one of ours.

Each epoch is a task of scikit-learn's task tree, below the task of the fit. The training loop
calls a ``Callback`` like any other and knows nothing of this.
"""

import copy

from sktorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Stands for the mixin of scikit-learn before 1.9, which has no callbacks."""

    def with_callbacks(method):
        """Return ``method`` as it is."""
        return method


__all__ = ["CallbackSupport", "fit_tasks", "with_callbacks"]


class CallbackSupport(CallbackSupportMixin):
    """An estimator that takes scikit-learn's callbacks, where scikit-learn has them."""

    def __copy__(self):
        # scikit-learn makes the estimator that a callback sees by a shallow copy, each epoch. A
        # copy by way of the pickle would go through all weights, and compute their checksum.
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin


def fit_tasks(estimator, X, y, sample_weight=None):
    """Return what tells scikit-learn's callbacks of a fit.

    Parameters
    ----------
    estimator : CallbackSupport
        Its ``fit`` is decorated by ``with_callbacks``, which lets the callbacks clean up.
    X, y, sample_weight : array-like
        As the user gave them; callbacks get the same.

    Returns
    -------
    tasks : list of FitTasks
        One, or none where the estimator has no such callback.
    """
    if not getattr(estimator, "_skl_callbacks", None):
        return []
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return [FitTasks(estimator, {"X": X, "y": y, "metadata": metadata})]


class FitTasks(Callback):
    """Tells scikit-learn's callbacks of each epoch, and hands them the net of that epoch.

    Parameters
    ----------
    estimator : CallbackSupport
    data : dict
        ``X``, ``y`` and ``metadata`` of the fit.
    """

    def __init__(self, estimator, data):
        self._estimator = estimator
        self._data = data

    def follow(self, fitted):
        """Get the fitted attributes of an epoch from ``fitted()``, where a callback asks."""
        self._fitted = fitted

    def on_fit_begin(self, state):
        self._fit = self._estimator._init_callback_context(max_subtasks=state.max_epochs)
        self._fit.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def on_epoch_begin(self, state):
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def on_epoch_end(self, state):
        stop = self._epoch.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=self._snapshot, **self._data
        )
        if stop and not state.stop_reason:
            state.stop_reason = "a callback of scikit-learn asked to stop"

    def finish(self):
        """Tell that the estimator is fitted; a failed fit has no such end, as in scikit-learn."""
        self._fit.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes={}, **self._data
        )

    def _snapshot(self):
        # Copied: training goes on, and a callback may keep what it is given.
        fitted = copy.deepcopy(self._fitted())
        fitted["net_"].eval()
        return fitted
