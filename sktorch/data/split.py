"""Which rows are held out to watch a fit."""

import numpy as np
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from sktorch.data.checks import tried_on

__all__ = ["hold_out", "split"]


def split(rows, given, fraction, target, seed):
    """Return the rows to train on and those to validate on, or None."""
    if fraction is None:
        return rows, given
    strata = rows.y if target.stratified and not rows.X.carries_y else None
    train, held_out = hold_out(len(rows), fraction, seed, strata)
    return rows.take(train), tried_on(rows.take(held_out))


def hold_out(n_samples, fraction, seed, strata=None):
    """Choose rows at random.

    Parameters
    ----------
    n_samples : int
    fraction : float
        Share of the rows to hold out, in (0, 1).
    seed : int
    strata : ndarray of shape (n_samples,), optional
        Class numbers whose shares both parts keep. A class of one sample is trained on.

    Returns
    -------
    train, held_out : ndarray of int
        Row numbers, ascending, so that they do not depend on the order of the draw.
    """
    n_held_out = max(1, round(fraction * n_samples))
    if n_held_out >= n_samples:
        raise ValueError(
            f"validation_fraction={fraction} of {n_samples} samples leaves none to train on. "
            "Pass a smaller validation_fraction, X_val and y_val, or early_stopping=False."
        )
    rows = np.arange(n_samples)
    splitter = ShuffleSplit
    if strata is not None:
        counts = np.bincount(strata)
        rows = np.flatnonzero(counts[strata] > 1)
        n_classes = np.count_nonzero(counts > 1)
        if min(n_held_out, len(rows) - n_held_out) >= n_classes:
            splitter = StratifiedShuffleSplit
        elif len(rows) <= n_held_out:
            rows = np.arange(n_samples)
    splits = splitter(n_splits=1, test_size=n_held_out, random_state=seed)
    _, chosen = next(splits.split(rows, None if strata is None else strata[rows]))
    held_out = np.sort(rows[chosen])
    return np.setdiff1d(np.arange(n_samples), held_out), held_out
