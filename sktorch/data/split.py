"""Which rows are held out to watch a fit."""

import numpy as np

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
    strata : ndarray of int, shape (n_samples,), optional
        Class numbers whose shares both parts keep, to a row. A class of one sample is trained on,
        unless there are not enough others.

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
    rng = np.random.RandomState(seed)
    rows = rng.permutation(n_samples)
    if strata is not None:
        lone = np.bincount(strata)[strata[rows]] == 1
        if n_samples - np.count_nonzero(lone) > n_held_out:
            rows = rows[~lone]
        rows = rows[np.argsort(strata[rows], kind="stable")]
    # Rows at equal distances: in the order of the classes these are the share of each.
    places = (np.arange(n_held_out) * len(rows) + rng.randint(len(rows))) // n_held_out
    is_held_out = np.zeros(n_samples, dtype=bool)
    is_held_out[rows[places]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
