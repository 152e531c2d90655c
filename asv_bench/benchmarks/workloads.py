"""The same work for every trainer: data, a net, and the loops that train it.

Each loop takes ``(workload, epochs, device)`` and returns a function that predicts labels or
values, so that a benchmark can tell whether a faster loop trained less.
"""

import functools
import importlib.util
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sktorch import TorchClassifier, TorchRegressor


@dataclass(frozen=True)
class Workload:
    """A problem, and the size of the net and the batch for it.

    ``shape`` is that of one sample; ``n_classes`` is None where values are to be predicted. Images
    are scikit-learn's digits, and get the convolutional net, for which ``hidden`` is empty.
    """

    n_samples: int
    shape: tuple
    hidden: tuple
    n_classes: int | None
    batch_size: int

    @property
    def n_outputs(self):
        return self.n_classes or 1

    @property
    def has_images(self):
        return len(self.shape) == 3

    @functools.cache  # noqa: B019
    def data(self):
        """Return X of float32, and labels of int64 or values of float32 that can be learned."""
        if self.has_images:
            X, y = load_digits(return_X_y=True)
            X = X.reshape(-1, *self.shape).astype(np.float32) / 16
            return X[: self.n_samples], y[: self.n_samples]
        rng = np.random.default_rng(0)
        X = rng.normal(size=(self.n_samples, *self.shape)).astype(np.float32)
        scores = X @ rng.normal(size=(*self.shape, self.n_outputs))
        if self.n_classes:
            return X, scores.argmax(axis=1)
        y = np.sin(scores[:, 0] / scores.std())
        return X, ((y - y.mean()) / y.std()).astype(np.float32)

    def tensors(self):
        """Return the data as a loop written by hand takes it."""
        X, y = self.data()
        y = torch.from_numpy(y)
        return torch.from_numpy(X), y if self.n_classes else y.reshape(-1, 1)

    def net(self):
        """Return a new net."""
        if self.has_images:
            return convolutional(self.n_outputs)
        widths = [*self.shape, *self.hidden]
        layers = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], self.n_outputs))

    def loss(self):
        """Return a new loss as a module of torch."""
        return nn.CrossEntropyLoss() if self.n_classes else nn.MSELoss()

    def steps(self, epochs):
        """Return how many updates so many epochs are."""
        return epochs * -(-self.n_samples // self.batch_size)

    def start(self):
        """Return the same with a few samples, to import and build what a loop needs once."""
        return replace(self, n_samples=2 * self.batch_size)

    def quality(self, predict):
        """Return the accuracy, or R2, of what ``predict`` gives for the training data."""
        X, y = self.data()
        if self.n_classes:
            return float((predict(X) == y).mean())
        return float(1 - ((predict(X).ravel() - y) ** 2).mean() / y.var())


def convolutional(n_outputs):
    """Return two convolutions for images of one channel, with a head of 64-32."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2)),
        *(nn.Dropout2d(0.1), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        *(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, n_outputs)),
    )


TINY = "20-100-2, batch 64"
WORKLOADS = {
    TINY: Workload(10_000, (20,), (100,), 2, 64),
    "54-256-256-7, batch 256": Workload(10_000, (54,), (256, 256), 7, 256),
    "regression 10-32-1, batch 64": Workload(5_000, (10,), (32,), None, 64),
    "CNN, 8x8 digits, batch 128": Workload(1_797, (1, 8, 8), (), 10, 128),
}


def predictor(work, net, device="cpu"):
    """Return a function that predicts labels or values by a net of torch."""

    @torch.inference_mode()
    def predict(X):
        net.eval()
        outputs = net(torch.from_numpy(X).to(device)).cpu()
        return (outputs.argmax(1) if work.n_classes else outputs).numpy()

    return predict


def raw(work, epochs, device="cpu"):
    """Train as a careful user writes it: resident tensors, a shuffled copy, fused Adam."""
    X, y = (part.to(device) for part in work.tensors())
    net, loss = work.net().to(device), work.loss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        order = torch.randperm(len(X)).to(device)
        X_epoch, y_epoch = X[order], y[order]
        for start in range(0, len(X), work.batch_size):
            rows = slice(start, start + work.batch_size)
            optimizer.zero_grad()
            loss(net(X_epoch[rows]), y_epoch[rows]).backward()
            optimizer.step()
    return predictor(work, net, device)


def sktorch(work, epochs, device="cpu", **settings):
    """Train with the estimator."""
    kind = TorchClassifier if work.n_classes else TorchRegressor
    est = kind(
        work.net(),
        batch_size=work.batch_size,
        max_epochs=epochs,
        early_stopping=False,
        device=device,
        **settings,
    )
    return est.fit(*work.data()).predict


def compiled(work, epochs, device="cpu"):
    """Train with the estimator and a compiled step, or skip where it cannot be compiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return sktorch(work, epochs, device, compile=True)
        except UserWarning as reason:
            raise NotImplementedError(str(reason)) from None


LOOPS = {"raw": raw, "sktorch": sktorch, "sktorch, compiled": compiled}


def require_device(device):
    """Skip a benchmark on a machine without ``device``."""
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError("no CUDA device")


def require_package(package):
    """Skip a benchmark where a package is not installed."""
    if package is not None and importlib.util.find_spec(package) is None:
        raise NotImplementedError(f"{package} is not installed")
