"""Displays draw what was recorded, on the axes given, and leave the estimator as it was."""

import sys

import matplotlib
import numpy as np
import pytest
import torch
from nets import UserCNN
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktorch import TorchClassifier
from sktorch.display import FeatureMapDisplay, HistoryDisplay, SearchDisplay

matplotlib.use("Agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images(digits):
    X, y = digits
    return X[:300].reshape(-1, 1, 8, 8), y[:300]


@pytest.fixture(scope="module")
def fitted(images):
    return TorchClassifier(UserCNN, lr=0.01, max_epochs=6, early_stopping=True, random_state=0).fit(
        *images
    )


def grid_of(estimator, grid, data, **settings):
    X, y = data
    return GridSearchCV(estimator, grid, cv=2, **settings).fit(X[:200], y[:200])


# Curves -----------------------------------------------------------------------------------------


def test_curves_are_the_columns_of_the_history(fitted):
    display = HistoryDisplay.from_estimator(fitted)
    assert [line.get_label() for line in display.lines_] == ["train_loss", "val_loss"]
    for line in display.lines_:
        assert_array_equal(line.get_xdata(), fitted.history_["epoch"])
        assert_array_equal(line.get_ydata(), fitted.history_[line.get_label()])
    assert set(display.best_line_.get_xdata()) == {fitted.best_epoch_}
    assert display.ax_.get_xlabel() == "Epoch"
    assert display.ax_.get_ylabel() == "loss"


def test_curves_without_validation_are_of_training_alone(images):
    clf = TorchClassifier(UserCNN, max_epochs=1, early_stopping=False).fit(*images)
    display = HistoryDisplay.from_estimator(clf)
    assert [line.get_label() for line in display.lines_] == ["train_loss"]


def test_any_column_of_the_history_can_be_drawn(fitted):
    display = HistoryDisplay.from_estimator(fitted, metric="lr", color="red")
    assert [line.get_label() for line in display.lines_] == ["lr"]
    assert display.lines_[0].get_color() == "red"


def test_an_unknown_metric_lists_those_recorded(fitted):
    with pytest.raises(ValueError, match=r"metric='los' was not recorded. Recorded: .*loss, lr"):
        HistoryDisplay.from_estimator(fitted, metric="los")


def test_curves_are_found_in_a_pipeline_and_a_search(images):
    X, y = images
    clf = TorchClassifier(max_epochs=2, random_state=0)
    pipe = Pipeline([("scale", StandardScaler()), ("clf", clf)])
    search = GridSearchCV(pipe, {"clf__lr": [0.01]}, cv=2).fit(X.reshape(len(X), -1), y)
    display = HistoryDisplay.from_estimator(search)
    recorded = search.best_estimator_[-1].history_["train_loss"]
    assert_array_equal(display.lines_[0].get_ydata(), recorded)


@pytest.mark.parametrize("estimator", [TorchClassifier(), Pipeline([("clf", TorchClassifier())])])
def test_curves_need_a_fitted_estimator(estimator):
    with pytest.raises(NotFittedError):
        HistoryDisplay.from_estimator(estimator)


def test_curves_need_an_estimator_of_ours(images):
    X, y = images
    other = LogisticRegression(max_iter=1000).fit(X.reshape(len(X), -1), y)
    with pytest.raises(TypeError, match="got LogisticRegression"):
        HistoryDisplay.from_estimator(other)


def test_every_display_draws_on_the_axes_given(fitted, images):
    search = grid_of(TorchClassifier(UserCNN, max_epochs=1), {"lr": [0.01]}, images)
    draw = [
        lambda ax: HistoryDisplay.from_estimator(fitted, ax=ax),
        lambda ax: FeatureMapDisplay.from_estimator(fitted, images[0], ax=ax),
        lambda ax: SearchDisplay.from_search(search, ax=ax),
    ]
    figure, axes = plt.subplots(1, 3)
    for make, ax in zip(draw, axes, strict=True):
        display = make(ax)
        assert display.ax_ is ax
        assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure


def test_a_missing_matplotlib_says_what_to_install(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "sktorch\[plot\]"'):
        HistoryDisplay.from_estimator(fitted)


# Feature maps -----------------------------------------------------------------------------------


def test_feature_maps_are_what_the_layer_gives(fitted, images):
    X, _ = images
    display = FeatureMapDisplay.from_estimator(fitted, X, sample=7)
    with torch.no_grad():
        expected = fitted.net_.conv(torch.from_numpy(X[7:8]))[0, :4].numpy()
    assert_allclose(display.maps, expected, rtol=1e-6)
    assert display.layer == "conv"
    assert len(display.images_) == len(display.axes_) == 4
    assert_array_equal(display.images_[2].get_array(), display.maps[2])


def test_as_many_maps_are_drawn_as_asked_for_and_as_there_are(fitted, images):
    for asked, drawn in {1: 1, 6: 6, 100: 8}.items():
        display = FeatureMapDisplay.from_estimator(fitted, images[0], max_maps=asked)
        assert len(display.axes_) == drawn


def hooks_of(net):
    return [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_hooks_are_removed_also_after_an_error(fitted, images):
    FeatureMapDisplay.from_estimator(fitted, images[0])
    assert hooks_of(fitted.net_) == []
    with pytest.raises(ValueError, match="forward of UserCNN failed"):
        FeatureMapDisplay.from_estimator(fitted, np.ones((2, 1, 3)))
    assert hooks_of(fitted.net_) == []


def test_an_unknown_layer_lists_the_convolution_layers(images):
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.LazyLinear(10)
    )
    clf = TorchClassifier(net, max_epochs=1).fit(*images)
    assert FeatureMapDisplay.from_estimator(clf, images[0], "2").maps.shape == (3, 4, 4)
    with pytest.raises(ValueError, match=r"layer='1' is no convolution layer .* are: 0, 2\."):
        FeatureMapDisplay.from_estimator(clf, images[0], layer="1")


def test_maps_need_a_convolution_and_a_row_that_exists(fitted, images):
    X, y = images
    dense = TorchClassifier(max_epochs=1).fit(X.reshape(len(X), -1), y)
    with pytest.raises(ValueError, match="no convolution layer"):
        FeatureMapDisplay.from_estimator(dense, X.reshape(len(X), -1))
    with pytest.raises(ValueError, match="sample must be an integer from 0 to 299, got 300"):
        FeatureMapDisplay.from_estimator(fitted, X, sample=300)
    with pytest.raises(ValueError, match="max_maps must be an integer at least 1, got 0"):
        FeatureMapDisplay.from_estimator(fitted, X, max_maps=0)


def test_maps_of_sequences_are_lines_and_those_of_volumes_slices(images):
    X, y = images
    X = X.reshape(len(X), -1)
    for shape, conv, n_lines, n_images in [
        ((1, 64), nn.Conv1d(1, 3, 5), 3, 0),
        ((1, 4, 4, 4), nn.Conv3d(1, 3, 2), 0, 3),
    ]:
        net = nn.Sequential(nn.Unflatten(1, shape), conv, nn.Flatten(), nn.LazyLinear(10))
        pipe = Pipeline([("s", StandardScaler()), ("clf", TorchClassifier(net, max_epochs=1))])
        display = FeatureMapDisplay.from_estimator(pipe.fit(X, y), X)
        assert (len(display.lines_), len(display.images_)) == (n_lines, n_images)


# Searches ---------------------------------------------------------------------------------------


def test_a_search_is_a_line_for_each_combination_of_the_rest(images):
    X, y = images
    pipe = Pipeline([("scale", StandardScaler()), ("clf", TorchClassifier(max_epochs=1))])
    grid = {"clf__lr": [0.1, 0.001, 0.01], "clf__batch_size": [50, 100]}
    search = grid_of(pipe, grid, (X.reshape(len(X), -1), y), scoring="accuracy")
    display = SearchDisplay.from_search(search)
    assert [line.get_label() for line in display.lines_] == ["batch_size=50", "batch_size=100"]
    assert display.param == "clf__lr"
    assert display.ax_.get_xscale() == "log"
    assert "accuracy" in display.ax_.get_ylabel()
    results = search.cv_results_
    for line, size in zip(display.lines_, (50, 100), strict=True):
        assert_array_equal(line.get_xdata(), [0.001, 0.01, 0.1])
        for lr, mean in zip(line.get_xdata(), line.get_ydata(), strict=True):
            at = results["params"].index({"clf__lr": lr, "clf__batch_size": size})
            assert mean == results["mean_test_score"][at]


def test_a_search_over_one_parameter_and_a_random_one_are_drawn(images):
    clf = TorchClassifier(UserCNN, max_epochs=1)
    alone = SearchDisplay.from_search(grid_of(clf, {"lr": [0.01, 0.1]}, images))
    assert len(alone.lines_) == 1
    assert alone.ax_.get_legend() is None
    options = {"lr": [0.01, 0.02, 0.03, 0.04], "weight_decay": [0.1, 0.25]}
    random = RandomizedSearchCV(clf, options, n_iter=5, cv=2, random_state=0).fit(*images)
    display = SearchDisplay.from_search(random, param="weight_decay")
    assert sum(len(line.get_xdata()) for line in display.lines_) == 5


def test_a_search_by_several_scores_draws_the_one_asked_for(images):
    clf = TorchClassifier(UserCNN, max_epochs=1)
    scoring = {"hits": "accuracy", "f1": "f1_macro"}
    search = grid_of(clf, {"lr": [0.01, 0.1]}, images, scoring=scoring, refit="f1")
    for metric, column in {None: "f1", "hits": "hits"}.items():
        line = SearchDisplay.from_search(search, metric=metric).lines_[0]
        assert_array_equal(line.get_ydata(), search.cv_results_[f"mean_test_{column}"])
    with pytest.raises(ValueError, match="metric='auc' is no score of the search: hits, f1"):
        SearchDisplay.from_search(search, metric="auc")


def test_a_parameter_that_was_not_searched_or_has_no_numbers_is_refused(images):
    clf = TorchClassifier(UserCNN, max_epochs=1)
    search = grid_of(clf, {"lr": [{"*": 0.01}], "optimizer": ["adam"]}, images)
    with pytest.raises(ValueError, match=r"no such parameter\. It has lr, optimizer"):
        SearchDisplay.from_search(search, param="weight_decay")
    with pytest.raises(ValueError, match="param='lr' must have positive numbers"):
        SearchDisplay.from_search(search)
    with pytest.raises(NotFittedError):
        SearchDisplay.from_search(GridSearchCV(clf, {"lr": [0.1]}))
