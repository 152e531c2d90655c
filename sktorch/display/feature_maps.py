"""What a convolution gives for a sample."""

import math
from numbers import Integral

import numpy as np
from sklearn.utils import _safe_indexing
from torch.nn.modules.conv import _ConvNd

from sktorch.display.common import new_axes, trained

__all__ = ["FeatureMapDisplay"]

_MAPS_PER_ROW = 4


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
        net = trained(estimator).net_
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
        self.ax_, self.figure_ = ax, _ = new_axes(ax, (2.2 * n_columns, 2.4 * n_rows + 0.3))
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
