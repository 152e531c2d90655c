"""Two rings, one seven times as full: focal loss with penalties, and a picture.

A thousand points lie at a radius of about 5, six thousand at about 8. Run with
``python examples/rings.py [picture.png]``; the picture needs matplotlib.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn

from sktorch import TorchClassifier

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def rings(seed=0):
    """Return points of shape (7000, 2) and 1 for those of the inner ring."""
    rng = np.random.default_rng(seed)
    radius = np.r_[rng.normal(5, 1, size=1000), rng.normal(8, 1, size=6000)]
    angle = rng.uniform(0, 2 * np.pi, size=7000)
    X = np.c_[radius * np.cos(angle), radius * np.sin(angle)].astype(np.float32)
    return X, np.r_[np.ones(1000, dtype=int), np.zeros(6000, dtype=int)]


def make_net():
    """Return a net of widths 2, 4, 8, 1."""
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def draw(X, y, predicted, path):
    """Draw the true and the predicted classes side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharex=True, sharey=True)
    for ax, labels, title in zip(axes, (y, predicted), ("true", "predicted"), strict=True):
        for label, colour in ((0, "tab:blue"), (1, "tab:red")):
            ax.scatter(*X[labels == label].T, s=4, c=colour, label=f"class {label}")
        ax.set_title(title)
        ax.set_aspect("equal")
    axes[0].legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main():
    """Print the recall of the small class with focal loss and with cross entropy."""
    X, y = rings()
    X_train, X_val, y_train, y_val = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=0
    )
    recalls = {}
    for loss in ("cross_entropy", "focal"):
        clf = TorchClassifier(
            make_net, loss=loss, l1=1e-4, l2=1e-4, lr=0.002, batch_size=100,
            max_epochs=100, patience=3, random_state=0,
        )  # fmt: skip
        clf.fit(X_train, y_train, X_val=X_val, y_val=y_val)
        recalls[loss] = recall_score(y_val, clf.predict(X_val))
        auc = roc_auc_score(y_val, clf.predict_proba(X_val)[:, 1])
        print(
            f"{loss:14} {clf.n_iter_:3} epochs  AUC {auc:.3f}  "
            f"accuracy {clf.score(X_val, y_val):.3f}  "
            f"recall of the small class {recalls[loss]:.3f}"
        )
    assert recalls["focal"] >= recalls["cross_entropy"]
    path = sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "rings.png"
    draw(X_val, y_val, clf.predict(X_val), path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
