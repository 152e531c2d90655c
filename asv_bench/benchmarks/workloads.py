"""The same work for every trainer: data, a net, and loops that train it.

Each loop takes ``(workload, epochs, device)`` and returns a function that predicts labels, so that
a benchmark can tell whether a faster loop trained less.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from sktorch import TorchClassifier


@dataclass(frozen=True)
class Workload:
    """A classification problem and the size of the net and the batch for it."""

    n_samples: int
    n_features: int
    hidden: tuple
    n_classes: int
    batch_size: int

    def data(self):
        """Return X of float32 and learnable labels."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(self.n_samples, self.n_features)).astype(np.float32)
        scores = X @ rng.normal(size=(self.n_features, self.n_classes))
        return X, scores.argmax(axis=1)

    def net(self):
        """Return a new net with ReLU between its layers."""
        widths = [self.n_features, *self.hidden]
        layers = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], self.n_classes))

    def steps(self, epochs):
        """Return how many updates so many epochs are."""
        return epochs * -(-self.n_samples // self.batch_size)


WORKLOADS = {
    "20-100-2, batch 64": Workload(10_000, 20, (100,), 2, 64),
    "54-256-256-7, batch 256": Workload(20_000, 54, (256, 256), 7, 256),
}


def raw(work, epochs, device="cpu"):
    """Train as a careful user writes it: resident tensors, a shuffled copy, fused Adam."""
    X, y = work.data()
    X, y = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    net = work.net().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    loss = nn.CrossEntropyLoss()
    for _ in range(epochs):
        order = torch.randperm(len(X)).to(device)
        X_epoch, y_epoch = X[order], y[order]
        for start in range(0, len(X), work.batch_size):
            rows = slice(start, start + work.batch_size)
            optimizer.zero_grad()
            loss(net(X_epoch[rows]), y_epoch[rows]).backward()
            optimizer.step()
    net.eval()
    return lambda X: net(torch.from_numpy(X).to(device)).argmax(1).cpu().numpy()


def sktorch(work, epochs, device="cpu"):
    """Train with TorchClassifier."""
    clf = TorchClassifier(
        work.net(),
        batch_size=work.batch_size,
        max_epochs=epochs,
        early_stopping=False,
        device=device,
    )
    return clf.fit(*work.data()).predict


def skorch(work, epochs, device="cpu"):
    """Train with skorch's NeuralNetClassifier."""
    from skorch import NeuralNetClassifier

    clf = NeuralNetClassifier(
        work.net,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=work.batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=device,
    )
    return clf.fit(*work.data()).predict


LOOPS = {"raw": raw, "sktorch": sktorch, "skorch": skorch}


def require(device):
    """Skip a benchmark on a machine without ``device``."""
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError("no CUDA device")
