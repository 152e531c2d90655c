"""Callbacks: the hooks of a fit, and those that come with sktorch."""

from sktorch.callbacks.base import HOOKS, Callback, overriding
from sktorch.callbacks.checkpoint import Checkpoint
from sktorch.callbacks.logs import CSVLogger, LearningRateMonitor, TensorBoardLogger
from sktorch.callbacks.progress import PrintLog, ProgressBar, StackProgress
from sktorch.callbacks.stopping import EarlyStopping

__all__ = [
    "HOOKS",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LearningRateMonitor",
    "PrintLog",
    "ProgressBar",
    "StackProgress",
    "TensorBoardLogger",
    "overriding",
]
