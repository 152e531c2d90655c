"""Settings that must stand before scikit-learn is imported, and data that many tests share."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.preprocessing import StandardScaler

from sktorch.seeds import Seeds

# Nets that tests build when they are imported.
torch.manual_seed(0)

# The nets of the tests are small, and threads that wait for each other spin.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def repeatable(request, monkeypatch):
    """Draw what nobody has seeded from the same stream in every run, so that no test is luck."""
    torch.manual_seed(0)
    if request.module.__name__ == "test_seeds":
        return
    source, draw = np.random.RandomState(0), Seeds.draw.__func__
    monkeypatch.setattr(
        Seeds, "draw", classmethod(lambda cls, seed: draw(cls, source if seed is None else seed))
    )


@pytest.fixture(scope="session")
def breast_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="session")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


@pytest.fixture(scope="session")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X), y
