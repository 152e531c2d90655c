"""What ``random_state`` seeds."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["Seeds"]


class Seeds(NamedTuple):
    """What ``random_state`` seeds, each apart from the others."""

    weights: int
    split: int
    order: int
    dropout: int

    @classmethod
    def draw(cls, random_state):
        """Draw from ``random_state``; None is new each time and not numpy's global generator."""
        source = np.random.RandomState() if random_state is None else random_state
        return cls(*check_random_state(source).randint(2**31 - 1, size=4).tolist())

    def shared(self, ranks):
        """Return those of the first process, where several train together."""
        return self if ranks is None else Seeds(*ranks.first(tuple(self)))
