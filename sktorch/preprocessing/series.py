"""Time series to windows and what follows them."""

from numbers import Integral, Real

import numpy as np

__all__ = ["make_windows"]


def make_windows(series, window, horizon=1, *, target=None, test_size=None):
    """Return windows of a series, and the value that is to be predicted from each.

    Window ``i`` is ``series[i : i + window]``; its target is the value ``horizon`` steps after its
    last. Both come in the order of time, so that ``sklearn.model_selection.TimeSeriesSplit``
    validates without a look ahead. To stop early, pass the later windows as ``X_val`` and
    ``y_val``: rows that a fit holds out itself are chosen at random.

    Parameters
    ----------
    series : array-like of shape (n_times,) or (n_times, n_features)
        In the order of time.
    window : int
        Steps that are seen.
    horizon : int, default=1
        Steps from the last that is seen to the one that is predicted.
    target : array-like of shape (n_times,) or (n_times, n_targets), optional
        What is predicted; by default ``series`` itself.
    test_size : float or int, optional
        Share of the windows, in (0, 1), or number of them, that are split off at the end.

    Returns
    -------
    X : ndarray of shape (n_windows, window) or (n_windows, window, n_features)
        A read-only view of ``series``, which takes no memory. There are
        ``n_times - window - horizon + 1`` windows.
    y : ndarray of shape (n_windows,) or (n_windows, n_targets)
    X_train, X_test, y_train, y_test : ndarray
        With ``test_size`` these four, as from ``train_test_split``. No value that the training
        part sees or predicts comes after the first that the test part predicts.

    Examples
    --------
    >>> from sktorch.preprocessing import make_windows
    >>> X, y = make_windows(range(6), window=3)
    >>> X
    array([[0, 1, 2],
           [1, 2, 3],
           [2, 3, 4]])
    >>> y
    array([3, 4, 5])
    """
    series = _checked("series", series)
    target = series if target is None else _checked("target", target)
    if len(target) != len(series):
        raise ValueError(
            f"target must have a row for each of the {len(series)} of series, got {len(target)}."
        )
    for name, value in (("window", window), ("horizon", horizon)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    n_windows = len(series) - window - horizon + 1
    if n_windows < 1:
        raise ValueError(
            f"series has {len(series)} steps, and window={window} with horizon={horizon} needs "
            f"{window + horizon}. Pass a smaller window, or a longer series."
        )
    # The axis of the window comes last; nets take time before features.
    X = np.lib.stride_tricks.sliding_window_view(series, window, axis=0)[:n_windows]
    X = np.moveaxis(X, -1, 1)
    y = target[window + horizon - 1 :]
    if test_size is None:
        return X, y
    n_test = _test_windows(test_size, n_windows)
    return X[:-n_test], X[-n_test:], y[:-n_test], y[-n_test:]


def _checked(name, series):
    series = np.asarray(series)
    if series.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have shape (n_times,) or (n_times, n_features), got {series.shape}."
        )
    if series.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got dtype {series.dtype}.")
    return series


def _test_windows(test_size, n_windows):
    whole = isinstance(test_size, Integral) and not isinstance(test_size, bool)
    if whole and 1 <= test_size < n_windows:
        return int(test_size)
    if not whole and isinstance(test_size, Real) and 0 < test_size < 1:
        n_test = max(1, round(test_size * n_windows))
        if n_test < n_windows:
            return n_test
    raise ValueError(
        f"test_size must be a share in (0, 1) or a number of windows below {n_windows}, got "
        f"{test_size!r}."
    )
