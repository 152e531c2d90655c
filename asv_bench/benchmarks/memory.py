"""What a fit takes beside its data."""

import numpy as np
from torch import nn

from sktorch import TorchClassifier

WAYS = {
    "all rows": {"early_stopping": False},
    "some held out": {"early_stopping": True},
    "weights": {"early_stopping": False},
}


def make_data(megabytes):
    """Return X of float32 with 64 features, and labels."""
    n_samples = megabytes * 2**20 // (4 * 64)
    X = np.random.default_rng(0).random((n_samples, 64), dtype=np.float32)
    return X, np.arange(n_samples) % 2


def fit(X, y, way, max_epochs=2):
    """Fit a linear model."""
    clf = TorchClassifier(nn.Linear(64, 2), max_epochs=max_epochs, batch_size=4096, **WAYS[way])
    return clf.fit(X, y, np.linspace(1, 2, len(y)) if way == "weights" else None)


class Memory:
    """Peak memory of the process: of the data alone, and with a fit on it."""

    param_names = ("fit",)
    params = (["none", *WAYS],)

    def setup(self, way):
        self.X, self.y = make_data(128)

    def peakmem_fit(self, way):
        if way != "none":
            fit(self.X, self.y, way)


class Epochs:
    """Peak memory, and seconds an epoch, of short and long fits."""

    param_names = ("epochs",)
    params = ([10, 500],)

    def setup(self, epochs):
        rng = np.random.default_rng(0)
        self.X, self.y = rng.normal(size=(150, 64)).astype(np.float32), np.arange(150) % 2
        self.fit(1)

    def fit(self, epochs):
        return TorchClassifier(
            nn.Linear(64, 2), max_epochs=epochs, patience=epochs, min_delta=0.0
        ).fit(self.X, self.y)

    def peakmem_fit(self, epochs):
        self.fit(epochs)

    def track_microseconds_of_last_epochs(self, epochs):
        return float(self.fit(epochs).history_["epoch_time"].tail(10).median() * 1e6)
