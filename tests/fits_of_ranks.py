"""Fits that several processes do together, started by the tests: ``fits_of_ranks.py FOLDER``."""

import contextlib
import io
import os
import sys
from pathlib import Path

import joblib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import Callback, Checkpoint, CSVLogger

RNG = np.random.default_rng(0)
# The last batch has one row more for one process than for the other.
N = 1001
X = RNG.normal(size=(N, 6))
Y = (X @ RNG.normal(size=(6, 3))).argmax(axis=1)
WEIGHT = RNG.uniform(0.5, 2, size=N)


class Rows(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], Y[i]


class Mine(Callback):
    """Asks to stop, in the second process alone."""

    def on_epoch_end(self, state):
        if state.epoch == 2 and state.ranks is not None and state.ranks.index == 1:
            state.stop_reason = "the second process has had enough"


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))


SETTINGS = {"optimizer": "sgd", "lr": 0.1, "max_epochs": 3, "random_state": 0, "device": "cpu"}
SETTINGS |= {"early_stopping": False}


def fits(accelerator, batch_size):
    """Return the fitted estimators by name."""

    def clf(net=net, **settings):
        settings = {**SETTINGS, "batch_size": batch_size, "accelerator": accelerator, **settings}
        return TorchClassifier(net(), **settings)

    alone = accelerator is None
    # A DataLoader's batches are shared out: its size is that of all processes together.
    loader = DataLoader(Rows(), batch_size=64)
    scores = {"metrics": ["accuracy", "f1", "neg_log_loss"], "patience": 1, "max_epochs": 30}
    return {
        "plain": clf().fit(X, Y),
        "weighted": clf().fit(X, Y, WEIGHT),
        "streamed": clf(data_source="streamed").fit(X, Y, WEIGHT),
        "Dataset": clf().fit(Rows()),
        "DataLoader": clf().fit(loader),
        "accumulated": clf(grad_accumulation_steps=2, grad_clip_norm=0.1, l2=1e-3).fit(X, Y),
        "scored": clf(early_stopping=True, **scores).fit(X, Y),
        "validated": clf(metrics="accuracy").fit(X, Y, X_val=Rows(), y_val=None),
        "averaged": clf(ema_decay=0.9, lr_scheduler="onecycle").fit(X, Y),
        "loss with weights": clf(loss=WithWeights).fit(X, Y),
        "in parts": clf().partial_fit(X, Y, classes=range(3)).partial_fit(X, Y),
        "values": TorchRegressor(
            net().append(nn.Linear(3, 1, dtype=torch.float64)) if alone else regression_net(),
            **SETTINGS,
            batch_size=batch_size,
            accelerator=accelerator,
        ).fit(X, X[:, 0]),
        "unseeded, normed": clf(normed, random_state=None, early_stopping=True).fit(X, Y),
    }


def regression_net():
    return net().append(nn.Linear(3, 1, dtype=torch.float64))


class WithWeights(nn.Module):
    """A loss whose weights are trained."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Linear(3, 3)

    def forward(self, y_pred, y_true):
        return nn.functional.cross_entropy(self.head(y_pred), y_true, reduction="none")


def main(folder):
    from accelerate import Accelerator

    rank = int(os.environ["RANK"])
    accelerator = Accelerator(cpu=True) if os.environ.get("GIVEN") else "auto"
    fitted = fits(accelerator, 32)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        shown = TorchClassifier(
            net(),
            **{**SETTINGS, "max_epochs": 30},
            accelerator=accelerator,
            verbose=2,
            callbacks=[
                Mine(),
                Checkpoint(folder / f"of-{rank}"),
                CSVLogger(folder / f"{rank}.csv"),
            ],
        ).fit(X, Y)
    if rank == 0:
        # One of the processes may do something alone.
        alone = TorchClassifier(net(), **SETTINGS, metrics=["accuracy", "f1", "neg_log_loss"])
        alone.fit(X, Y).evaluate(X, Y)
    refused = []
    for settings, data in [({"optimizer": "lbfgs"}, slice(None)), ({}, slice(0, 1))]:
        try:
            TorchRegressor(accelerator="auto", device="cpu", **settings).fit(X[data], X[data, 0])
        except ValueError as error:
            refused.append(str(error))
    results = {
        name: {
            "weights": {k: v.numpy() for k, v in est.net_.state_dict().items()},
            "history": est.history_.drop(columns="epoch_time"),
            "predictions": est.predict(X),
            "class": type(est.net_).__name__,
        }
        for name, est in fitted.items()
    }
    results["shown"] = (out.getvalue(), shown.n_iter_)
    results["refused"] = refused
    joblib.dump(results, folder / f"rank-{rank}.joblib")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
