"""What ``random_state`` seeds."""

import functools
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["Seeds"]


def _draw(random_state):
    return tuple(check_random_state(random_state).randint(2**31 - 1, size=4).tolist())


# A search asks for the same seeds again and again, and it takes long to make a generator.
_drawn = functools.lru_cache(maxsize=128)(_draw)


class Seeds(NamedTuple):
    """What ``random_state`` seeds, each apart from the others."""

    weights: int
    split: int
    order: int
    dropout: int

    @classmethod
    def draw(cls, random_state):
        """Draw from ``random_state``; None is new each time and not numpy's global generator."""
        if random_state is None:
            return cls(*(np.random.SeedSequence().generate_state(4) >> 1).tolist())
        if isinstance(random_state, Integral):
            return cls(*_drawn(int(random_state)))
        return cls(*_draw(random_state))

    def shared(self, ranks):
        """Return those of the first process, where several train together."""
        return self if ranks is None else Seeds(*ranks.first(tuple(self)))
