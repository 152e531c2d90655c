"""What the displays share."""

from sklearn.utils.validation import check_is_fitted

__all__ = ["new_axes", "trained"]


def new_axes(ax, size=None):
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


def trained(estimator):
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
