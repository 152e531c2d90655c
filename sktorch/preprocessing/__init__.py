"""What comes before an estimator: texts to ids, series to windows, folders to images."""

from sktorch.preprocessing.images import ImageFolder
from sktorch.preprocessing.series import make_windows
from sktorch.preprocessing.text import SequenceVectorizer

__all__ = ["ImageFolder", "SequenceVectorizer", "make_windows"]
