"""Two processes train one net, and end where one ends.

Run with ``python examples/two_processes.py``, which starts the two with torchrun, or start them
yourself: ``torchrun --nproc-per-node 2 examples/two_processes.py``, or ``accelerate launch``. It
takes about twenty seconds on two cores.
"""

import os
import subprocess
import sys

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktorch import TorchClassifier


def fit(**settings):
    """Train by gradient descent, in double precision so that the two can be compared."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    clf = TorchClassifier(
        net, optimizer="sgd", lr=0.1, max_epochs=20, metrics="accuracy", random_state=0, **settings
    )
    return clf.fit(X, y, X_val=X, y_val=y)


def together():
    """Train in this process and in others; the first of them prints."""
    clf = fit(batch_size=32, accelerator="auto", device="cpu")
    if int(os.environ["RANK"]) > 0:
        return
    alone = fit(batch_size=64, device="cpu")
    pairs = zip(clf.net_.parameters(), alone.net_.parameters(), strict=True)
    apart = max((a - b).abs().max().item() for a, b in pairs)
    score = clf.history_["val_accuracy"].iloc[-1]
    print(f"two processes with batches of 32: accuracy {score:.3f}")
    print(f"one process with batches of 64: accuracy {alone.history_['val_accuracy'].iloc[-1]:.3f}")
    print(f"largest difference of a weight: {apart:.1g}")
    assert apart < 1e-6
    assert np.isclose(score, alone.history_["val_accuracy"].iloc[-1])
    assert score > 0.95


if __name__ == "__main__":
    if "RANK" in os.environ:
        together()
    else:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        subprocess.run([*launcher, "--nproc-per-node=2", __file__], env=environment, check=True)
