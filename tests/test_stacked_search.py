"""With the backend "sktorch" fits train as one, and everything comes out as without it."""

import pickle
import re
import types

import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from nets import DroppingMLP, UserCNN, UserMLP
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_regression
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (imported for its effect)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    HalvingGridSearchCV,
    ParameterGrid,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stacking import (
    Counted,
    assert_same_fits,
    assert_same_numbers,
    assert_same_results,
    both,
    make_rows,
    search,
    small,
    stacked,
)
from torch import nn

from sktorch import TorchRegressor
from sktorch.callbacks import Callback, Checkpoint, EarlyStopping
from sktorch.losses import LOSSES

X, y = make_rows()
BINARY = np.where(y == "cat", "yes", "no")
WEIGHTS = np.linspace(0, 2, len(y))
UNEQUAL = [(np.arange(k, 101), np.arange(k)) for k in (20, 37, 70)]
HALVES = [(np.arange(51), np.arange(51, 101)), (np.arange(51, 101), np.arange(51))]


def fit_each(settings, grid, folds):
    """Fit each candidate on the rows of each fold, as a search does, and return the estimators."""
    return Parallel()(
        delayed(small(**settings).set_params(**clone(candidate, safe=False)).fit)(
            X[train], y[train]
        )
        for candidate in ParameterGrid(grid)
        for train, _ in folds
    )


class Bent(UserMLP):
    """Computes with what is no tensor."""

    def __init__(self, n_features_in, n_outputs, bend=None, slope=0.0):
        super().__init__(n_features_in, n_outputs, 8)
        self.bend = bend or torch.relu
        self.slope = slope
        self.mask = torch.full((8,), 1 - slope, dtype=torch.float64)

    def forward(self, x):
        x = self.hidden(x)
        return self.head(self.mask * self.bend(x) + self.slope * x)


def _doubled(linear, x):
    return 2 * nn.functional.linear(x, linear.weight, linear.bias)


def _with_a_replaced_forward(net):
    net.hidden.forward = types.MethodType(_doubled, net.hidden)
    return net


# Settings of the estimator, and the grid over it: what may differ within a stack.
VARIED = {
    "lr": ({}, {"lr": [1e-4, 0.01, 0.1]}),
    "lr of nothing": ({}, {"lr": [0, 0.01]}),
    "lr of sgd": ({"optimizer": "sgd"}, {"lr": [0.01, 0.1, 0.5]}),
    "momentum": ({"optimizer": "sgd"}, {"optimizer__momentum": [0, 0.5, 0.9]}),
    "nesterov": (
        {"optimizer": "sgd", "optimizer__nesterov": True, "optimizer__momentum": 0.8},
        {"lr": [0.01, 0.1], "optimizer__momentum": [0.5, 0.9]},
    ),
    "adam's betas": ({}, {"optimizer__betas": [(0.9, 0.999), (0.5, 0.9)]}),
    "adam's eps": ({}, {"optimizer__eps": [1e-8, 1e-2]}),
    "adamw": ({"optimizer": "adamw"}, {"lr": [0.01, 0.05], "weight_decay": [0, 0.1]}),
    "rmsprop": ({"optimizer": "rmsprop"}, {"optimizer__alpha": [0.9, 0.99], "lr": [1e-3, 0.01]}),
    "rmsprop's momentum": ({"optimizer": "rmsprop"}, {"optimizer__momentum": [0, 0.9]}),
    "weight_decay": ({}, {"weight_decay": [0, 1e-3, 0.1]}),
    "decay of all": ({}, {"weight_decay": [{"*": 0.1}, {"*": 0.3}]}),
    "decay of all by adamw": (
        {"optimizer": "adamw", "optimizer__amsgrad": True},
        {"weight_decay": [{"*": 0.1}, {"*": 0.3}], "lr": [0.01, 0.1]},
    ),
    "rates by rule": ({}, {"lr": [{"head.*": 0.1, "*": 1e-3}, {"head.*": 1e-3, "*": 0.05}]}),
    "decays by rule": (
        {"optimizer": "adamw", "grad_clip_norm": 0.5},
        {"weight_decay": [{"head.*": 0.3, "*": 0.1}, {"head.*": 0, "*": 0.5}]},
    ),
    "l1": ({}, {"l1": [0, 1e-3, 0.1]}),
    "l2": ({}, {"l2": [0, 1e-3, 0.1]}),
    "l1 and l2": ({"l1": 1e-3}, {"l2": [0, 0.1], "lr": [1e-3, 0.05]}),
    "grad_clip_norm": ({}, {"grad_clip_norm": [1e-3, 0.1, 1e3]}),
    "grad_clip_norm or none": ({"optimizer": "sgd"}, {"grad_clip_norm": [None, 0.1]}),
    "gamma of the loss": ({"loss": "focal"}, {"loss__gamma": [0.0, 1.5, 2.0]}),
    "numbers of the loss": ({"loss": "sce"}, {"loss__a": [0.1, 1.0], "loss__b": [0.5, 1.0]}),
    "class_weight": (
        {},
        {"class_weight": [None, "balanced", {"ant": 0.1, "bee": 1.0, "cat": 3.0}]},
    ),
    "random_state": ({}, {"random_state": [0, 1, 2]}),
    "max_epochs": ({}, {"max_epochs": [1, 2, 5]}),
    "patience": (
        {"early_stopping": True, "max_epochs": 15, "optimizer": "sgd"},
        {"patience": [1, 3], "lr": [0.001, 2.0]},
    ),
    "min_delta": ({"early_stopping": True, "max_epochs": 12}, {"min_delta": ["auto", 0.05, 1.0]}),
    "restore_best": (
        {"early_stopping": True, "max_epochs": 8, "lr": 0.3, "patience": 3},
        {"restore_best": [True, False]},
    ),
    "monitor": (
        {"early_stopping": True, "metrics": "accuracy", "max_epochs": 8, "patience": 2},
        {"monitor": ["val_loss", "val_accuracy", "train_loss"]},
    ),
    "early_stopping": ({"max_epochs": 6, "patience": 1}, {"early_stopping": [True, False]}),
    "validation_fraction": ({"early_stopping": True}, {"validation_fraction": [0.1, 0.4]}),
    "a schedule": (
        {"lr_scheduler": "step", "lr_scheduler__step_size": 1},
        {"lr_scheduler__gamma": [0.1, 0.9]},
    ),
    "a schedule of steps": (
        {"lr_scheduler": "onecycle"},
        {"lr": [0.01, 0.1], "max_epochs": [2, 4]},
    ),
    "kinds of schedule": ({}, {"lr_scheduler": [None, "cosine", "warmup_cosine"]}),
    "a schedule by a value": (
        {"lr_scheduler": "plateau", "early_stopping": True, "max_epochs": 8, "lr": 0.5},
        {"lr_scheduler__patience": [0, 2], "lr_scheduler__factor": [0.1, 0.5]},
    ),
    "shuffle": ({}, {"shuffle": [True, False]}),
    "metrics": ({"metrics": ["accuracy", "f1"], "early_stopping": True}, {"lr": [0.01, 0.1]}),
    "a net of the user's": ({"net": UserMLP(6, 3).double()}, {"lr": [0.01, 0.1]}),
    "a layer whose forward was replaced": (
        {"net": _with_a_replaced_forward(UserMLP(6, 3).double())},
        {"lr": [0.01, 0.1]},
    ),
    "the built-in net": ({"net": "mlp", "net__hidden_layer_sizes": (7, 5)}, {"lr": [0.01, 0.1]}),
    "batches of one row": ({"batch_size": 50 - 1}, {"lr": [0.01, 0.1]}),
    "one batch": ({"batch_size": "auto"}, {"lr": [0.01, 0.1]}),
    **{
        f"loss {name}": (
            {"loss": name, "net": "mlp", "net__hidden_layer_sizes": (8,)},
            {"lr": [0.01, 0.1], "class_weight": [{"ant": 0.1, "bee": 1.0, "cat": 3.0}, None]},
        )
        for name, loss in LOSSES.items()
        if "index" in loss.targets and not isinstance(loss.pointwise, type)
    },
}

# What need not stack, or stacks in parts. The user may be told so; the results are the same.
MIXED = {
    "batch_size": ({}, {"batch_size": [10, 32]}),
    "width": ({}, {"net__width": [4, 9]}),
    "a number in the net": ({"net": Bent}, {"net__slope": [0.1, 0.9]}),
    "a function in the net": ({"net": Bent}, {"net__bend": [torch.relu, torch.tanh]}),
    "closures in the net": (
        {"net": Bent},
        {"net__bend": [lambda x, k=k: (k * x).sigmoid() for k in (1.0, 3.0)]},
    ),
    "optimizer": ({}, {"optimizer": ["adam", "sgd"]}),
    "loss": ({}, {"loss": ["cross_entropy", "focal"]}),
    "rules for lr": ({}, {"lr": [0.01, {"head.*": 0.1, "*": 1e-3}, {"hidden.*": 0, "*": 0.01}]}),
    "rules for weight_decay": ({}, {"weight_decay": [0.1, {"head.*": 0.1, "*": 0}]}),
    "rules for l2": ({}, {"l2": [0.1, {"head.*": 0.1, "*": 0}]}),
    "grad_accumulation_steps": ({}, {"grad_accumulation_steps": [1, 3]}),
    "ema_decay": ({}, {"ema_decay": [None, 0.9]}),
    "nesterov or not": (
        {"optimizer": "sgd", "optimizer__momentum": 0.9},
        {"optimizer__nesterov": [True, False]},
    ),
    "amsgrad": ({}, {"optimizer__amsgrad": [True, False]}),
    "centered": ({"optimizer": "rmsprop"}, {"optimizer__centered": [True, False]}),
    "dampening": (
        {"optimizer": "sgd", "optimizer__momentum": 0.9},
        {"optimizer__dampening": [0, 0.5]},
    ),
    "maximize": ({}, {"optimizer__maximize": [False, True]}),
    "adagrad": ({"optimizer": "adagrad"}, {"lr": [0.01, 0.1]}),
    "label smoothing": (
        {"loss": nn.CrossEntropyLoss},
        {"loss__label_smoothing": [0.0, 0.2]},
    ),
    "weights of classes in the loss": (
        {"loss": nn.CrossEntropyLoss},
        {"loss__weight": [torch.ones(3).double(), torch.tensor([1.0, 2.0, 0.5]).double()]},
    ),
    "a loss with weights": (
        {"loss": "adaptive_log_softmax", "loss__cutoffs": [1]},
        {"lr": [0.01, 0.1]},
    ),
}


@pytest.mark.parametrize("varied", VARIED)
def test_fits_that_differ_in_numbers_train_as_one(varied):
    forwards = []

    def run():
        Counted.forwards = 0
        fitted = fit_each(*VARIED[varied], HALVES)
        forwards.append(Counted.forwards)
        return fitted

    plain, result, told = both(run)
    assert not told
    assert_same_fits(plain, result)
    alone, together = forwards
    assert together <= 0.75 * alone, "nothing was stacked"


@pytest.mark.parametrize("mixed", MIXED)
def test_fits_that_need_not_train_as_one_give_the_same(mixed):
    plain, result, told = both(lambda: fit_each(*MIXED[mixed], HALVES))
    assert len(told) <= 1
    assert_same_fits(plain, result)


def test_twenty_epochs_of_a_pipeline_differ_by_rounding_alone():
    pipe = make_pipeline(StandardScaler(), small(loss="focal", early_stopping=True, max_epochs=20))
    name = "torchclassifier__"
    common = {name + "lr": [1e-3, 0.05], name + "patience": [2, 9]}
    grid = [
        {**common, name + "loss__gamma": [0.5], name + "l2": [0.01]},
        {**common, name + "loss__gamma": [2.0], name + "weight_decay": [0.01]},
    ]
    plain, result, told = both(lambda: search(pipe, grid, UNEQUAL).fit(X, y))
    assert not told
    assert_same_results(plain, result)


def bagging(**settings):
    return BaggingClassifier(small(max_epochs=2), 4, random_state=0, **settings)


ESTIMATORS = {
    "bagging": bagging,
    "bagging without replacement": lambda: bagging(bootstrap=False, max_samples=0.4),
    "bagging of columns": lambda: bagging(max_features=0.7),
    "one against the rest": lambda: OneVsRestClassifier(small()),
    "one against one": lambda: OneVsOneClassifier(small()),
    "calibration": lambda: CalibratedClassifierCV(small(), cv=3),
    "stacking": lambda: StackingClassifier(
        [("a", small()), ("b", small(lr=0.1)), ("c", LogisticRegression())], cv=2
    ),
    "stacking into ours": lambda: StackingClassifier(
        [("a", small()), ("b", LogisticRegression())], small(), cv=2
    ),
    "voting": lambda: VotingClassifier(
        [("a", small()), ("b", LogisticRegression()), ("c", small(lr=0.1))], voting="soft"
    ),
    "randomized search": lambda: RandomizedSearchCV(
        small(), {"lr": [1e-3, 0.01, 0.1], "l2": [0, 0.1]}, n_iter=4, cv=2, random_state=0
    ),
    "halving search": lambda: HalvingGridSearchCV(
        small(), {"lr": [1e-3, 0.01, 0.1]}, cv=2, min_resources=24, random_state=0
    ),
    "halving search over epochs": lambda: HalvingGridSearchCV(
        small(), {"lr": [1e-3, 0.01, 0.1]}, cv=2, resource="max_epochs", max_resources=9
    ),
    "search in a search": lambda: search(bagging(), {"estimator__lr": [1e-3, 0.01]}),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_meta_estimators_give_the_same(name):
    def run():
        fitted = ESTIMATORS[name]().fit(X, y)
        return fitted, fitted.predict_proba(X) if hasattr(fitted, "predict_proba") else None

    (plain, proba), (result, other), told = both(run)
    assert not told
    assert_same_fits(plain, result)
    assert_same_numbers(proba, other)


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
def test_bagging_stacks_what_it_draws(weight):
    Counted.forwards = 0
    bagging().fit(X, y, sample_weight=weight)
    alone = Counted.forwards
    Counted.forwards = 0
    with stacked():
        bagging().fit(X, y, sample_weight=weight)
    assert Counted.forwards <= 0.5 * alone


def test_outputs_of_their_own_nets():
    Y = np.column_stack([y, BINARY])
    plain, result, _ = both(lambda: MultiOutputClassifier(small()).fit(X, Y))
    assert_same_fits(plain, result)
    X_, Y_ = make_regression(60, 4, n_targets=3, random_state=0)
    reg = TorchRegressor(max_epochs=3, batch_size=16, random_state=0, dtype="float64")
    plain, result, told = both(lambda: MultiOutputRegressor(reg).fit(X_, Y_ / 50))
    assert not told
    assert_same_fits(plain, result)
    assert_same_numbers(plain.predict(X_), result.predict(X_))


REGRESSIONS = {
    "squared error": ({}, {"lr": [0.01, 0.1]}),
    "quantiles": ({"loss": "quantile"}, {"loss__quantile": [0.1, 0.5, 0.9]}),
    "huber": ({"loss": "huber"}, {"loss__delta": [0.1, 1.0]}),
    "smooth_l1": ({"loss": "smooth_l1"}, {"loss__beta": [0.1, 1.0]}),
    "absolute error": ({"loss": "absolute_error"}, {"lr": [0.01, 0.1]}),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_values_give_the_same(name):
    settings, grid = REGRESSIONS[name]
    X_, y_ = make_regression(70, 4, noise=5, random_state=0)
    reg = TorchRegressor(max_epochs=3, batch_size=16, random_state=0, dtype="float64", **settings)
    reg.set_params(metrics=["r2"], early_stopping=True)
    plain, result, _ = both(lambda: search(reg, grid, 3).fit(X_, y_))
    assert_same_results(plain, result)


def test_cross_validation_returns_the_same_estimators():
    def run():
        return cross_validate(small(), X, y, cv=3, return_estimator=True, return_indices=True)

    plain, result, told = both(run)
    assert not told
    assert_same_fits(plain, result)
    assert_same_numbers(plain["test_score"], result["test_score"])
    fitted = [clone(small()).fit(X[i], y[i]) for i in result["indices"]["train"]]
    assert_same_fits(fitted, result["estimator"])


def test_weights_of_samples_belong_to_their_rows():
    def run():
        return cross_validate(
            small(early_stopping=True),
            X,
            y,
            cv=3,
            params={"sample_weight": WEIGHTS},
            return_estimator=True,
        )

    plain, result, told = both(run)
    assert not told
    assert_same_fits(plain, result)


def test_predictions_out_of_fold():
    plain, result, _ = both(lambda: cross_val_predict(small(), X, y, cv=3, method="predict_proba"))
    np.testing.assert_allclose(result, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("batch_size", [16, "auto"])
def test_a_learning_curve_of_very_unequal_sizes(batch_size):
    def run():
        clf = small(batch_size=batch_size)
        return learning_curve(clf, X, y, train_sizes=[7, 16, 17, 50], cv=2)

    plain, result, told = both(run)
    assert not told
    for one, other in zip(plain, result, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-9)


class Normed(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(
            # A bias before a batch norm has a gradient of nothing but rounding.
            nn.Linear(n_features_in, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.LayerNorm(8),
            nn.Linear(8, n_outputs),
        )


class Tied(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.first = nn.Linear(n_features_in, n_features_in)
        self.second = nn.Linear(n_features_in, n_features_in)
        self.second.weight = self.first.weight
        self.head = nn.Linear(n_features_in, n_outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Frozen(UserMLP):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, 8)
        self.hidden.weight.requires_grad_(False)


class Idle(UserMLP):
    """Has a layer that its forward does not use."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, 8)
        self.idle = nn.Linear(3, 3)


class Averaging(UserMLP):
    """Keeps a buffer of its own."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, 8)
        self.register_buffer("mean", torch.zeros(n_features_in, dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return super().forward(x - self.mean)


NETS = {net.__name__: net for net in (Normed, Tied, Frozen, Idle, Averaging)}


@pytest.mark.parametrize("name", NETS)
def test_nets_of_all_kinds_give_the_same_on_unequal_folds(name):
    grid = {"lr": [0.01, 0.1], "weight_decay": [0, 0.1]}
    plain, result, told = both(lambda: fit_each({"net": NETS[name]}, grid, UNEQUAL))
    assert len(told) <= 1
    assert_same_fits(plain, result)


def test_images_give_the_same():
    images, digits = load_digits(return_X_y=True)
    images = images[:150].reshape(-1, 1, 8, 8) / 16
    plain, result, told = both(
        lambda: search(small(UserCNN, max_epochs=2), {"lr": [0.01, 0.1]}).fit(images, digits[:150])
    )
    assert not told
    assert_same_results(plain, result)


def test_labels_of_many_kinds_at_once_give_the_same():
    Y = np.column_stack([y == "ant", y != "bee"]).astype(int)
    for target in (BINARY, Y):
        plain, result, _ = both(
            lambda target=target: search(small(), {"lr": [0.01, 0.1]}).fit(X, target)
        )
        assert_same_results(plain, result)


class Dropping(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(
            nn.Linear(n_features_in, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, n_outputs)
        )


@pytest.mark.parametrize("net", [Dropping, DroppingMLP])
def test_dropout_is_the_same_for_the_same_seeds(net):
    grid = {"random_state": [0, 1], "lr": [0.01, 0.1]}
    with stacked():
        one, other = (search(small(net), grid, 3).fit(X, y) for _ in range(2))
    assert_same_results(one, other, tolerance=0)


def test_losses_with_dropout_are_distributed_as_one_by_one():
    def run():
        seeds = range(40)
        fits = Parallel()(delayed(small(Dropping, random_state=k).fit)(X, y) for k in seeds)
        return np.array([fit.history_["train_loss"] for fit in fits])

    plain, result, told = both(run)
    assert not told
    gap = np.abs(plain.mean(0) - result.mean(0))
    assert (gap < 4 * np.sqrt((plain.var(0) + result.var(0)) / 40)).all()
    np.testing.assert_allclose(result.std(0), plain.std(0), rtol=0.5)


class LSTM(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.lstm(x[..., None])[0][:, -1])


class Branching(UserMLP):
    def forward(self, x):
        x = super().forward(x)
        return x if x.sum() > 0 else 2 * x


class Halved(UserMLP):
    """Has weights of two dtypes."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, 8)
        self.factor = nn.Parameter(torch.ones(8, dtype=torch.float32))

    def _apply(self, function, recurse=True):
        """Stay of two dtypes whatever the whole is to be."""
        super()._apply(function, recurse)
        self.factor.data = self.factor.data.float()
        return self

    def forward(self, x):
        return self.head(torch.relu(self.hidden(x.double())) * self.factor)


class Watching(Callback):
    """Reads each batch of training."""

    def on_batch_end(self, state, batch, loss, y_pred):
        state.seen = getattr(state, "seen", 0.0) + float(loss)

    def on_epoch_end(self, state):
        state.history.last["seen"] = state.seen


ONE_BY_ONE = {
    "LSTM": ({"net": LSTM, "max_epochs": 1}, "LSTM"),
    "LBFGS": ({"optimizer": "lbfgs", "max_epochs": 1}, "(?i)lbfgs"),
    "a callback on batches": ({"callbacks": [Watching()]}, "Watching"),
    "a branch on data": ({"net": Branching}, "Branching"),
    "weights of two dtypes": ({"net": Halved}, "dtypes"),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_what_cannot_stack_trains_one_by_one_and_says_so_once(name):
    settings, at_fault = ONE_BY_ONE[name]
    grid = {"lr": [0.01, 0.1]}
    plain, result, told = both(lambda: search(small(**settings), grid, 3).fit(X, y))
    assert_same_results(plain, result)
    assert len(told) == 1, told
    assert re.search(at_fault, told[0]), told[0]


def test_what_stacks_is_not_held_up_by_what_does_not():
    def run():
        clfs = [small(), small(optimizer="lbfgs", max_epochs=1), small(lr=0.1), small(Branching)]
        return Parallel()(delayed(clf.fit)(X, y) for clf in clfs)

    plain, result, _ = both(run)
    assert_same_fits(plain, result)


def test_without_a_seed_fits_differ():
    with stacked():
        fits = cross_validate(small(random_state=None), X, y, cv=3, return_estimator=True)
        grid = search(small(random_state=None), {"lr": [0.01, 0.1]}).fit(X, y)
    assert len({fit.history_["train_loss"][0] for fit in fits["estimator"]}) == 3
    assert hasattr(grid, "best_estimator_")


def test_a_generator_as_random_state_works():
    with stacked():
        clf = small(random_state=np.random.RandomState(0))
        assert np.isfinite(search(clf, {"lr": [0.01, 0.1]}).fit(X, y).best_score_)


def test_the_generators_of_the_process_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    with stacked():
        search(small(Dropping), {"lr": [0.01, 0.1]}).fit(X, y)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def two_fits(**settings):
    """Return two fits that differ in their rate, trained as one."""
    with stacked():
        return Parallel()(delayed(small(lr=lr, **settings).fit)(X, y) for lr in (0.01, 0.1))


def test_weights_are_the_estimators_own():
    for clf in two_fits(net=Normed):
        assert type(clf.net_) is Normed
        assert not clf.net_.training
        for value in clf.net_.parameters():
            assert type(value) is nn.Parameter
            assert value.is_leaf
            assert value.requires_grad
        for value in clf.net_.state_dict().values():
            assert value.untyped_storage().nbytes() == value.nbytes


def test_an_estimator_from_a_stack_is_stored_like_any_other():
    alone = [small(lr=lr).fit(X, y) for lr in (0.01, 0.1)]
    for clf, plain in zip(two_fits(), alone, strict=True):
        assert len(pickle.dumps(clf)) < 1.1 * len(pickle.dumps(plain))
        again = pickle.loads(pickle.dumps(clf))
        assert np.array_equal(again.predict(X), plain.predict(X))
        assert_same_fits(clf, again, tolerance=0)


CONTINUING = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "optimizer__momentum": 0.9},
    "rmsprop": {"optimizer": "rmsprop"},
    "averaged": {"ema_decay": 0.9},
    "batch norm": {"net": Normed},
    "a schedule": {"lr_scheduler": "exponential", "lr_scheduler__gamma": 0.5},
    "stopped": {"early_stopping": True, "patience": 1, "max_epochs": 9},
}


@pytest.mark.parametrize("name", CONTINUING)
def test_partial_fit_and_warm_start_go_on_where_the_stack_ended(name):
    settings = CONTINUING[name]
    alone = [small(lr=lr, **settings).fit(X, y) for lr in (0.01, 0.1)]
    together = two_fits(**settings)
    for plain, clf in zip(alone, together, strict=True):
        assert_same_fits(plain.partial_fit(X, y), clf.partial_fit(X, y))
        assert_same_fits(
            plain.set_params(warm_start=True).fit(X, y), clf.set_params(warm_start=True).fit(X, y)
        )


def test_parts_train_together_too():
    def run():
        clfs = [small(lr=lr).partial_fit(X, y, classes=np.unique(y)) for lr in (0.01, 0.1)]
        return Parallel()(delayed(clf.partial_fit)(X, y) for clf in clfs)

    plain, result, told = both(run)
    assert not told
    assert_same_fits(plain, result)


class Journal(Callback):
    """Notes at the end of each epoch what a stack could have wrong."""

    def on_fit_begin(self, state):
        self.notes = ["begin"]

    def on_epoch_begin(self, state):
        self.notes.append(state.epoch)

    def on_epoch_end(self, state):
        weights = {k: v.clone() for k, v in state.net.state_dict().items()}
        rates = [group["lr"] for group in state.optimizer.param_groups]
        self.notes.append((state.epoch, weights, rates, dict(state.history.last, epoch_time=0)))

    def on_fit_end(self, state):
        state.history.last["notes"] = [*self.notes, "end"]


class Halving(Callback):
    """Reaches into the fit, as a schedule of the user's does."""

    def on_epoch_end(self, state):
        for group in state.optimizer.param_groups:
            group["lr"] /= 2


class Clamping(Callback):
    def on_epoch_end(self, state):
        with torch.no_grad():
            for value in state.net.parameters():
                value.clamp_(-0.2, 0.2)


class Replacing(Callback):
    """Puts other tensors in place of those that are trained."""

    def on_epoch_end(self, state):
        for value in state.net.parameters():
            value.data = value.data.clamp(-0.2, 0.2)


class Freezing(Callback):
    def on_epoch_begin(self, state):
        state.net.hidden.weight.requires_grad_(state.epoch > 1)


class StoppingAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            state.stop_reason = "enough"


CALLBACKS = {
    "journal": lambda i: [Journal()],
    "halving the rate": lambda i: [Halving()],
    "clamping the weights": lambda i: [Clamping()],
    "replacing the weights": lambda i: [Replacing()],
    "replacing the weights where another ends": lambda i: [Replacing() if i else StoppingAt(1)],
    "freezing a layer": lambda i: [Freezing()],
    "freezing a layer of one": lambda i: [Freezing()] if i else [Clamping()],
    "a reason to stop": lambda i: [StoppingAt(1 + i)],
    "patience of its own": lambda i: [EarlyStopping("train_loss", "min", 1 + i, 0.05)],
    "two stoppers": lambda i: [EarlyStopping("train_loss", "min", 2 + i, 0.05), StoppingAt(3)],
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_see_and_do_what_they_do_alone(name):
    def run():
        clfs = [
            small(lr=lr, max_epochs=5, callbacks=CALLBACKS[name](i))
            for i, lr in enumerate((0.01, 0.1, 0.2))
        ]
        return Parallel()(delayed(clf.fit)(X, y) for clf in clfs)

    plain, result, told = both(run)
    assert len(told) == name.startswith(("freezing", "replacing"))
    if name == "journal":
        for one, other in zip(plain, result, strict=True):
            assert_same_numbers(*(c._history.last.pop("notes") for c in (one, other)))
    assert_same_fits(plain, result)


def test_checkpoints_of_a_stack_hold_what_those_of_a_fit_hold(tmp_path):
    def run(folder):
        clfs = [
            small(lr=lr, max_epochs=4, callbacks=[Checkpoint(tmp_path / folder / str(lr))])
            for lr in (0.01, 0.1)
        ]
        Parallel()(delayed(clf.fit)(X, y) for clf in clfs)

    run("plain")
    with stacked():
        run("stacked")
    files = sorted((tmp_path / "plain").rglob("*.pt"))
    assert files
    for path in files:
        other = tmp_path / "stacked" / path.relative_to(tmp_path / "plain")
        contents = [torch.load(each, weights_only=True) for each in (path, other)]
        for content in contents:
            del content["sha256"]  # of all the numbers, which are equal to rounding
            for row in content["history"]:
                del row["epoch_time"]
        assert_same_numbers(*contents)


def test_lines_are_printed_for_each_epoch_of_each_fit(capsys):
    two_fits(verbose=2)
    assert len(capsys.readouterr().out.splitlines()) >= 6


@pytest.mark.parametrize("compile", ["auto"])
def test_a_search_may_ask_for_compiled_steps(compile):
    plain, result, _ = both(lambda: search(small(compile=compile), {"lr": [0.01, 0.1]}).fit(X, y))
    assert_same_results(plain, result)


def test_the_refit_after_a_search_is_a_plain_fit():
    with stacked():
        found = search(small(), {"lr": [0.01, 0.1]}).fit(X, y)
    assert_same_fits(clone(found.best_estimator_).fit(X, y), found.best_estimator_)


def test_the_backend_is_there_on_import():
    assert "sktorch" in joblib.parallel.BACKENDS
