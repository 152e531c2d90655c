"""The estimators that the corpus is run on, behind the same few words."""

import warnings

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn

__all__ = ["LIBRARIES", "NotApplicable", "Sktorch"]


class NotApplicable(Exception):
    """A library has no such thing."""


class Sktorch:
    """sktorch, with settings under which a small net learns in a moment."""

    name = "sktorch"
    settings = {"lr": 0.05, "max_epochs": 30, "random_state": 0}

    def clf(self, **settings):
        """Return a classifier."""
        from sktorch import TorchClassifier

        return TorchClassifier(**{**self.settings, **settings})

    def reg(self, **settings):
        """Return a regressor."""
        from sktorch import TorchRegressor

        return TorchRegressor(**{**self.settings, **settings})


class LazyMLP(nn.Module):
    """The best case for skorch: sized by what it sees, and casts what it is given."""

    def __init__(self, n_outputs=3, n_hidden=32):
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(n_hidden), nn.ReLU(), nn.LazyLinear(n_outputs))

    def forward(self, x):
        return self.net(x.float())


class Skorch:
    """skorch 1.4."""

    name = "skorch"
    words = {"net": "module", "loss": "criterion"}
    has = {
        "lr",
        "max_epochs",
        "batch_size",
        "optimizer",
        "device",
        "verbose",
        "callbacks",
        "warm_start",
        "train_split",
    }

    def _build(self, kind, n_outputs, settings):
        torch.manual_seed(settings.pop("random_state", 0))
        settings = {"lr": 0.05, "max_epochs": 30, "optimizer": torch.optim.Adam, **settings}
        out = {"module": LazyMLP, "train_split": None, "verbose": 0, "batch_size": 200}
        for name, value in settings.items():
            prefix, mark, rest = name.partition("__")
            name = self.words.get(prefix, prefix) + mark + rest
            if isinstance(value, str) and prefix in ("loss", "net", "lr_scheduler"):
                raise NotApplicable(name)
            if prefix == "optimizer" and isinstance(value, str):
                value = getattr(torch.optim, {"sgd": "SGD", "adam": "Adam"}.get(value, ""), value)
            if name.partition("__")[0] not in {*self.has, "module", "criterion", "iterator_train"}:
                raise NotApplicable(name)
            out[name] = value
        if out["module"] is LazyMLP:
            out["module__n_outputs"] = n_outputs
        elif not isinstance(out["module"], type | nn.Module):
            raise NotApplicable("a function that builds the net")
        return kind(**out)

    def clf(self, **settings):
        """Return a classifier that takes logits."""
        from skorch import NeuralNetClassifier

        n_outputs = settings.pop("n_outputs", 3)
        settings.setdefault("loss", nn.CrossEntropyLoss)
        return self._build(NeuralNetClassifier, n_outputs, settings)

    def reg(self, **settings):
        """Return a regressor."""
        from skorch import NeuralNetRegressor

        return self._build(NeuralNetRegressor, 1, settings)


class Mlp:
    """MLPClassifier and MLPRegressor of scikit-learn."""

    name = "MLPClassifier"
    words = {"lr": "learning_rate_init", "max_epochs": "max_iter", "optimizer": "solver"}
    has = {
        "batch_size",
        "shuffle",
        "early_stopping",
        "validation_fraction",
        "warm_start",
        "verbose",
        "random_state",
    }

    def _build(self, kind, settings):
        out = {"learning_rate_init": 0.05, "max_iter": 30, "random_state": 0}
        for name, value in settings.items():
            if name not in self.words and name not in self.has:
                raise NotApplicable(name)
            out[self.words.get(name, name)] = value
        return kind(**out)

    def clf(self, **settings):
        """Return a classifier."""
        return self._build(MLPClassifier, settings)

    def reg(self, **settings):
        """Return a regressor."""
        return self._build(MLPRegressor, settings)


LIBRARIES = [Sktorch, Skorch, Mlp]


def quietly(call):
    """Return what ``call`` returned and the warnings that told a user something."""
    with warnings.catch_warnings(record=True) as seen, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        value = call()
    told = [w for w in seen if not str(w.category.__name__).startswith(("Convergence", "Future"))]
    return value, [str(w.message) for w in told]
