"""A compiled fit beside the plain one."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import make_classification
from torch import nn

X, Y = make_classification(150, 6, n_informative=4, random_state=0)
SETTINGS = {
    "dtype": "float64",
    "batch_size": 32,
    "max_epochs": 4,
    "net__hidden_layer_sizes": (8,),
    "random_state": 0,
}
# The same for a net that is passed.
FOR_A_NET = {k: v for k, v in SETTINGS.items() if not k.startswith("net__")}


class Normed(nn.Module):
    """Batch norm, dropout and a frozen layer."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.frozen = nn.Linear(n_features_in, 8).requires_grad_(False)
        self.inner = nn.Linear(8, 8, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(8, n_outputs)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.inner(self.frozen(x))))))


def assert_same_fit(plain, fast):
    ours, theirs = plain.net_.state_dict(), fast.net_.state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-9, atol=1e-9)
    drop = {"columns": "epoch_time"}
    np.testing.assert_allclose(
        fast.history_.drop(**drop), plain.history_.drop(**drop), rtol=1e-9, atol=1e-9
    )


def both(estimator, *data, **fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = estimator.set_params(compile=False).fit(*data, **fitted)
        plain = Fitted(plain.net_, plain.history_)
        fast = estimator.set_params(compile=True).fit(*data, **fitted)
    return plain, fast


class Fitted(NamedTuple):
    """What a fit left, before the estimator is fitted again."""

    net_: nn.Module
    history_: pd.DataFrame


CASES = {
    "adam": {},
    "sgd, nesterov, decay, l1, accumulated penalties": {
        "optimizer": "sgd",
        "optimizer__momentum": 0.9,
        "optimizer__nesterov": True,
        "weight_decay": {"*bias": 0.1, "*": 1e-2},
        "l1": 1e-3,
        "l2": 1e-2,
    },
    "rmsprop, a schedule by steps, clipping": {
        "optimizer": "rmsprop",
        "optimizer__centered": True,
        "optimizer__momentum": 0.5,
        "lr_scheduler": "onecycle",
        "grad_clip_norm": 0.05,
    },
    "adamw, averaged weights, early stopping, metrics": {
        "optimizer": "adamw",
        "optimizer__amsgrad": True,
        "weight_decay": 0.1,
        "ema_decay": 0.9,
        "early_stopping": True,
        "metrics": ["accuracy"],
        "class_weight": "balanced",
    },
}
