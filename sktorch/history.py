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


class History:
    """Rows of an ongoing fit.

    Parameters
    ----------
    rows : list of dict, optional
        Rows of an earlier fit that this one continues.
    """

    def __init__(self, rows=()):
        self.rows = list(rows)

    def append(self, row):
        """Add the row of a finished epoch."""
        self.rows.append(row)

    @property
    def last(self):
        """The row of the latest epoch."""
        return self.rows[-1]

    def best(self, monitor, mode):
        """Return the first row with the best value of ``monitor``; not all rows need have it."""
        rows = [row for row in self.rows if monitor in row]
        worst = math.inf if mode == "min" else -math.inf
        best = None
        for row in rows:
            if is_better(row[monitor], worst if best is None else best[monitor], mode):
                best = row
        return rows[0] if best is None else best

    def to_frame(self):
        """Return a DataFrame of shape (n_epochs, n_columns); learning rate and time come last."""
        frame = pd.DataFrame(self.rows)
        last = [name for name in frame if name == "lr" or name.startswith("lr[")] + ["epoch_time"]
        return frame[[*(name for name in frame if name not in last), *last]]
