"""The corpus: bad and odd inputs, each of which must work or be refused by name.

A case says what is done (``act``, with a library of ``libraries.py``), what makes its value
right (``right``; None where nothing can be), and what a message that helps says (``error``; None
where it must work). The words of a message are those of its cause and of its parameter.
"""

from dataclasses import dataclass, field

import numpy as np
from torch import nn

__all__ = ["CASES", "Case"]

F = nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).round(3)
Y = (X[:, 0] > 0.4).astype(int) + (X[:, 0] > -0.4)
B = (X[:, 0] > 0).astype(int)
R = X @ [1.0, -2.0, 0.5, 0.0]
NAMES = np.array(["low", "mid", "top"])
IDS = RNG.integers(0, 20, size=(90, 4))


@dataclass
class Case:
    """One input, and what must come of it."""

    group: str
    name: str
    act: callable = field(repr=False)
    right: callable = None
    error: str = None


CASES = []


def case(group, name, act, right=None, error=None):
    """Add a case."""
    CASES.append(Case(group, name, act, right, error))


# What is right ----------------------------------------------------------------------------------


def learns(value):
    """Whether a score is that of something learned."""
    return value > 0.85


def holds(value):
    """Whether what was asked is so."""
    return bool(value)


def score(lib, X=X, y=Y, weight=None, regressor=False, **settings):
    """Fit and score on the same rows."""
    estimator = (lib.reg if regressor else lib.clf)(**settings)
    weights = () if weight is None else (weight,)
    estimator.fit(X, y, *weights)
    return estimator.score(X, y)


def fits(**settings):
    """Return an act that fits and scores a classifier."""
    return lambda lib: score(lib, **settings)


def regresses(**settings):
    """Return an act that fits and scores a regressor."""
    return lambda lib: score(lib, **{"y": R, "regressor": True, **settings})


def fitted(lib, **settings):
    """Return a fitted classifier."""
    return lib.clf(**settings).fit(X, Y)
