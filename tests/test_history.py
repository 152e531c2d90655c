"""The record of a fit: which row is the best, and what asking costs."""

import math

import pytest

from sktorch.history import History

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([3.0, 1.0, 2.0, 1.0], "min", 1),
        ([3.0, 1.0, 3.0, 2.0], "max", 0),
        ([NAN, 2.0, NAN, 1.0], "min", 3),
        ([NAN, NAN], "max", 0),
        ([INF, INF, 5.0], "min", 2),
        ([None, 4.0, None, 3.0, None], "min", 3),
    ],
)
def test_the_best_row_is_the_first_with_the_best_value(values, mode, best):
    history = History()
    for value in values:
        history.append({} if value is None else {"loss": value})
        if any("loss" in row for row in history.rows):
            history.best("loss", mode)
    assert history.best("loss", mode) is history.rows[best]


def test_what_a_callback_adds_to_the_last_row_counts():
    history = History([{"loss": 1.0, "score": 5.0}, {"loss": 2.0}])
    assert history.best("score", "max")["loss"] == 1.0
    history.last["score"] = 6.0
    assert history.best("score", "max")["loss"] == 2.0


def test_the_ten_thousandth_epoch_costs_what_the_tenth_does():
    class Counted(dict):
        looks = 0

        def __contains__(self, key):
            Counted.looks += 1
            return super().__contains__(key)

    history = History()
    for epoch in range(1000):
        history.append(Counted(loss=1.0 / (epoch + 1)))
        history.best("loss", "min")
    assert Counted.looks < 5000
