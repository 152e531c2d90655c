"""Scikit-learn estimators that train any ``torch.nn.Module``."""

from sktorch._version import __version__
from sktorch.classifier import TorchClassifier
from sktorch.interop.joblib import register
from sktorch.regressor import TorchRegressor

__all__ = ["TorchClassifier", "TorchRegressor", "__version__"]

register()
