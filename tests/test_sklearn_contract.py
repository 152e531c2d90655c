"""scikit-learn's own check suite: nothing fails, nothing is skipped, nothing is excused."""

import copy
import warnings

import joblib
import pytest
import torch
from nets import UserMLP, make_mlp
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_param_validation,
)

from sktorch import TorchClassifier, TorchRegressor

# A class or factory keeps the float32 that torch builds in; the suite compares to 1e-7.
ESTIMATORS = {
    "classifier": TorchClassifier(),
    "regressor": TorchRegressor(),
    "classifier-class": TorchClassifier(UserMLP, dtype="float64", lr=0.01),
    "regressor-class": TorchRegressor(UserMLP, dtype="float64", lr=0.01),
    "classifier-factory": TorchClassifier(make_mlp, dtype="float64", lr=0.01),
    "regressor-factory": TorchRegressor(make_mlp, dtype="float64", lr=0.01),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_check_of_scikit_learn_passes(name):
    with warnings.catch_warnings():
        # The suite itself converts, scales and deprecates; what counts is what it asserts.
        warnings.simplefilter("ignore")
        results = check_estimator(ESTIMATORS[name], on_skip=None, on_fail=None)
    assert len(results) > 50
    excused = [(r["check_name"], r["status"]) for r in results if r["status"] != "passed"]
    assert excused == []


@pytest.mark.parametrize("estimator", [TorchClassifier(), TorchRegressor()], ids=str)
@pytest.mark.parametrize(
    "check", [check_dataframe_column_names_consistency, check_param_validation]
)
def test_checks_beside_the_suite_pass(estimator, check):
    if check is check_param_validation:
        estimator = estimator.set_params(max_epochs=2)
    check(type(estimator).__name__, clone(estimator))


def test_an_instance_is_the_same_object_with_the_same_weights_after_fit(breast_cancer):
    # joblib.hash of a tensor depends on its address, so that the suite's own check of unchanged
    # parameters cannot be asked of an instance; its weights can be compared.
    net = UserMLP(30, 2)
    before = copy.deepcopy(net.state_dict())
    clf = TorchClassifier(net, max_epochs=3).fit(*breast_cancer)
    assert clf.net is net
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert net.training
    assert all(p.grad is None for p in net.parameters())


def test_the_hash_of_an_estimator_is_that_of_its_numbers(breast_cancer):
    clf = TorchClassifier(UserMLP(30, 2), max_epochs=2, random_state=0).fit(*breast_cancer)
    assert joblib.hash(clf) == joblib.hash(copy.deepcopy(clf))
    assert joblib.hash(clf) != joblib.hash(
        copy.deepcopy(clf).fit(breast_cancer[0], breast_cancer[1] == 0)
    )
