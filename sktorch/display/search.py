"""Scores of a search by a parameter."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktorch.display.common import new_axes

__all__ = ["SearchDisplay"]

# More lines than this tell nothing by a legend, which would hide them.
_LEGEND_LINES = 12


class SearchDisplay:
    """Mean test score against a learning rate, one line for each choice of the rest.

    Parameters
    ----------
    curves : dict of {str: ndarray of shape (3, n_points)}
        Rows are the learning rate, in ascending order, and the mean and the standard deviation of
        the test score; keys say what else was set.
    param : str
    score_name : str

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        Means, one a curve.
    bands_ : list of matplotlib artists
        One standard deviation over the folds to either side: a band, or bars for single points.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktorch import TorchClassifier
    >>> from sktorch.display import SearchDisplay
    >>> grid = {"lr": [0.01, 0.1], "batch_size": [50, 100]}
    >>> search = GridSearchCV(TorchClassifier(max_epochs=2), grid, cv=2)
    >>> display = SearchDisplay.from_search(search.fit(*load_iris(return_X_y=True)))
    >>> [line.get_label() for line in display.lines_]
    ['batch_size=50', 'batch_size=100']
    """

    def __init__(self, curves, *, param, score_name):
        self.curves = curves
        self.param = param
        self.score_name = score_name

    @classmethod
    def from_search(cls, search, param="lr", *, metric=None, ax=None, **kwargs):
        """Draw the scores of a search.

        Parameters
        ----------
        search : fitted GridSearchCV or RandomizedSearchCV
        param : str, default="lr"
            A searched parameter that has positive numbers, in full or without the steps of a
            Pipeline before it: "lr" finds "clf__lr".
        metric : str, optional
            Which score, where the search has several; by default the one it refits by.
        ax : matplotlib Axes, optional
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        display : SearchDisplay
        """
        check_is_fitted(search, "cv_results_")
        param = _searched(search, param)
        mean, deviation, name = _score_columns(search, metric)
        # Grids of a list need not all set the parameter.
        rows = [row for row in _candidates(search, mean, deviation) if param in row[0]]
        curves = {}
        for params, *scores in rows:
            value = params[param]
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
                raise ValueError(
                    f"param={param!r} must have positive numbers to be drawn on a log axis, "
                    f"got {value!r}. Pass another parameter of the search."
                )
            curves.setdefault(_rest(params, param), []).append((value, *scores))
        curves = {k: np.array(sorted(points, key=_first)).T for k, points in curves.items()}
        return cls(curves, param=param, score_name=name).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        self : SearchDisplay
        """
        self.ax_, self.figure_ = ax, _ = new_axes(ax)
        self.lines_, self.bands_ = [], []
        for label, (values, means, deviations) in self.curves.items():
            style = {"marker": "o", "markersize": 5, "label": label or None, **kwargs}
            (line,) = ax.plot(values, means, **style)
            self.lines_.append(line)
            self.bands_.append(_spread(ax, values, means, deviations, line.get_color()))
        ax.set_xscale("log")
        ax.set(
            xlabel=self.param,
            ylabel=f"{self.score_name} (mean and std over folds)",
            title=f"{self.score_name} by {self.param}",
        )
        if 1 < len(self.curves) <= _LEGEND_LINES:
            ax.legend(fontsize="small")
        return self


def _searched(search, param):
    """Return the full name of the searched parameter that ``param`` names."""
    names = list(dict.fromkeys(name for p in search.cv_results_["params"] for name in p))
    if param in names:
        return param
    found = [name for name in names if name.endswith(f"__{param}")]
    if len(found) == 1:
        return found[0]
    problem = "several that end so" if found else "no such parameter"
    raise ValueError(
        f"param={param!r}: the search has {problem}. It has {', '.join(found or names)}. "
        "Pass one of these."
    )


def _score_columns(search, metric):
    """Return the columns of mean and deviation of the score, and its name."""
    names = [n.removeprefix("mean_test_") for n in search.cv_results_ if n.startswith("mean_test_")]
    if metric is None:
        refit = search.refit if isinstance(search.refit, str) else names[0]
        metric = refit if refit in names else names[0]
    if metric not in names:
        raise ValueError(f"metric={metric!r} is no score of the search: {', '.join(names)}.")
    name = metric
    if metric == "score":
        name = search.scoring if isinstance(search.scoring, str) else "test score"
    return f"mean_test_{metric}", f"std_test_{metric}", name


def _candidates(search, mean, deviation):
    """Return (parameters, mean, standard deviation) of each candidate."""
    results = search.cv_results_
    return zip(results["params"], results[mean], results[deviation], strict=True)


def _rest(params, param):
    """Say what a candidate set beside ``param``, without the prefix they have in common."""
    prefix = param[: param.rfind("__") + 2] if "__" in param else ""
    return ", ".join(
        f"{name.removeprefix(prefix)}={_words(value)}"
        for name, value in sorted(params.items())
        if name != param
    )


def _words(value):
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:.6g}"
    return value.__name__ if isinstance(value, type) else str(value)


def _first(point):
    return point[0]


def _spread(ax, values, means, deviations, color):
    """Draw one standard deviation to either side; a band needs two points."""
    if len(values) > 1:
        low, high = means - deviations, means + deviations
        return ax.fill_between(values, low, high, color=color, alpha=0.15, linewidth=0)
    return ax.errorbar(values, means, deviations, fmt="none", ecolor=color, capsize=3)
