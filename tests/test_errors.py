"""Bad parameters, data and nets: one clear error each, and nothing fitted is lost."""

import numpy as np
import pytest
import torch
from nets import UserMLP, linear
from torch import nn

from sktorch import TorchClassifier, TorchRegressor

X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.arange(60) % 3
B = np.arange(60) % 2


class Pair(UserMLP):
    def forward(self, x):
        return super().forward(x), x


class NotANumber(UserMLP):
    def forward(self, x):
        return super().forward(x) * torch.nan


class Detached(UserMLP):
    def forward(self, x):
        return super().forward(x).detach()


class Labelled(UserMLP):
    def forward(self, x):
        return super().forward(x).argmax(1, keepdim=True)


def frozen():
    return nn.Linear(4, 3).requires_grad_(False)


PARAMETERS = {
    "unknown net": ({"net": "mpl"}, r"net='mpl'.*mlp"),
    "net of another type": ({"net": 3}, r"net.*3"),
    "net parameter": ({"net__hiden": 3}, r"net__hiden .*net__hidden_layer_sizes"),
    "net parameter filled from data": ({"net__n_outputs": 3}, r"net__n_outputs"),
    "net parameter of an instance": (
        {"net": linear(4, 3), "net__width": 3},
        r"net__width .*instance",
    ),
    "hidden sizes": ({"net__hidden_layer_sizes": (3, -1)}, r"net__hidden_layer_sizes .*\(3, -1\)"),
    "activation": ({"net__activation": "rellu"}, r"net__activation='rellu'.*relu"),
    "dropout": ({"net__dropout": 1.5}, r"net__dropout .*\[0, 1\).*1.5"),
    "unknown loss": ({"loss": "hinge_of_door"}, r"loss='hinge_of_door'.*cross_entropy"),
    "loss of regression": ({"loss": "squared_error"}, r"loss='squared_error'.*cross_entropy"),
    "loss parameter": ({"loss": "focal", "loss__gama": 1}, r"loss__gama .*loss__gamma"),
    "gamma": ({"loss": "focal", "loss__gamma": -1}, r"loss__gamma .*>= 0.*-1"),
    "alpha": ({"loss": "focal", "loss__alpha": [1, 2]}, r"loss__alpha .*3 classes.*2"),
    "optimizer": ({"optimizer": "adm"}, r"optimizer='adm'.*adam"),
    "optimizer instance": (
        {"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1)},
        r"optimizer",
    ),
    "optimizer parameter": ({"optimizer__momentm": 1}, r"optimizer__momentm .*optimizer__betas"),
    "optimizer parameter refused": ({"optimizer__eps": -1.0}, r"optimizer.*eps"),
    "lr": ({"lr": -1.0}, r"'lr' .*-1.0"),
    "lr nan": ({"lr": float("nan")}, r"'lr' .*nan"),
    "weight_decay": ({"weight_decay": -1}, r"'weight_decay' .*-1"),
    "max_epochs": ({"max_epochs": 0}, r"'max_epochs' .*0"),
    "batch_size": ({"batch_size": 0}, r"'batch_size' .*0"),
    "patience": ({"patience": 0}, r"'patience' .*0"),
    "validation_fraction": ({"validation_fraction": 1.0}, r"'validation_fraction' .*1.0"),
    "early_stopping": ({"early_stopping": "yes"}, r"'early_stopping' .*yes"),
    "device": ({"device": "cuda:77"}, r"device='cuda:77'.*cpu"),
    "device of no kind": ({"device": "gpu"}, r"device='gpu'.*cpu"),
    "dtype": ({"dtype": "float31"}, r"'dtype' .*float31"),
    "class_weight": ({"class_weight": "heavy"}, r"class_weight .*balanced.*heavy"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_a_bad_parameter_is_named_with_what_is_valid(case):
    settings, message = PARAMETERS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        TorchClassifier(**settings).fit(X, Y)


def test_an_unknown_name_is_refused_with_the_list_of_names():
    with pytest.raises(TypeError, match=r"'learning_rate'.*lr.*net__"):
        TorchClassifier(learning_rate=1)
    with pytest.raises(ValueError, match=r"'learning_rate'.*'lr'"):
        TorchClassifier().set_params(learning_rate=1)
    with pytest.raises(ValueError, match=r"'nets'.*'net'"):
        TorchClassifier().set_params(nets__width=1)
    with pytest.raises(TypeError, match=r"positional"):
        TorchClassifier("mlp", "focal")


MISFITS = {
    "three outputs for two classes": (linear(4, 3), B, r"net gives 3 outputs .*2 classes.*1 or 2"),
    "seven outputs for three classes": (linear(4, 7), Y, r"net gives 7 outputs .*3 classes"),
    "one output for three classes": (linear(4, 1), Y, r"net gives 1 outputs? .*3 classes"),
    "another width of X": (linear(5, 3), Y, r"net: .*\(4,\).*in_features=5"),
    "a pair": (Pair, Y, r"net must return a tensor, got tuple"),
    "nan": (NotANumber, Y, r"net gives values that are not finite"),
    "detached": (Detached, Y, r"loss does not depend on any trainable parameter"),
    "labels": (Labelled, Y, r"net must return floating-point numbers"),
    "frozen": (frozen, Y, r"net has no parameter to train"),
    "no parameter": (nn.Identity(), Y, r"net has no parameter|net gives 4 outputs"),
    "per-pixel output": (nn.Unflatten(1, (2, 2)), Y, r"net must return shape"),
    "a function of another kind": (lambda a, b: None, Y, r"net: .*could not be called"),
    "a factory of nothing": (lambda: None, Y, r"net: .*must return a torch.nn.Module, got None"),
    "a list": (lambda: [nn.Linear(4, 3)], Y, r"net: .*must return a torch.nn.Module"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_net_that_does_not_fit_is_refused_by_name(case):
    net, y, message = MISFITS[case]
    with pytest.raises(ValueError, match=message):
        TorchClassifier(net, max_epochs=1).fit(X, y)


def with_value(value):
    bad = X.copy()
    bad[3, 2] = value
    return bad


DATA = {
    "nan": (with_value(np.nan), Y, {}, "NaN"),
    "inf": (with_value(np.inf), Y, {}, "infinity"),
    "strings": (np.full((60, 4), "a"), Y, {}, "strings"),
    "masked": (np.ma.masked_less(X, 0), Y, {}, "masked"),
    "too few labels": (X, Y[:50], {}, "inconsistent numbers of samples"),
    "one class": (X, np.ones(60), {}, "1 class"),
    "continuous labels": (X, X[:, 0], {}, "continuous"),
    "mixed labels": (X, np.array([1, "a", 2] * 20, dtype=object), {}, "mixes strings"),
    "missing labels": (X, np.array([None, "a", "b"] * 20, dtype=object), {}, "y|label"),
    "several labels a sample": (X, np.c_[Y, Y], {}, "y"),
    "negative weights": (X, Y, {"sample_weight": -np.ones(60)}, "[Nn]egative"),
    "zero weights": (X, Y, {"sample_weight": np.zeros(60)}, "zero"),
    "weights of another length": (X, Y, {"sample_weight": np.ones(3)}, "sample_weight"),
    "X_val alone": (X, Y, {"X_val": X}, "X_val .*y_val"),
    "y_val alone": (X, Y, {"y_val": Y}, "y_val .*X_val"),
    "X_val of another width": (X, Y, {"X_val": X[:, :3], "y_val": Y}, "X_val.*4 features"),
    "unknown labels in y_val": (X, Y, {"X_val": X, "y_val": Y + 1}, r"y_val.*\[3\]|\[3\]"),
    "images for the mlp": (X.reshape(60, 1, 2, 2), Y, {}, 'net="mlp".*Reshape'),
    "no rows": (X[:0], Y[:0], {}, "0 sample"),
    "one column too many": (X[:, 0], Y, {}, "Reshape"),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_is_named(case):
    bad_X, y, arguments, message = DATA[case]
    with pytest.raises(ValueError, match=message):
        TorchClassifier(max_epochs=1).fit(bad_X, y, **arguments)


def test_values_beyond_float32_are_refused_where_the_net_is_float32():
    with pytest.raises(ValueError, match=r"X has values beyond the range of float32.*float64"):
        TorchClassifier(UserMLP).fit(with_value(1e300), Y)


def test_what_predict_cannot_take_is_named():
    clf = TorchClassifier(max_epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match=r"4 features"):
        clf.predict(X[:, :3])
    with pytest.raises(ValueError, match=r"NaN"):
        clf.predict(with_value(np.nan))
    image = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    clf = TorchClassifier(image, max_epochs=1).fit(X.reshape(60, 1, 2, 2), Y)
    with pytest.raises(ValueError, match=r"net: .*\(1, 2, 3\)"):
        clf.predict(np.zeros((5, 1, 2, 3)))


def test_a_regressor_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"net gives 2 outputs .*y has 1"):
        TorchRegressor(linear(4, 2)).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"loss='focal'.*squared_error"):
        TorchRegressor(loss="focal").fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"'target_scaling'"):
        TorchRegressor(target_scaling="robust").fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"could not convert string"):
        TorchRegressor().fit(X, np.array(["a", "b"] * 30))


def test_a_loss_that_cannot_be_used_is_named():
    def fails(y_pred, y_true):
        return y_pred @ y_true

    def tells_labels(y_pred, y_true):
        return 3.0

    for loss, message in (
        (fails, "loss failed on"),
        (tells_labels, "loss: .*must return a tensor, got 3.0"),
    ):
        with pytest.raises(ValueError, match=message):
            TorchClassifier(loss=loss).fit(X, Y)
    with pytest.raises(ValueError, match=r"loss does not take multiclass"):
        TorchClassifier(loss="bce").fit(X, Y)
    with pytest.raises(ValueError, match=r"loss does not take binary.*one output"):
        TorchClassifier(linear(4, 2), loss="bce").fit(X, B)


@pytest.mark.parametrize("case", ["net parameter", "lr", "unknown loss"])
def test_a_failed_refit_leaves_the_model_before_whole(case):
    clf = TorchClassifier(max_epochs=2, random_state=0).fit(X, Y)
    before = clf.predict_proba(X), vars(clf).keys()
    history = clf.history_
    clf.set_params(**PARAMETERS[case][0])
    with pytest.raises(ValueError, match=PARAMETERS[case][1]):
        clf.fit(X[:, :2], B)
    assert np.array_equal(clf.predict_proba(X), before[0])
    assert clf.history_.equals(history)
    assert clf.n_features_in_ == 4
    assert clf.classes_.tolist() == [0, 1, 2]


def test_a_diverging_refit_leaves_the_model_before_and_a_first_fit_nothing():
    clf = TorchClassifier(max_epochs=2).fit(X, Y)
    before = clf.predict_proba(X)
    clf.set_params(lr=1e30, optimizer="sgd", max_epochs=50)
    with pytest.raises(ValueError, match=r"lr"):
        clf.fit(X, Y)
    assert np.array_equal(clf.predict_proba(X), before)
    first = TorchClassifier(lr=1e30, optimizer="sgd", max_epochs=50)
    with pytest.raises(ValueError, match=r"lr"):
        first.fit(X, Y)
    assert not [name for name in vars(first) if name.endswith("_")]
