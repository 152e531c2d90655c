"""What a whole fit costs on small data."""

import warnings

from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktorch import TorchClassifier, TorchRegressor

from .peers import scikit_learn, skorch
from .workloads import Workload, require_package

DATASETS = {
    "iris": load_iris,
    "breast cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}


class Fit:
    """Seconds and test score with every parameter at its default."""

    param_names = ("estimator", "dataset")
    params = (["sktorch", "scikit-learn"], [*DATASETS])

    def setup(self, estimator, dataset):
        X, y = DATASETS[dataset](return_X_y=True)
        regression = dataset == "diabetes"
        self.data = train_test_split(X, y, stratify=None if regression else y, random_state=0)
        kind = {
            ("sktorch", False): TorchClassifier,
            ("sktorch", True): TorchRegressor,
            ("scikit-learn", False): MLPClassifier,
            ("scikit-learn", True): MLPRegressor,
        }[estimator, regression]
        self.pipe = make_pipeline(StandardScaler(), kind(random_state=0))

    def fit(self):
        X, _, y, _ = self.data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLP's advice to train longer
            return self.pipe.fit(X, y)

    def time_fit(self, estimator, dataset):
        self.fit()

    def track_test_score(self, estimator, dataset):
        _, X, _, y = self.data
        return self.fit().score(X, y)


# A fit of as little work as there is: what is left is what a fit costs beside its steps.
SMALL = Workload(150, (4,), (100,), 3, 150)


def built_in(work, epochs):
    """Train the estimator's own net, as scikit-learn does."""
    settings = {"max_epochs": epochs, "early_stopping": False}
    return (
        TorchClassifier(net__hidden_layer_sizes=work.hidden, **settings).fit(*work.data()).predict
    )


SMALL_FITS = {"sktorch": built_in, "skorch": skorch, "scikit-learn": scikit_learn}


class FixedCost:
    """Seconds of a fit on 150 rows, in one batch an epoch."""

    param_names = ("trainer", "epochs")
    params = ([*SMALL_FITS], [1, 10])

    def setup(self, trainer, epochs):
        require_package("skorch" if trainer == "skorch" else None)
        SMALL_FITS[trainer](SMALL, 1)

    def time_fit(self, trainer, epochs):
        SMALL_FITS[trainer](SMALL, epochs)

    def track_quality(self, trainer, epochs):
        return SMALL.quality(SMALL_FITS[trainer](SMALL, epochs))
