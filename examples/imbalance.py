"""One sample in thirty is positive: what focal loss, weights and rules do about it.

The net's first layer learns at a tenth of the rate of its head and decays more, by rules on
parameter names. Run with ``python examples/imbalance.py``.
"""

import pandas as pd
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score, balanced_accuracy_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktorch import TorchClassifier


class Net(nn.Module):
    """An encoder and a head, so that rules can tell them apart by name."""

    def __init__(self, n_features_in, n_outputs, width=32):
        super().__init__()
        self.encoder = nn.Linear(n_features_in, width)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(width, n_outputs))

    def forward(self, x):
        return self.head(self.encoder(x))


def main():
    """Print a table of scores on test data."""
    X, y = make_classification(
        6000, 20, n_informative=6, weights=[0.97], class_sep=0.8, random_state=0
    )
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    settings = {
        "lr": {"encoder.*": 1e-3, "*": 1e-2},
        "weight_decay": {"encoder.weight": 1e-3, "*": 0.0},
        "optimizer": "adamw",
        "lr_scheduler": "warmup_cosine",
        "grad_clip_norm": 1.0,
        "max_epochs": 20,
        "random_state": 0,
    }
    ways = {
        "cross entropy": {"loss": "cross_entropy"},
        "cross entropy, balanced": {"loss": "cross_entropy", "class_weight": "balanced"},
        "focal, alpha 0.75": {"loss": "focal"},
        "focal, alpha 0.95": {"loss": "focal", "loss__alpha": 0.95},
    }
    rows = {}
    for name, way in ways.items():
        pipe = make_pipeline(StandardScaler(), TorchClassifier(Net, **settings, **way))
        pipe.fit(X_train, y_train)
        predicted, p = pipe.predict(X_test), pipe.predict_proba(X_test)[:, 1]
        rows[name] = {
            "recall": recall_score(y_test, predicted),
            "balanced accuracy": balanced_accuracy_score(y_test, predicted),
            "average precision": average_precision_score(y_test, p),
        }
    table = pd.DataFrame(rows).T
    print(table.round(3).to_string())
    assert table["recall"]["focal, alpha 0.75"] >= table["recall"]["cross entropy"]


if __name__ == "__main__":
    main()
