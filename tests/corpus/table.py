"""All cases."""

from corpus import data, files, models, parameters
from corpus.case import CASES

__all__ = ["CASES", "data", "files", "models", "parameters"]
