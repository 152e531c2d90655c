"""What watching a fit costs: hooks, metrics, bars, held-out rows."""

import contextlib
import io

from sktorch import TorchClassifier
from sktorch.callbacks import Callback

from .workloads import TINY, WORKLOADS


class EveryBatch(Callback):
    """Overrides the hook that is called most, and does nothing in it."""

    def on_batch_end(self, state, batch, loss, y_pred):
        pass


WAYS = {
    "bare": {},
    "a callback without hooks": {"callbacks": [Callback()]},
    "a hook each batch": {"callbacks": [EveryBatch()]},
    "accuracy": {"metrics": "accuracy"},
    "accuracy and AUROC": {"metrics": ["accuracy", "auroc"]},
    "a scorer of scikit-learn": {"metrics": "neg_log_loss"},
    "a bar": {"verbose": 1},
    "early stopping": {"early_stopping": True, "patience": 100},
    "accuracy, early stopping, a bar": {
        "metrics": "accuracy",
        "early_stopping": True,
        "patience": 100,
        "verbose": 1,
    },
}


class Watching:
    """Seconds of five epochs of the tiny net, watched in different ways."""

    param_names = ("watched",)
    params = ([*WAYS],)

    def setup(self, watched):
        self.work = WORKLOADS[TINY]
        self.data = self.work.data()

    def time_five_epochs(self, watched):
        settings = {"early_stopping": False, "batch_size": 64, "max_epochs": 5, **WAYS[watched]}
        with contextlib.redirect_stderr(io.StringIO()):
            TorchClassifier(self.work.net(), **settings).fit(*self.data)
