"""What a search costs, one fit after the other and all at once."""

import warnings
from contextlib import nullcontext

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


def sktorch_net():
    """Return the estimator, and the parameter that is searched."""
    settings = {"batch_size": WORK.batch_size, "max_epochs": EPOCHS, "early_stopping": False}
    return TorchClassifier(dtype="float32", random_state=0, **settings), "lr"


def skorch_net():
    """Return the same of skorch."""
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        WORK.net,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        batch_size=WORK.batch_size,
        max_epochs=EPOCHS,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return net, "lr"


def scikit_learn_net():
    """Return the same of scikit-learn."""
    net = MLPClassifier(
        hidden_layer_sizes=WORK.hidden, batch_size=WORK.batch_size, max_iter=EPOCHS, random_state=0
    )
    return net, "learning_rate_init"


def stacked():
    """Return the context in which all fits of a search train as one."""
    try:
        return joblib.parallel_config(backend="sktorch")
    except ValueError as error:
        raise NotImplementedError("no joblib backend called sktorch") from error


SEARCHES = {
    "sktorch": (sktorch_net, nullcontext),
    "sktorch, stacked": (sktorch_net, stacked),
    "skorch": (skorch_net, nullcontext),
    "scikit-learn": (scikit_learn_net, nullcontext),
}


def data(n_samples=WORK.n_samples):
    """Return X of float32 and labels."""
    X, y = make_classification(n_samples, WORK.shape[0], n_informative=10, random_state=0)
    return X.astype("float32"), y


def search(trainer, rates, cv, X, y):
    """Return a grid search over learning rates, fitted."""
    build, context = SEARCHES[trainer]
    net, parameter = build()
    pipe = Pipeline([("scale", StandardScaler()), ("net", net)])
    with warnings.catch_warnings(), context():
        warnings.simplefilter("ignore")  # MLP's advice to train longer
        return GridSearchCV(pipe, {f"net__{parameter}": rates}, cv=cv).fit(X, y)


class Search:
    """Seconds of four candidates in three folds, and the best score."""

    param_names = ("trainer",)
    params = ([*SEARCHES],)

    def setup(self, trainer):
        require_package("skorch" if trainer == "skorch" else None)
        if trainer == "sktorch, stacked":
            stacked()
        self.data = data()

    def time_search(self, trainer):
        search(trainer, RATES, 3, *self.data)

    def track_best_score(self, trainer):
        return search(trainer, RATES, 3, *self.data).best_score_
