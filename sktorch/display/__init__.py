"""Pictures of a training, in the style of scikit-learn's displays; they need matplotlib.

``from_estimator`` or ``from_search`` computes what is drawn and draws it; ``plot`` draws it again.
None of them calls ``plt.show``.
"""

from sktorch.display.feature_maps import FeatureMapDisplay
from sktorch.display.history import HistoryDisplay
from sktorch.display.search import SearchDisplay

__all__ = ["FeatureMapDisplay", "HistoryDisplay", "SearchDisplay"]
