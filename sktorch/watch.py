"""What a fit watches, and whether rows are held out for it."""

import math
from typing import NamedTuple

__all__ = ["AUTO_HOLD_OUT", "Watch", "plan_watch"]

# Below this many rows early_stopping="auto" trains on all of them: what a tenth of the data adds to
# the net is then worth more than what it tells about when to stop.
AUTO_HOLD_OUT = 10_000

_DEFAULT_FRACTION = 0.1

# A gain of the training loss below this is a plateau, as it is to scikit-learn's MLP.
_TRAINING_PLATEAU = 1e-4


class Watch(NamedTuple):
    """What decides which epoch was the best, and when to stop.

    Parameters
    ----------
    monitor : str
        Column of the history.
    mode : {"min", "max"}
    patience : int or float
        ``inf`` where the fit runs to the end of its budget.
    min_delta : float
    restore_best : bool
    """

    monitor: str
    mode: str = "min"
    patience: float = math.inf
    min_delta: float = 0.0
    restore_best: bool = False


def plan_watch(settings, n_samples, has_validation, modes):
    """Decide what to watch and how much to hold out for it.

    Parameters
    ----------
    settings : estimator
        Its ``early_stopping, validation_fraction, patience, monitor, mode, min_delta,
        restore_best`` are read.
    n_samples : int
        0 where rows cannot be held out, as of what can only be iterated.
    has_validation : bool
        Whether validation data was given.
    modes : dict of str to {"min", "max"} or None
        Of each metric beside the loss, whether less or more is better.

    Returns
    -------
    watch : Watch
    fraction : float or None
        Share of the rows to hold out.
    """
    stopping, monitor = settings.early_stopping, settings.monitor
    modes = {"loss": "min", **modes}
    known = [f"{part}_{name}" for part in ("train", "val") for name in modes]
    if monitor not in known:
        raise ValueError(
            f"monitor={monitor!r} is not recorded. Recorded: {', '.join(known)}. "
            "Name others in metrics=; what a callback records, in a callback EarlyStopping."
        )
    fraction = None
    if monitor.startswith("val_") and not has_validation:
        # The default goes without where rows are few; who names a metric of validation means it.
        can_do_without = monitor == "val_loss" and stopping is not True
        if stopping and (not can_do_without or n_samples >= AUTO_HOLD_OUT):
            fraction = settings.validation_fraction
        # Whoever sets another share than the default means it.
        meant = settings.validation_fraction not in (None, _DEFAULT_FRACTION)
        if not n_samples and stopping and (fraction is not None or meant):
            raise ValueError(
                f"validation_fraction={settings.validation_fraction} cannot be held out of an "
                "IterableDataset or a DataLoader, which comes in an order of its own. Pass X_val, "
                "or set early_stopping=False."
            )
        if fraction is None:
            instead = monitor.replace("val_", "train_", 1)
            if not can_do_without:
                raise ValueError(
                    f"monitor={monitor!r} needs validation data, and none is held out with "
                    f"early_stopping={stopping!r} and "
                    f"validation_fraction={settings.validation_fraction!r}. Pass X_val and y_val "
                    f'to fit, set both, or monitor="{instead}".'
                )
            monitor = instead
    min_delta = settings.min_delta
    if min_delta == "auto":
        min_delta = _TRAINING_PLATEAU if monitor.startswith("train_") else 0.0
    mode = settings.mode if settings.mode != "auto" else modes[monitor.split("_", 1)[1]]
    if mode is None:
        raise ValueError(
            f'mode="auto" cannot tell whether less or more of {monitor!r} is better. Set mode to '
            '"min" or "max".'
        )
    return Watch(
        monitor=monitor,
        mode=mode,
        patience=settings.patience if stopping else math.inf,
        min_delta=min_delta,
        restore_best=bool(settings.restore_best and stopping),
    ), fraction
