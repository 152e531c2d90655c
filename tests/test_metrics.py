"""Metrics have scikit-learn's values, over whole epochs, in the user's units."""

import numpy as np
import pytest
import torch
import torchmetrics
from nets import UserMLP
from sklearn import metrics as sk
from sklearn.datasets import make_multilabel_classification

from sktorch import TorchClassifier, TorchRegressor
from sktorch.metrics import METRICS, Problem, named_metrics

CLASSIFICATION = [name for name, entry in METRICS.items() if not entry.regression]
REGRESSION = [name for name, entry in METRICS.items() if entry.regression]


def averaged(score, average):
    return lambda y, p, label: score(y, label, average=average, zero_division=0)


def harmonic(plain):
    """Return references of f1, precision and recall, those without a suffix averaged ``plain``."""
    scores = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
    suffixed = {f"_{average}": average for average in ("macro", "micro", "weighted")}
    return {
        f"{name}{suffix}": averaged(score, average)
        for name, score in scores.items()
        for suffix, average in {"": plain, **suffixed}.items()
    }


# From labels y, probabilities p and predicted labels to a number.
BINARY = {
    "accuracy": lambda y, p, label: sk.accuracy_score(y, label),
    "balanced_accuracy": lambda y, p, label: sk.balanced_accuracy_score(y, label),
    "auroc": lambda y, p, label: sk.roc_auc_score(y, p[:, 1]),
    "average_precision": lambda y, p, label: sk.average_precision_score(y, p[:, 1]),
    **harmonic("binary"),
    "matthews_corrcoef": lambda y, p, label: sk.matthews_corrcoef(y, label),
    "cohen_kappa": lambda y, p, label: sk.cohen_kappa_score(y, label),
    "neg_log_loss": lambda y, p, label: -sk.log_loss(y, p),
    "roc_auc": lambda y, p, label: sk.roc_auc_score(y, p[:, 1]),
}
MULTICLASS = {
    **BINARY,
    "auroc": lambda y, p, label: sk.roc_auc_score(y, p, multi_class="ovr"),
    "average_precision": lambda y, p, label: sk.average_precision_score(np.eye(10)[y], p),
    **harmonic("macro"),
    "roc_auc_ovr": lambda y, p, label: sk.roc_auc_score(y, p, multi_class="ovr"),
}
del MULTICLASS["roc_auc"]


def check(clf, X, y, references):
    """Compare the last epoch's validation values, and ``evaluate``, with scikit-learn's."""
    p, label = clf.predict_proba(X), clf.predict(X)
    evaluated = clf.evaluate(X, y)
    for name, reference in references.items():
        expected = reference(y, p, label)
        assert clf.history_[f"val_{name}"].iloc[-1] == pytest.approx(expected, abs=1e-6), name
        assert evaluated[name] == pytest.approx(expected, abs=1e-6), name
    assert set(evaluated) == {"loss", *references}


def test_every_classification_metric_is_listed_with_a_reference():
    assert {*CLASSIFICATION} <= {*BINARY} & {*MULTICLASS}


@pytest.mark.parametrize("net", ["mlp", torch.nn.Linear(30, 1)], ids=["two logits", "one logit"])
def test_metrics_of_two_classes_are_scikit_learns(net, breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(net, metrics=[*BINARY], max_epochs=2, early_stopping=False, lr=0.003)
    check(clf.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:]), X[300:], y[300:], BINARY)


def test_metrics_of_ten_classes_are_scikit_learns(digits):
    X, y = digits
    clf = TorchClassifier(metrics=[*MULTICLASS], max_epochs=3, early_stopping=False)
    check(clf.fit(X[:900], y[:900], X_val=X[900:], y_val=y[900:]), X[900:], y[900:], MULTICLASS)


def test_metrics_of_labels_side_by_side_are_scikit_learns():
    X, y = make_multilabel_classification(300, n_classes=4, random_state=0)
    clf = TorchClassifier(
        metrics=["accuracy", "auroc", "f1"], max_epochs=30, lr=0.01, early_stopping=False
    ).fit(X, y, X_val=X, y_val=y)
    references = {
        "accuracy": lambda y, p, label: sk.accuracy_score(y, label),
        "auroc": lambda y, p, label: sk.roc_auc_score(y, p),
        "f1": averaged(sk.f1_score, "macro"),
    }
    check(clf, X, y, references)
    assert clf.evaluate(X, y)["accuracy"] == pytest.approx(clf.score(X, y))


VALUES = {
    "r2": sk.r2_score,
    "explained_variance": sk.explained_variance_score,
    "mean_squared_error": sk.mean_squared_error,
    "root_mean_squared_error": sk.root_mean_squared_error,
    "mean_absolute_error": sk.mean_absolute_error,
    "mean_absolute_percentage_error": sk.mean_absolute_percentage_error,
    "pearson_corrcoef": lambda y, p: np.corrcoef(y, p)[0, 1],
    "neg_median_absolute_error": lambda y, p: -sk.median_absolute_error(y, p),
}


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gaussian_nll"])
def test_metrics_of_values_are_scikit_learns_in_the_units_of_y(loss, diabetes):
    X, y = diabetes
    y = y * 100 + 1e4 + np.arange(len(y)) / 1000
    assert {*REGRESSION} <= {*VALUES}
    reg = TorchRegressor(
        loss=loss, metrics=[*VALUES], max_epochs=5, lr=0.01, early_stopping=False, random_state=0
    ).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    predicted, values = reg.predict(X[300:]), reg.evaluate(X[300:], y[300:])
    for name, reference in VALUES.items():
        expected = reference(y[300:], predicted)
        assert reg.history_[f"val_{name}"].iloc[-1] == pytest.approx(expected, rel=1e-6)
        assert values[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1e-6, 0), (1, 1e8), (1e-6, 1e3)])
def test_several_outputs_of_any_size_have_one_value(scale, shift, diabetes):
    X, y = diabetes
    Y = np.c_[y, -y, y * 1000] * scale + shift
    names = ["r2", "explained_variance", "root_mean_squared_error", "pearson_corrcoef"]
    reg = TorchRegressor(metrics=names, lr=0.02, max_epochs=10, random_state=0).fit(X, Y)
    values, predicted = reg.evaluate(X, Y), reg.predict(X)
    for name in names[:3]:
        assert values[name] == pytest.approx(VALUES[name](Y, predicted), rel=1e-6)
    pairs = zip(Y.T, predicted.T, strict=True)
    mean = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert values["pearson_corrcoef"] == pytest.approx(mean, rel=1e-6)


def test_an_undefined_area_is_nan_and_never_the_best(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(metrics="auroc", monitor="val_auroc", max_epochs=3)
    clf.fit(X, y, X_val=X[y == 1], y_val=y[y == 1])
    assert clf.history_["val_auroc"].isna().all()
    assert np.isnan(
        TorchClassifier(metrics="auroc", max_epochs=1)
        .fit(X, y)
        .evaluate(X[y == 0], y[y == 0])["auroc"]
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_scorers_of_labels_side_by_side():
    X, y = make_multilabel_classification(200, n_classes=4, random_state=0)
    clf = TorchClassifier(metrics="f1_samples", max_epochs=20, lr=0.01).fit(X, y)
    expected = sk.f1_score(y, clf.predict(X), average="samples", zero_division=0)
    assert clf.evaluate(X, y)["f1_samples"] == pytest.approx(expected)


def test_a_metric_for_other_data_is_named(breast_cancer, digits):
    with pytest.raises(ValueError, match=r"metrics: 'acc' failed .*this kind of data"):
        TorchClassifier(metrics={"acc": torchmetrics.Accuracy(task="binary")}).fit(*digits)


def test_a_metric_of_validation_that_is_monitored_is_validated(breast_cancer):
    clf = TorchClassifier(metrics="auroc", monitor="val_auroc", max_epochs=2)
    assert "val_auroc" in clf.fit(*breast_cancer).history_
    with pytest.raises(ValueError, match=r"monitor='val_auroc' needs .*X_val"):
        clf.set_params(early_stopping=False).fit(*breast_cancer)


def test_training_values_are_over_the_whole_epoch(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(metrics=["auroc", "accuracy"], lr=0, max_epochs=2, batch_size=50)
    clf.fit(X, y)
    auroc = sk.roc_auc_score(y, clf.predict_proba(X)[:, 1])
    assert clf.history_["train_auroc"].tolist() == pytest.approx([auroc] * 2)
    assert clf.history_["train_accuracy"].tolist() == pytest.approx([clf.score(X, y)] * 2)


def test_columns_stand_in_their_order(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(metrics=["f1", "auroc"], max_epochs=1, early_stopping=True).fit(X, y)
    assert list(clf.history_) == [
        "epoch",
        *("train_loss", "train_f1", "train_auroc"),
        *("val_loss", "val_f1", "val_auroc"),
        *("lr", "epoch_time"),
    ]


def test_a_monitored_metric_knows_its_direction(breast_cancer, diabetes):
    X, y = breast_cancer
    clf = TorchClassifier(
        metrics="auroc", monitor="val_auroc", early_stopping=True, patience=3, lr=0.02
    ).fit(X, y)
    values = clf.history_["val_auroc"]
    assert clf.best_score_ == values.max()
    assert clf.best_epoch_ == values.argmax() + 1
    X, y = diabetes
    reg = TorchRegressor(
        metrics={"mae": "mean_absolute_error"}, monitor="val_mae", early_stopping=True, lr=0.02
    ).fit(X, y)
    assert reg.best_score_ == reg.history_["val_mae"].min()
    best = TorchClassifier(metrics="neg_log_loss", monitor="train_neg_log_loss", max_epochs=3)
    assert best.fit(*breast_cancer).best_epoch_ == 3


def test_objects_and_dicts_of_torchmetrics(breast_cancer):
    X, y = breast_cancer
    given = torchmetrics.classification.BinaryFBetaScore(beta=2.0)
    many = torchmetrics.Accuracy(task="multiclass", num_classes=2, average="none")
    metrics = {"fbeta": given, "acc": torchmetrics.Accuracy(task="multiclass", num_classes=2)}
    clf = TorchClassifier(metrics=metrics, max_epochs=2).fit(X, y)
    values = clf.evaluate(X, y)
    assert values["fbeta"] == pytest.approx(sk.fbeta_score(y, clf.predict(X), beta=2), abs=1e-6)
    assert values["acc"] == pytest.approx(clf.score(X, y), abs=1e-6)
    assert given.update_count == 0
    listed = TorchClassifier(metrics=[given], max_epochs=1).fit(X, y)
    assert "train_binary_f_beta_score" in listed.history_
    with pytest.raises(ValueError, match=r"metrics: 'many' must compute one number"):
        TorchClassifier(metrics={"many": many}).fit(X, y)


def test_evaluate_gives_the_loss_of_given_rows_and_weights(breast_cancer):
    X, y = breast_cancer
    w = np.linspace(0, 2, len(y))
    clf = TorchClassifier(max_epochs=3).fit(X, y)
    log_p = -clf.predict_log_proba(X)[np.arange(len(y)), y]
    assert clf.evaluate(X, y) == {"loss": pytest.approx(log_p.mean())}
    assert clf.evaluate(X, y, w)["loss"] == pytest.approx(np.average(log_p, weights=w))
    trained = TorchClassifier(loss="adaptive_log_softmax", max_epochs=3, lr=0.01).fit(X, y)
    log_p = -trained.predict_log_proba(X)[np.arange(len(y)), y]
    assert trained.evaluate(X, y)["loss"] == pytest.approx(log_p.mean())


def test_metrics_change_nothing_of_the_training(breast_cancer):
    X, y = breast_cancer
    settings = {"max_epochs": 3, "random_state": 0, "batch_size": 50}
    bare = TorchClassifier(UserMLP, **settings).fit(X, y)
    watched = TorchClassifier(UserMLP, metrics=["auroc"], **settings).fit(X, y)
    assert np.array_equal(bare.predict_proba(X), watched.predict_proba(X))


def test_unknown_names_list_the_known(breast_cancer, diabetes):
    X, y = breast_cancer
    with pytest.raises(ValueError, match=r"metrics: 'acuracy' .*binary.*accuracy, .*scikit-learn"):
        TorchClassifier(metrics=["acuracy"]).fit(X, y)
    with pytest.raises(ValueError, match=r"metrics: 'auroc' .*regression.*r2"):
        TorchRegressor(metrics="auroc").fit(*diabetes)
    with pytest.raises(ValueError, match=r"monitor='val_f2'.*val_loss, val_auroc"):
        TorchClassifier(metrics="auroc", monitor="val_f2").fit(X, y)
    with pytest.raises(ValueError, match=r"monitor='val_auroc' needs.*X_val"):
        TorchClassifier(
            metrics="auroc", monitor="val_auroc", early_stopping=True, validation_fraction=None
        ).fit(X, y)
    with pytest.raises(ValueError, match=r"metrics has two of one name"):
        TorchClassifier(metrics=["auroc", "auroc"]).fit(X, y)
    with pytest.raises(ValueError, match=r'"loss" is taken'):
        TorchClassifier(metrics={"loss": "auroc"}).fit(X, y)
    with pytest.raises(ValueError, match=r'mode="auto" cannot tell'):
        TorchClassifier(
            metrics={"m": torchmetrics.classification.BinaryStatScores()}, monitor="train_m"
        ).fit(X, y)


def test_every_name_builds_for_its_kind():
    for name, entry in METRICS.items():
        kind = "regression" if entry.regression else "multiclass"
        measure = named_metrics(name, Problem(kind, 3))[name]
        assert isinstance(measure.metric, torchmetrics.Metric)
        assert measure.mode in ("min", "max")
