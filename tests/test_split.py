"""Held-out rows: as many as asked for, at random, in the shares of the classes."""

import numpy as np
import pytest

from sktorch.data.split import hold_out


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n_classes", [None, 2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_both_parts_have_their_size_and_their_share_of_each_class(fraction, n_classes, seed):
    labels = None
    if n_classes is not None:
        # Each class twice at least.
        drawn = np.random.default_rng(seed).integers(n_classes, size=200)
        labels = np.concatenate([np.arange(n_classes), np.arange(n_classes), drawn])
    n_samples = 200 if labels is None else len(labels)
    train, held_out = hold_out(n_samples, fraction, seed, labels)
    assert len(held_out) == max(1, round(fraction * n_samples))
    assert np.array_equal(np.sort([*train, *held_out]), np.arange(n_samples))
    if labels is not None:
        expected = np.bincount(labels) * len(held_out) / n_samples
        assert abs(np.bincount(labels[held_out], minlength=n_classes) - expected).max() < 1


def test_each_row_is_held_out_as_often_as_any_other():
    labels = np.repeat([0, 1, 2], [10, 30, 60])
    counts = np.zeros(100)
    for seed in range(2000):
        counts[hold_out(100, 0.1, seed, labels)[1]] += 1
    assert abs(counts - 200).max() < 6 * np.sqrt(200 * 0.9)


def test_a_class_of_one_sample_is_trained_on():
    labels = np.array([*np.repeat([0, 1], 50), 2])
    for seed in range(100):
        assert 100 in hold_out(101, 0.3, seed, labels)[0]


def test_held_out_rows_depend_on_the_seed_alone():
    labels = np.arange(1000) % 3
    first, again, other = (hold_out(1000, 0.1, seed, labels)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
