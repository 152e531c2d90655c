"""What a fit recorded, one row an epoch."""

import math

import pandas as pd

__all__ = ["History", "is_better"]


def is_better(value, reference, mode, min_delta=0.0):
    """Whether ``value`` improves on ``reference`` by more than ``min_delta``; NaN never does."""
    if math.isnan(value):
        return False
    gain = reference - value if mode == "min" else value - reference
    return gain > min_delta


def _better_row(row, best, monitor, mode):
    """Return the row with the better value, ``best`` where they are equal or ``row`` has none."""
    if monitor not in row or best is None:
        return row if best is None and monitor in row else best
    reference = best[monitor]
    if math.isnan(reference):
        reference = math.inf if mode == "min" else -math.inf
    return row if is_better(row[monitor], reference, mode) else best


class History:
    """Rows of an ongoing fit.

    Parameters
    ----------
    rows : list of dict, optional
        Rows of an earlier fit that this one continues.
    """

    def __init__(self, rows=()):
        self.rows = list(rows)
        self._best = {}

    def append(self, row):
        """Add the row of a finished epoch."""
        self.rows.append(row)

    @property
    def last(self):
        """The row of the latest epoch."""
        return self.rows[-1]

    def best(self, monitor, mode):
        """Return the first row with the best value of ``monitor``; not all rows need have it."""
        # Asked each epoch, so that rows that are finished are looked at once.
        n_finished = len(self.rows) - 1
        seen, best = self._best.get(f"{mode} {monitor}", (0, None))
        for row in self.rows[seen:n_finished]:
            best = _better_row(row, best, monitor, mode)
        self._best[f"{mode} {monitor}"] = n_finished, best
        return _better_row(self.last, best, monitor, mode)

    def to_frame(self):
        """Return a DataFrame of shape (n_epochs, n_columns); learning rate and time come last."""
        frame = pd.DataFrame(self.rows)
        last = [name for name in frame if name == "lr" or name.startswith("lr[")] + ["epoch_time"]
        return frame[[*(name for name in frame if name not in last), *last]]
