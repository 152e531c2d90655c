"""Labels and values of every kind, in and out."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from sktorch import TorchClassifier, TorchRegressor

LABELS = {
    "strings": np.array(["benign", "malignant"]),
    "objects": np.array(["benign", "malignant"], dtype=object),
    "objects of int": np.array([3, 7], dtype=object),
    "bools": np.array([False, True]),
    "signs": np.array([-1, 1]),
    "floats": np.array([1.0, 2.0]),
    "gaps": np.array([-100, 40_000]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_were_given(kind, breast_cancer):
    X, y = breast_cancer
    labels = LABELS[kind]
    clf = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X, labels[y])
    assert clf.classes_.tolist() == labels.tolist()
    assert (clf.predict(X) == labels[y]).mean() > 0.95
    assert set(clf.predict(X)) <= set(labels)
    same = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(X, y)
    assert np.array_equal(clf.predict_proba(X), same.predict_proba(X))


@pytest.mark.parametrize("dtype", ["category", "string", "Int64", "boolean"])
def test_labels_of_pandas(dtype, breast_cancer):
    X, y = breast_cancer
    values = pd.Series(y).astype({"string": str, "boolean": bool}.get(dtype, int)).astype(dtype)
    clf = TorchClassifier(lr=0.01, max_epochs=20, random_state=0).fit(pd.DataFrame(X), values)
    assert len(clf.classes_) == 2
    assert (clf.predict(X) == np.asarray(values)).mean() > 0.95


def test_a_multilabel_indicator_gives_one_probability_a_label():
    X, y = make_multilabel_classification(n_samples=400, n_classes=4, random_state=0)
    X = StandardScaler().fit_transform(X)
    for loss in ("cross_entropy", "bce", "focal"):
        clf = TorchClassifier(loss=loss, lr=0.01, max_epochs=50, random_state=0).fit(X, y)
        p = clf.predict_proba(X)
        assert p.shape == y.shape
        assert np.array_equal(clf.predict(X), (p > 0.5).astype(int))
        assert (clf.predict(X) == y).mean() > 0.85
        assert clf.n_outputs_ == 4


def test_log_probabilities_do_not_underflow(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(lr=0.1, max_epochs=20, random_state=0).fit(X, y)
    log_p = clf.predict_log_proba(X * 1e4)
    assert np.isfinite(log_p).all()
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), clf.predict_proba(X))


@pytest.mark.parametrize("shape", [(442,), (442, 1), (442, 3)])
def test_predictions_have_the_shape_and_the_units_of_y(shape, diabetes):
    X, y = diabetes
    y = np.resize(y, shape[::-1]).T if len(shape) > 1 else y
    reg = TorchRegressor(lr=0.01, random_state=0).fit(X, y * 1000 + 1e6)
    predicted = reg.predict(X)
    assert predicted.shape == shape
    assert predicted.dtype == np.float64
    assert reg.score(X, y * 1000 + 1e6) > 0.5


def test_scaling_of_the_target_cancels_out(diabetes):
    X, y = diabetes
    reg = TorchRegressor(lr=0.01, max_epochs=20, random_state=0)
    plain = reg.fit(X, y).predict(X)
    np.testing.assert_allclose(reg.fit(X, 3 * y - 7).predict(X), 3 * plain - 7, rtol=1e-6)
    by_hand = TorchRegressor(lr=0.01, max_epochs=20, random_state=0, target_scaling=None)
    z = (y - y.mean()) / y.std()
    np.testing.assert_allclose(by_hand.fit(X, z).predict(X) * y.std() + y.mean(), plain, rtol=1e-9)


def test_a_constant_target_is_learned(diabetes):
    X, _ = diabetes
    reg = TorchRegressor(max_epochs=5, random_state=0).fit(X, np.full(len(X), 5.0))
    assert np.isfinite(reg.predict(X)).all()


def test_balanced_class_weights_are_weights_of_the_samples(breast_cancer):
    X, y = breast_cancer
    X, y = np.r_[X[y == 1], X[y == 0][:20]], np.r_[np.ones(357), np.zeros(20)]
    balanced = len(y) / (2 * np.where(y == 1, 357, 20))
    settings = {"max_epochs": 5, "random_state": 0}
    a = TorchClassifier(class_weight="balanced", **settings).fit(X, y)
    b = TorchClassifier(**settings).fit(X, y, sample_weight=balanced)
    c = TorchClassifier(class_weight={0: balanced[-1], 1: balanced[0]}, **settings).fit(X, y)
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))
    np.testing.assert_allclose(a.predict_proba(X), c.predict_proba(X), rtol=1e-12)


# scikit-learn's accuracy takes no objects but strings.
@pytest.mark.parametrize("kind", [kind for kind in LABELS if kind != "objects of int"])
@pytest.mark.parametrize("form", [np.asarray, list])
def test_score_is_the_accuracy_of_predict(kind, form):
    X, y = make_classification(60, random_state=0)
    y = form(LABELS[kind][y])
    clf = TorchClassifier(max_epochs=3, random_state=0).fit(X, y)
    score = clf.score(X[:31], y[:31])
    assert score == accuracy_score(y[:31], clf.predict(X[:31]))
    assert 0 < score < 1
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.score(X, y[:31])


def test_scores_of_several_labels_are_those_of_whole_rows():
    X, Y = make_multilabel_classification(40, n_classes=3, random_state=0)
    clf = TorchClassifier(max_epochs=5, random_state=0).fit(X, Y)
    assert clf.score(X, Y) == accuracy_score(Y, clf.predict(X))
    with pytest.raises(ValueError, match="mix of"):
        clf.score(X, Y[:, 0])
