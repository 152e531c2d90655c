"""A series: eight days predict the next, validated in the order of time.

Run with ``python examples/windows.py``; it takes some seconds on two cores.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import TimeSeriesSplit, cross_val_score
from torch import nn

from sktorch import TorchRegressor
from sktorch.preprocessing import make_windows


def days(n_days, seed=0):
    """Return invented daily counts with a week, a year and a trend in them."""
    rng = np.random.default_rng(seed)
    day = np.arange(n_days)
    week = 20 * np.isin(day % 7, (5, 6))
    year = 30 * np.sin(2 * np.pi * day / 365)
    noise = np.zeros(n_days)
    for i in range(1, n_days):
        noise[i] = 0.6 * noise[i - 1] + rng.normal(0, 3)
    return pd.Series(200 + 0.02 * day + week + year + noise)


class Recurrent(nn.Module):
    """Windows of shape (n, days) to the day that follows."""

    def __init__(self, width=16):
        super().__init__()
        self.scale = nn.BatchNorm1d(1)
        self.recurrent = nn.LSTM(1, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        x = self.scale(x.unsqueeze(1)).transpose(1, 2)
        _, (last, _) = self.recurrent(x)
        return self.head(last[-1])


def main():
    """Print errors on the last days, of the net and of those who know less."""
    changes = days(1200).diff().dropna()
    X_train, X_test, y_train, y_test = make_windows(changes, window=8, test_size=200)
    reg = TorchRegressor(
        Recurrent, lr=0.01, batch_size=64, max_epochs=60, patience=15, random_state=0
    )
    # The latest windows that are trained on tell when to stop.
    reg.fit(X_train[:-150], y_train[:-150], X_val=X_train[-150:], y_val=y_train[-150:])
    errors = {
        "no change": mean_absolute_error(y_test, np.zeros(len(y_test))),
        "the change of a week before": mean_absolute_error(y_test, X_test[:, -7]),
        "the net": mean_absolute_error(y_test, reg.predict(X_test)),
    }
    print(pd.Series(errors, name="mean absolute error").round(2).to_string())
    print(f"stopped after {reg.n_iter_} epochs; the best was {reg.best_epoch_}")
    scores = cross_val_score(reg.set_params(max_epochs=30), X_train, y_train, cv=TimeSeriesSplit(3))
    print(f"R2 by TimeSeriesSplit: {scores.round(2)}")
    assert errors["the net"] < 0.8 * min(errors["no change"], errors["the change of a week before"])


if __name__ == "__main__":
    main()
