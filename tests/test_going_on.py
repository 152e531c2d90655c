"""Training in parts ends where training at once ends, whatever the settings."""

import numpy as np
import pytest
from nets import DroppingMLP, Tempered, UserMLP, several_schedules

from sktorch import TorchClassifier

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


SETTINGS = {
    "plain": {},
    "dropout": {"net": DroppingMLP},
    "loss with a parameter": {"loss": Tempered},
    "loss with weights": {"loss": "adaptive_log_softmax"},
    "sgd with momentum": {"optimizer": "sgd", "optimizer__momentum": 0.9},
    "penalties and decay": {"l1": 1e-3, "l2": 1e-3, "weight_decay": 0.1},
    "rules": {"lr": {"hidden.*": 1e-3, "*": 1e-2}},
    "average": {"ema_decay": 0.9},
    "accumulation": {"grad_accumulation_steps": 2},
    "step": {"lr_scheduler": "step", "lr_scheduler__step_size": 2},
    "cosine": {"lr_scheduler": "cosine", "lr_scheduler__T_max": 4},
    "lambda": {"lr_scheduler": "lambda", "lr_scheduler__lr_lambda": lambda e: 1 / (1 + e)},
    "multiplicative": {"lr_scheduler": "multiplicative", "lr_scheduler__lr_lambda": lambda e: 0.9},
    "warm-up": {"lr_scheduler": "warmup_cosine", "lr_scheduler__total_steps": 16},
    "one cycle": {"lr_scheduler": "onecycle", "lr_scheduler__total_steps": 16},
    "one cycle, sgd": {
        "optimizer": "sgd",
        "optimizer__momentum": 0.9,
        "lr_scheduler": "onecycle",
        "lr_scheduler__total_steps": 16,
    },
    "cyclic": {
        "optimizer": "sgd",
        "optimizer__momentum": 0.9,
        "lr_scheduler": "cyclic",
        "lr_scheduler__base_lr": 1e-4,
        "lr_scheduler__step_size_up": 3,
    },
    "plateau": {"lr_scheduler": "plateau", "lr_scheduler__patience": 0},
    "several schedules": {"lr_scheduler": several_schedules},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_parts_of_a_fit_are_the_fit(case):
    settings = {"net": UserMLP, "lr": 0.01, "batch_size": 32, "random_state": 0, **SETTINGS[case]}
    parts = TorchClassifier(**settings)
    for _ in range(4):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    whole = TorchClassifier(**settings, max_epochs=4, early_stopping=False).fit(X, Y)
    assert parts.history_["lr"].tolist() == whole.history_["lr"].tolist()
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), rtol=1e-6)


@pytest.mark.parametrize("name", ["onecycle", "warmup_cosine", "polynomial"])
def test_a_schedule_that_is_over_stays_at_its_end(name):
    clf = TorchClassifier(UserMLP, lr_scheduler=name, max_epochs=3).fit(X, Y)
    for _ in range(3):
        clf.partial_fit(np.tile(X, (5, 1)), np.tile(Y, 5))
    assert clf.history_["lr"].iloc[-1] == pytest.approx(clf.history_["lr"].iloc[-2], abs=1e-12)


CHANGES = [
    ({"optimizer": "adam"}, {"optimizer": "rmsprop"}),
    ({"optimizer": "sgd", "optimizer__momentum": 0.9}, {"optimizer": "adam"}),
    ({"optimizer": "lbfgs"}, {"optimizer": "adam"}),
    ({"lr": 0.01}, {"lr": {"hidden.*": 0.1, "*": 0.01}}),
    ({"lr_scheduler": "cosine"}, {"lr_scheduler": "exponential", "lr_scheduler__gamma": 0.5}),
    ({"lr_scheduler": "cosine"}, {"lr": 0.5}),
    ({"lr_scheduler": "cosine"}, {"lr_scheduler": None}),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_settings_changed_between_parts_hold(before, after):
    clf = TorchClassifier(UserMLP, **before).partial_fit(X, Y, classes=[0, 1, 2])
    clf.partial_fit(X, Y)
    if "optimizer__momentum" in before:
        del clf.optimizer__momentum
    clf.set_params(**after).partial_fit(X, Y)
    wanted = clf.lr if isinstance(clf.lr, float) else 0.1
    assert clf.history_["lr"].iloc[-1] == pytest.approx(wanted)


def test_after_early_stopping_the_best_average_goes_on():
    clf = TorchClassifier(UserMLP, lr=0.3, patience=5, ema_decay=0.9, max_epochs=60)
    clf.fit(X[:80], Y[:80], X_val=X[80:], y_val=Y[80:])
    assert clf.best_epoch_ < clf.n_iter_
    before = clf.predict_proba(X)
    assert np.array_equal(clf.set_params(lr=0).partial_fit(X, Y).predict_proba(X), before)
