"""What a search costs, one fit after the other and all at once."""

import warnings
from contextlib import nullcontext
from functools import partial

import joblib
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sktorch import TorchClassifier

from .workloads import Workload, require_package

WORK = Workload(1_500, (20,), (100,), 2, 64)
EPOCHS = 3
RATES = [3e-4, 1e-3, 3e-3, 1e-2]


def sktorch_net(epochs, **settings):
    """Return the estimator, and the parameter that is searched."""
    settings |= {"batch_size": WORK.batch_size, "max_epochs": epochs, "early_stopping": False}
    return TorchClassifier(dtype="float32", random_state=0, **settings), "lr"


def skorch_net(epochs):
    """Return the same of skorch."""
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        WORK.net,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        batch_size=WORK.batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return net, "lr"


def scikit_learn_net(epochs):
    """Return the same of scikit-learn."""
    net = MLPClassifier(
        hidden_layer_sizes=WORK.hidden, batch_size=WORK.batch_size, max_iter=epochs, random_state=0
    )
    return net, "learning_rate_init"


def stacked(n_processes=1):
    """Return the context in which all fits of a search train as one, or as one a process."""
    try:
        return joblib.parallel_config(backend="sktorch", n_processes=n_processes)
    except ValueError as error:
        raise NotImplementedError("no joblib backend called sktorch") from error


in_two = partial(stacked, 2)
compiled_net = partial(sktorch_net, compile=True)

SEARCHES = {
    "sktorch": (sktorch_net, nullcontext),
    "sktorch, stacked": (sktorch_net, stacked),
    "sktorch, stacked in two processes": (sktorch_net, in_two),
    "skorch": (skorch_net, nullcontext),
    "scikit-learn": (scikit_learn_net, nullcontext),
}

# Too long to compile for a benchmark that runs once.
COMPILED = {
    "sktorch, compiled": (compiled_net, stacked),
    "sktorch, compiled in two processes": (compiled_net, in_two),
}


def data(n_samples=WORK.n_samples):
    """Return X of float32 and labels."""
    X, y = make_classification(n_samples, WORK.shape[0], n_informative=10, random_state=0)
    return X.astype("float32"), y


def search(trainer, rates, cv, X, y, epochs=EPOCHS, n_jobs=None):
    """Return a grid search over learning rates, fitted; ``n_jobs`` is for the peers."""
    build, context = {**SEARCHES, **COMPILED}[trainer]
    net, parameter = build(epochs)
    n_jobs = None if trainer.startswith("sktorch") else n_jobs
    pipe = Pipeline([("scale", StandardScaler()), ("net", net)])
    with warnings.catch_warnings(), context():
        warnings.simplefilter("ignore")  # MLP's advice to train longer
        return GridSearchCV(pipe, {f"net__{parameter}": rates}, cv=cv, n_jobs=n_jobs).fit(X, y)


class Search:
    """Seconds of four candidates in three folds, and the best score."""

    param_names = ("trainer",)
    params = ([*SEARCHES],)

    def setup(self, trainer):
        require_package("skorch" if trainer == "skorch" else None)
        if "stacked" in trainer:
            stacked()
        self.data = data()

    def time_search(self, trainer):
        search(trainer, RATES, 3, *self.data)

    def track_best_score(self, trainer):
        return search(trainer, RATES, 3, *self.data).best_score_
