"""The main job: Pipeline, searches, cross-validation and meta-estimators, as with any estimator."""

import numpy as np
import pandas as pd
import pytest
from nets import UserCNN, UserMLP
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingRegressor, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktorch import TorchClassifier, TorchRegressor


def fast(**settings):
    return TorchClassifier(**{"lr": 0.01, "max_epochs": 10, "random_state": 0, **settings})


def test_a_grid_over_lr_and_patience_in_a_pipeline(breast_cancer):
    X, y = breast_cancer
    pipe = make_pipeline(StandardScaler(), fast(loss="focal", early_stopping=True))
    grid = {
        "torchclassifier__lr": [1e-5, 1e-2],
        "torchclassifier__patience": [1, 5],
        "torchclassifier__net__hidden_layer_sizes": [(8,)],
        "torchclassifier__loss__gamma": [1.0],
    }
    search = GridSearchCV(pipe, grid, cv=3).fit(X, y)
    assert search.best_params_["torchclassifier__lr"] == 1e-2
    assert search.best_score_ > 0.95
    assert search.best_estimator_[-1].net_[0].out_features == 8


@pytest.mark.slow
def test_a_search_in_several_processes_gives_the_scores_of_one(breast_cancer):
    X, y = breast_cancer
    net = UserMLP(30, 2)
    searches = [
        GridSearchCV(fast(net=net), {"lr": [1e-3, 1e-2]}, cv=3, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [s.cv_results_["mean_test_score"] for s in searches]
    assert np.array_equal(*scores)


def test_images_through_a_pipeline(digits):
    X, y = digits
    reshape = FunctionTransformer(lambda X: X.reshape(-1, 1, 8, 8))
    scores = cross_val_score(make_pipeline(reshape, fast(net=UserCNN)), X, y, cv=2)
    assert scores.min() > 0.85


def test_optimizer_and_its_parameters_are_set_in_one_call():
    clf = fast().set_params(optimizer__momentum=0.9, optimizer="sgd", net__hidden_layer_sizes=3)
    assert clf.get_params()["optimizer__momentum"] == 0.9
    assert "optimizer__momentum=0.9" in repr(clf)


META = {
    "voting": lambda: VotingClassifier([("a", fast()), ("b", LogisticRegression())], voting="soft"),
    "calibrated": lambda: CalibratedClassifierCV(fast(), cv=2),
    "one against the rest": lambda: OneVsRestClassifier(fast()),
}


@pytest.mark.parametrize("name", META)
def test_meta_estimators_take_it_as_any_other(name, breast_cancer):
    X, y = breast_cancer
    assert META[name]().fit(X, y).score(X, y) > 0.95


def test_bagging_and_out_of_fold_predictions(diabetes):
    X, y = diabetes
    reg = TorchRegressor(lr=0.01, max_epochs=20, random_state=0)
    assert BaggingRegressor(reg, 3, random_state=0).fit(X, y).score(X, y) > 0.4
    assert np.corrcoef(cross_val_predict(reg, X, y, cv=3), y)[0, 1] > 0.5


def test_weights_are_routed(breast_cancer):
    X, y = breast_cancer
    w = np.where(y == 1, 1.0, 0.0) + 1e-3
    with config_context(enable_metadata_routing=True):
        clf = fast().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_val_score(clf, X, y, params={"sample_weight": w}, cv=2)
    assert scores.min() > 0.98


def as_memmap(X, tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r")


FORMS = {
    "list": lambda X, _: X.tolist(),
    "frame": lambda X, _: pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])]),
    "fortran": lambda X, _: np.asfortranarray(X),
    "strided": lambda X, _: np.repeat(X, 2, axis=1)[:, ::2],
    "sparse": lambda X, _: csr_array(X),
    "read-only map": as_memmap,
}


@pytest.mark.parametrize("form", FORMS)
def test_X_in_any_form_gives_the_same_bits(form, breast_cancer, tmp_path):
    X, y = breast_cancer
    given = FORMS[form](X, tmp_path)
    clf = fast().fit(given, y)
    plain = fast().fit(X, y)
    assert np.array_equal(clf.predict_proba(given), plain.predict_proba(X))


def test_names_of_columns_are_kept_and_compared(breast_cancer):
    X, y = breast_cancer
    frame = FORMS["frame"](X, None)
    clf = fast().fit(frame, y)
    assert clf.feature_names_in_.tolist() == list(frame)
    with pytest.raises(ValueError, match=r"feature names should match"):
        clf.predict(frame.rename(columns={"f0": "g0"}))
    assert not hasattr(clf.fit(X, y), "feature_names_in_")


def test_X_is_never_written_to(breast_cancer):
    X, y = breast_cancer
    before = X.copy(), y.copy()
    X.flags.writeable = False
    fast().fit(X, y).predict(X)
    X.flags.writeable = True
    fast().fit(X, y).predict(X)
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])


def test_weights_are_copies_with_equal_results(breast_cancer):
    X, y = breast_cancer[0][:150], breast_cancer[1][:150]
    k = np.arange(150) % 3
    for clf in (fast(), fast(class_weight="balanced"), fast(loss="focal")):
        clf.set_params(batch_size=1000)
        weighted = clf.fit(X, y, sample_weight=k).predict_proba(X)
        copied = clf.fit(np.repeat(X, k, axis=0), np.repeat(y, k)).predict_proba(X)
        np.testing.assert_allclose(weighted, copied, rtol=1e-7)
