"""The main job: real data, nets of yours, a Pipeline, a search, a saved model.

Run with ``python examples/quickstart.py``; it takes some seconds on two cores.
"""

import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sktorch import TorchClassifier


class CNN(nn.Module):
    """Images of shape (n, 1, 8, 8) to one logit for each of ``n_outputs`` classes."""

    def __init__(self, n_outputs, channels=16):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.head = nn.Linear(channels * 16, n_outputs)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.head(x.flatten(1))


class MLP(nn.Module):
    """Rows of ``n_features_in`` numbers to one logit for each of ``n_outputs`` classes."""

    def __init__(self, n_features_in, n_outputs, width=32):
        super().__init__()
        self.hidden = nn.Linear(n_features_in, width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(x)))


def to_images(X):
    """Rows of 64 grey values from 0 to 16 to images with one channel from 0 to 1."""
    return (X / 16).reshape(-1, 1, 8, 8)


def search(name, pipe, X, y):
    """Fit a search over lr and patience, save the best, load it, and return a row of the table."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    started = time.perf_counter()
    grid = {"clf__lr": [1e-3, 3e-3, 1e-2], "clf__patience": [3, 10]}
    best = GridSearchCV(pipe, grid, cv=3).fit(X_train, y_train)
    seconds = time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.joblib"
        joblib.dump(best.best_estimator_, path)
        loaded = joblib.load(path)
        kilobytes = path.stat().st_size / 1000
    same = np.array_equal(loaded.predict_proba(X_test), best.predict_proba(X_test))
    assert same
    return {
        "data and net": name,
        "lr": best.best_params_["clf__lr"],
        "patience": best.best_params_["clf__patience"],
        "CV score": round(best.best_score_, 3),
        "test score": round(best.score(X_test, y_test), 3),
        "fits": len(best.cv_results_["params"]) * 3 + 1,
        "seconds": round(seconds, 1),
        "file kB": round(kilobytes),
        "loaded predicts the same": same,
    }


def main():
    """Print a table of scores and times."""
    settings = {"early_stopping": True, "max_epochs": 30, "random_state": 0}
    cnn = TorchClassifier(CNN, loss="focal", **settings)
    mlp = TorchClassifier(MLP, loss="focal", net__width=64, **settings)

    X, y = load_breast_cancer(return_X_y=True)
    rows = [
        search("breast cancer, MLP", Pipeline([("scale", StandardScaler()), ("clf", mlp)]), X, y),
    ]
    X, y = load_digits(return_X_y=True)
    images = Pipeline([("images", FunctionTransformer(to_images)), ("clf", cnn)])
    rows.append(search("digits, CNN", images, X, y))
    print(pd.DataFrame(rows).set_index("data and net").T.to_string())

    scores = cross_val_score(images.set_params(clf__lr=0.01), X, y, cv=3)
    print(f"\ndigits, CNN, cross_val_score: {scores.mean():.3f} +- {scores.std():.3f}")


if __name__ == "__main__":
    main()
