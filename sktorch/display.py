"""Pictures of a training, in the style of scikit-learn's displays; they need matplotlib.

``from_estimator`` or ``from_search`` computes what is drawn and draws it; ``plot`` draws it again.
None of them calls ``plt.show``.
"""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted
from torch.nn.modules.conv import _ConvNd

__all__ = ["FeatureMapDisplay", "HistoryDisplay", "SearchDisplay"]

# More lines than this tell nothing by a legend, which would hide them.
_LEGEND_LINES = 12
_MAPS_PER_ROW = 4


class HistoryDisplay:
    """Training and validation curves.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
    values : dict of ndarray of shape (n_epochs,)
        Columns of ``history_`` by name.
    metric : str
    best_epoch : int

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a column.
    best_line_ : matplotlib Line2D
        Marks the best epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktorch import TorchClassifier
    >>> from sktorch.display import HistoryDisplay
    >>> clf = TorchClassifier(early_stopping=True, max_epochs=5).fit(*load_iris(return_X_y=True))
    >>> display = HistoryDisplay.from_estimator(clf)
    >>> [line.get_label() for line in display.lines_]
    ['train_loss', 'val_loss']
    """

    def __init__(self, epochs, values, *, metric, best_epoch):
        self.epochs = epochs
        self.values = values
        self.metric = metric
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(cls, estimator, metric="loss", *, ax=None, **kwargs):
        """Draw ``train_<metric>`` and ``val_<metric>``, whichever were recorded, by epoch.

        Parameters
        ----------
        estimator : fitted estimator
            Of sktorch, or a Pipeline that ends with one, or a search over either.
        metric : str, default="loss"
            The name of a column of ``history_``, with or without "train_" or "val_".
        ax : matplotlib Axes, optional
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        display : HistoryDisplay
        """
        fitted = _trained(estimator)
        history = fitted.history_
        columns = [c for c in (f"train_{metric}", f"val_{metric}", metric) if c in history]
        if not columns or metric == "epoch":
            names = {c.removeprefix("train_").removeprefix("val_") for c in history} - {"epoch"}
            raise ValueError(
                f"metric={metric!r} was not recorded. Recorded: {', '.join(sorted(names))}. "
                "Others are recorded if they are given to the estimator before fit."
            )
        values = {column: history[column].to_numpy(dtype=float) for column in columns}
        display = cls(
            history["epoch"].to_numpy(), values, metric=metric, best_epoch=fitted.best_epoch_
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **kwargs : dict
            Passed to ``ax.plot``.

        Returns
        -------
        self : HistoryDisplay
        """
        self.ax_, self.figure_ = ax, _ = _axes(ax)
        # A single point has no line.
        style = {"marker": "o" if len(self.epochs) == 1 else None, **kwargs}
        self.lines_ = [
            ax.plot(self.epochs, values, **{"label": name, **style})[0]
            for name, values in self.values.items()
        ]
        self.best_line_ = ax.axvline(
            self.best_epoch,
            color="0.4",
            linestyle="--",
            linewidth=1,
            zorder=1,
            label=f"best epoch: {self.best_epoch}",
        )
        at = self.epochs == self.best_epoch
        for line, values in zip(self.lines_, self.values.values(), strict=True):
            ax.plot(self.epochs[at], values[at], "o", color=line.get_color(), markersize=5)
        ax.set(xlabel="Epoch", ylabel=self.metric, title=f"{self.metric} by epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        return self


class FeatureMapDisplay:
    """What the channels of a convolution layer answer to one sample.

    Parameters
    ----------
    maps : ndarray of shape (n_maps, length), (n_maps, height, width) or \
            (n_maps, depth, height, width)
        Of volumes the middle slice is drawn.
    layer : str
        Name of the layer within the net.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What the maps lie in; it shows the title alone.
    axes_ : ndarray of matplotlib Axes of shape (n_maps,)
        One a map.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        Of sequences; empty otherwise.
    images_ : list of matplotlib AxesImage
        Of images; empty otherwise.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from torch import nn
    >>> from sktorch import TorchClassifier
    >>> from sktorch.display import FeatureMapDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).reshape(-1, 1, 8, 8)
    >>> net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))
    >>> clf = TorchClassifier(net, max_epochs=2).fit(X, y)
    >>> FeatureMapDisplay.from_estimator(clf, X, layer="0").maps.shape
    (4, 6, 6)
    """

    def __init__(self, maps, *, layer):
        self.maps = maps
        self.layer = layer

    @classmethod
    def from_estimator(cls, estimator, X, layer=None, *, max_maps=4, sample=0, ax=None, **kwargs):
        """Draw the first feature maps of a layer for one sample.

        Parameters
        ----------
        estimator : fitted estimator
            Of sktorch, or a Pipeline that ends with one, or a search over either.
        X : array-like of shape (n_samples, ...)
            As for ``predict``.
        layer : str, optional
            Name of a convolution layer, as in ``net_.named_modules()``; by default the first.
        max_maps : int, default=4
        sample : int, default=0
            Row of X.
        ax : matplotlib Axes, optional
        **kwargs : dict
            Passed to ``imshow``, or to ``plot`` for sequences.

        Returns
        -------
        display : FeatureMapDisplay
        """
        net = _trained(estimator).net_
        layers = {name: m for name, m in net.named_modules() if isinstance(m, _ConvNd)}
        if not layers:
            raise ValueError("net has no convolution layer, and no other has feature maps.")
        layer = next(iter(layers)) if layer is None else layer
        if layer not in layers:
            raise ValueError(
                f"layer={layer!r} is no convolution layer of net. Those are: {', '.join(layers)}."
            )
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        _check_count("max_maps", max_maps, 1, math.inf)
        _check_count("sample", sample, 0, n_rows - 1)
        maps = _answers(estimator, _safe_indexing(X, [sample]), layers[layer])
        if maps is None:
            raise ValueError(f"layer={layer!r} takes no part in the forward of net. Pass another.")
        return cls(maps[:max_maps], layer=layer).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Its place is divided among the maps.
        **kwargs : dict
            Passed to ``imshow``, or to ``plot`` for sequences.

        Returns
        -------
        self : FeatureMapDisplay
        """
        n_columns = min(len(self.maps), _MAPS_PER_ROW)
        n_rows = math.ceil(len(self.maps) / n_columns)
        self.ax_, self.figure_ = ax, _ = _axes(ax, (2.2 * n_columns, 2.4 * n_rows + 0.3))
        ax.set_axis_off()
        ax.set_title(f"Feature maps of layer {self.layer!r}")
        self.axes_ = np.array(
            [
                ax.inset_axes(_place(*divmod(number, n_columns), n_rows, n_columns))
                for number in range(len(self.maps))
            ]
        )
        self.lines_, self.images_ = [], []
        if self.maps.ndim == 2:
            self._plot_lines(kwargs, n_columns)
        else:
            self._plot_images(kwargs)
        for number, part in enumerate(self.axes_):
            part.set_title(f"channel {number}", fontsize="small", pad=3)
        return self

    def _plot_lines(self, kwargs, n_columns):
        low, high = np.nanmin(self.maps), np.nanmax(self.maps)
        margin = 0.05 * (high - low) or 1.0
        for number, (part, values) in enumerate(zip(self.axes_, self.maps, strict=True)):
            self.lines_ += part.plot(np.arange(len(values)), values, **kwargs)
            # One scale for all, so that they compare, and its numbers on the left only.
            part.set_ylim(low - margin, high + margin)
            part.tick_params(labelsize="small", labelleft=number % n_columns == 0)
            part.xaxis.get_major_locator().set_params(integer=True, nbins=4)
            if number + n_columns < len(self.axes_):
                part.tick_params(labelbottom=False)
            else:
                part.set_xlabel("position", fontsize="small")

    def _plot_images(self, kwargs):
        maps = self.maps if self.maps.ndim == 3 else self.maps[:, self.maps.shape[1] // 2]
        for part, values in zip(self.axes_, maps, strict=True):
            self.images_.append(part.imshow(values, **{"cmap": "viridis", **kwargs}))
            part.set(xticks=[], yticks=[])


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
        self.ax_, self.figure_ = ax, _ = _axes(ax)
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


def _axes(ax, size=None):
    """Return ``ax`` or a new one, and its figure."""
    if ax is not None:
        return ax, ax.figure
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Displays need matplotlib, which is not installed. pip install "sktorch[plot]"'
        ) from error
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    return ax, figure


def _trained(estimator):
    """Return the fitted estimator of sktorch within pipelines and searches."""
    while not hasattr(estimator, "net_"):
        check_is_fitted(estimator)
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "regressor_"):
            estimator = estimator.regressor_
        else:
            raise TypeError(
                "estimator must be one of sktorch, a Pipeline that ends with one or a search over "
                f"either, got {type(estimator).__name__}."
            )
    return estimator


def _answers(estimator, X, module):
    """Return what ``module`` gives first when one row is predicted, or None if it is not called.

    ``predict`` is asked, so that X goes the way of any other: steps of a Pipeline, checks, dtype.
    """
    seen = []
    hook = module.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    try:
        estimator.predict(X)
    finally:
        hook.remove()
    return seen[0][0].float().cpu().numpy() if seen else None


def _check_count(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        words = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {words}, got {value!r}.")


def _place(row, column, n_rows, n_columns):
    """Return left, bottom, width and height of a map within its axes."""
    width, height = 1 / n_columns, 1 / n_rows
    return column * width, 1 - (row + 1) * height, 0.92 * width, 0.86 * height


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
