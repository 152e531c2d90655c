"""Three pictures: training curves, feature maps, and a search over the learning rate.

Run with ``python examples/curves.py [folder]``; it takes some seconds on two cores.
"""

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktorch import TorchClassifier
from sktorch.display import FeatureMapDisplay, HistoryDisplay, SearchDisplay


class CNN(nn.Module):
    """Images of shape (n, 1, 8, 8) to one logit for each of ``n_outputs`` classes."""

    def __init__(self, n_outputs, channels=8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, kernel_size=3)
        self.head = nn.Linear(2 * channels * 9, n_outputs)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.head(x.flatten(1))


def main():
    """Draw the pictures and print where they are."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="curves-"))
    folder.mkdir(parents=True, exist_ok=True)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).reshape(-1, 1, 8, 8)

    clf = TorchClassifier(
        CNN, lr=0.01, max_epochs=40, early_stopping=True, patience=5, random_state=0
    ).fit(X, y)
    grid = {"lr": [1e-3, 3e-3, 1e-2, 3e-2, 1e-1], "net__channels": [2, 8]}
    search = GridSearchCV(
        TorchClassifier(CNN, max_epochs=6, early_stopping=False, random_state=0), grid, cv=3
    ).fit(X[:900], y[:900])

    pictures = {
        "history": HistoryDisplay.from_estimator(clf),
        "feature_maps": FeatureMapDisplay.from_estimator(clf, X, layer="conv1"),
        "search": SearchDisplay.from_search(search),
    }
    for name, display in pictures.items():
        path = folder / f"{name}.png"
        display.figure_.savefig(path, dpi=120)
        print(path)


if __name__ == "__main__":
    main()
