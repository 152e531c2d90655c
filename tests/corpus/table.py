"""All cases."""

from corpus import data, files, interrupts, losses, nets, parameters, targets, weights
from corpus.case import CASES

__all__ = [
    "CASES",
    "data",
    "files",
    "interrupts",
    "losses",
    "nets",
    "parameters",
    "targets",
    "weights",
]
