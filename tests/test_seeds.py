"""Same seed, same bits; the process's own random numbers are left alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from nets import DroppingMLP, UserMLP

from sktorch import TorchClassifier

NETS = {"mlp": "mlp", "class": UserMLP, "functional dropout": DroppingMLP}


def fit(net, data, seed=0):
    clf = TorchClassifier(net, max_epochs=3, batch_size=64, early_stopping=True, random_state=seed)
    return clf.fit(*data).predict_proba(data[0])


@pytest.mark.parametrize("net", NETS)
def test_the_same_seed_gives_the_same_bits(net, breast_cancer):
    first = fit(NETS[net], breast_cancer)
    assert np.array_equal(first, fit(NETS[net], breast_cancer))
    assert not np.array_equal(first, fit(NETS[net], breast_cancer, seed=1))
    assert not np.array_equal(
        fit(NETS[net], breast_cancer, seed=None), fit(NETS[net], breast_cancer, seed=None)
    )


@pytest.mark.parametrize("net", NETS)
def test_eight_threads_at_once_give_the_bits_of_one(net, breast_cancer):
    alone = [fit(NETS[net], breast_cancer, seed) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: fit(NETS[net], breast_cancer, i % 4), range(16)))
    for i, probabilities in enumerate(together):
        assert np.array_equal(probabilities, alone[i % 4])


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("seed", [0, None])
def test_nothing_global_changes(net, seed, breast_cancer):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), np.random.get_state()[2]
    settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    fit(NETS[net], breast_cancer, seed)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert np.random.get_state()[2] == before[2]
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()) == settings
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_a_random_state_is_drawn_from_as_in_scikit_learn(breast_cancer):
    a = fit("mlp", breast_cancer, np.random.RandomState(3))
    assert np.array_equal(a, fit("mlp", breast_cancer, np.random.RandomState(3)))


def test_a_fit_within_no_grad_still_trains(breast_cancer):
    with torch.no_grad():
        inside = fit("mlp", breast_cancer)
    assert np.array_equal(inside, fit("mlp", breast_cancer))


def test_without_a_seed_no_two_fits_are_the_same(breast_cancer):
    fits = [TorchClassifier(max_epochs=1).fit(*breast_cancer) for _ in range(2)]
    assert not torch.equal(*(fit.net_[0].weight for fit in fits))


def test_a_seed_of_numpy_is_the_number_it_is(breast_cancer):
    fits = [
        TorchClassifier(max_epochs=1, random_state=seed).fit(*breast_cancer)
        for seed in (7, np.int64(7), np.random.RandomState(7))
    ]
    for other in fits[1:]:
        assert torch.equal(fits[0].net_[0].weight, other.net_[0].weight)
