"""Losses, metrics and rates by epoch."""

from sktorch.display.common import new_axes, trained

__all__ = ["HistoryDisplay"]


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
        fitted = trained(estimator)
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
        self.ax_, self.figure_ = ax, _ = new_axes(ax)
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
