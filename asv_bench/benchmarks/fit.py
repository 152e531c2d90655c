"""What a whole fit of the bare estimators costs on small data, beside scikit-learn's MLP."""

import warnings

from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktorch import TorchClassifier, TorchRegressor

DATASETS = {
    "iris": load_iris,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
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
