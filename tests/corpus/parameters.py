"""Parameters that are bad or odd."""

import warnings

import numpy as np
import torch
from torch import nn

from corpus.case import (
    R,
    X,
    Y,
    case,
    fits,
    holds,
    learns,
    regresses,
)

F = nn.functional

# Parameters -------------------------------------------------------------------------------------

BAD_PARAMETERS = {
    "lr of a text": ({"lr": "0.1"}, r"(?i)lr|learning_rate"),
    "lr negative": ({"lr": -1.0}, r"(?i)lr|learning.?rate"),
    "lr NaN": ({"lr": float("nan")}, r"(?i)lr|learning.?rate"),
    "lr infinite": ({"lr": float("inf")}, r"(?i)lr|learning.?rate"),
    "lr None": ({"lr": None}, r"(?i)lr|learning.?rate"),
    "lr of 1e6": ({"lr": 1e6, "optimizer": "sgd"}, r"(?i)lr|learning|solver"),
    "lr of 1e30": ({"lr": 1e30}, r"(?i)lr|learning|solver"),
    "lr of True": ({"lr": True}, r"(?i)lr|learning_rate"),
    "lr of an array": ({"lr": np.ones(2)}, r"(?i)lr|learning_rate"),
    "max_epochs True": ({"max_epochs": True}, r"(?i)max_epochs|max_iter"),
    "batch_size True": ({"batch_size": True}, r"(?i)batch_size"),
    "optimizer's lr beside lr": ({"optimizer__lr": 0.1}, r"(?i)optimizer__lr|lr"),
    "optimizer None": ({"optimizer": None}, r"(?i)optimizer|solver"),
    "loss None": ({"loss": None}, r"(?i)loss"),
    "net None": ({"net": None}, r"(?i)net|module"),
    "verbose of a text": ({"verbose": "loud"}, r"(?i)verbose"),
    "random_state negative": ({"random_state": -1}, r"(?i)random_state|seed"),
    "restore_best of a text": ({"restore_best": "yes"}, r"restore_best"),
    "warm_start of a text": ({"warm_start": "yes"}, r"warm_start"),
    "scheduler of another class": ({"lr_scheduler": dict}, r"lr_scheduler"),
    "scheduler's function that returns nothing": (
        {"lr_scheduler": lambda o: None},
        r"lr_scheduler",
    ),
    "metrics twice": ({"metrics": ["accuracy", "accuracy"]}, r"metrics"),
    "metrics of a name that is taken": ({"metrics": {"loss": "accuracy"}}, r"metrics.*loss"),
    "weight_decay by a function of texts": ({"weight_decay": lambda n, p: "a"}, r"weight_decay"),
    "weights of a class missing": ({"class_weight": {0: 1.0, 7: 2.0}}, r"class_weight"),
    "max_epochs 0": ({"max_epochs": 0}, r"(?i)max_epochs|max_iter"),
    "max_epochs -1": ({"max_epochs": -1}, r"(?i)max_epochs|max_iter"),
    "max_epochs 2.5": ({"max_epochs": 2.5}, r"(?i)max_epochs|max_iter"),
    "max_epochs of a text": ({"max_epochs": "9"}, r"(?i)max_epochs|max_iter"),
    "batch_size 0": ({"batch_size": 0}, r"(?i)batch.?size"),
    "batch_size 2.5": ({"batch_size": 2.5}, r"(?i)batch.?size"),
    "batch_size negative": ({"batch_size": -5}, r"(?i)batch.?size"),
    "batch_size of a text": ({"batch_size": "big"}, r"(?i)batch.?size"),
    "patience 0": ({"patience": 0}, r"patience"),
    "patience of a text": ({"patience": "long"}, r"patience"),
    "min_delta negative": ({"min_delta": -1.0}, r"min_delta"),
    "validation_fraction 0": ({"validation_fraction": 0.0, "early_stopping": True}, r"validation"),
    "validation_fraction 1": ({"validation_fraction": 1.0, "early_stopping": True}, r"validation"),
    "validation_fraction .999": (
        {"validation_fraction": 0.999, "early_stopping": True},
        r"validation|train",
    ),
    "early_stopping of a text": ({"early_stopping": "yes"}, r"early_stopping"),
    "monitor unknown": ({"monitor": "val_lss"}, r"monitor.*val_loss"),
    "monitor of a metric that is not computed": ({"monitor": "val_accuracy"}, r"monitor.*metrics"),
    "mode unknown": ({"mode": "least"}, r"mode"),
    "optimizer unknown": ({"optimizer": "adm"}, r"(?i)optimizer|solver|adam"),
    "optimizer built already": (
        {"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1)},
        r"(?i)optimizer|solver",
    ),
    "optimizer of another class": ({"optimizer": dict}, r"(?i)optimizer|solver"),
    "optimizer's parameter misspelt": ({"optimizer__momentm": 1}, r"momentm"),
    "optimizer's parameter refused": ({"optimizer__eps": -1.0}, r"eps"),
    "scheduler unknown": ({"lr_scheduler": "sawtooth"}, r"lr_scheduler.*sawtooth"),
    "scheduler without what it needs": ({"lr_scheduler": "step"}, r"lr_scheduler.*step_size"),
    "scheduler's parameter without it": ({"lr_scheduler__gamma": 0.1}, r"lr_scheduler"),
    "scheduler's parameter misspelt": (
        {"lr_scheduler": "step", "lr_scheduler__stepsize": 3},
        r"lr_scheduler__stepsize",
    ),
    "loss unknown": ({"loss": "hinge_of_door"}, r"loss.*cross_entropy"),
    "loss of values": ({"loss": "squared_error"}, r"loss.*cross_entropy"),
    "loss's parameter misspelt": ({"loss": "focal", "loss__gama": 2}, r"loss__gama"),
    "loss's parameter out of range": ({"loss": "focal", "loss__gamma": -1}, r"loss__gamma"),
    "loss for two classes": ({"loss": "bce"}, r"loss.*cross_entropy|one output"),
    "net unknown": ({"net": "mpl"}, r"net.*mlp"),
    "net's parameter misspelt": ({"net__hiden": 3}, r"net__hiden"),
    "net's parameter out of range": ({"net__dropout": 1.5}, r"net__dropout"),
    "net's sizes negative": ({"net__hidden_layer_sizes": (3, -1)}, r"hidden_layer_sizes"),
    "net's sizes fractional": ({"net__hidden_layer_sizes": 2.5}, r"hidden_layer_sizes"),
    "weight_decay negative": ({"weight_decay": -1}, r"weight_decay"),
    "weight_decay by a pattern of nothing": (
        {"weight_decay": {"conv.*": 1}},
        r"weight_decay.*conv",
    ),
    "lr by patterns that leave some out": ({"lr": {"0.*": 0.1}}, r"lr.*2\.weight"),
    "l1 negative": ({"l1": -1.0}, r"l1"),
    "l2 NaN": ({"l2": float("nan")}, r"l2"),
    "grad_clip_norm 0": ({"grad_clip_norm": 0}, r"grad_clip_norm"),
    "grad_accumulation_steps 0": ({"grad_accumulation_steps": 0}, r"grad_accumulation_steps"),
    "ema_decay 1": ({"ema_decay": 1.0}, r"ema_decay"),
    "precision unknown": ({"precision": "float8"}, r"precision"),
    "dtype unknown": ({"dtype": "float31"}, r"dtype"),
    "shuffle of a text": ({"shuffle": "yes"}, r"shuffle"),
    "random_state of a text": ({"random_state": "a"}, r"random_state|seed"),
    "metrics unknown": ({"metrics": ["acuracy"]}, r"metrics.*accuracy"),
    "metrics of values": ({"metrics": ["r2"]}, r"metrics"),
    "callbacks of a class": ({"callbacks": [dict]}, r"(?i)callback"),
    "callbacks of a single object": ({"callbacks": 3}, r"(?i)callback|iterable"),
}
for name, (settings, error) in BAD_PARAMETERS.items():
    case("parameters", name, fits(**settings), error=error)


def _misspelt(lib):
    return type(lib.clf())(learning_rat=1)


case("parameters", "an unknown name", _misspelt, error=r"learning_rat")
case(
    "parameters",
    "an unknown name to set",
    lambda lib: lib.clf().set_params(learning_rat=1).fit(X, Y),
    error=r"learning_rat",
)
case(
    "parameters",
    "a range of Poisson",
    regresses(y=R - 10, loss="poisson"),
    error=r"(?i)y must|loss",
)
NUMBERS = {"lr": np.float32(0.05), "max_epochs": np.int64(30), "batch_size": np.int32(64)}
case("parameters", "numbers of numpy", fits(**NUMBERS), right=learns)
case("parameters", "a RandomState", fits(random_state=np.random.RandomState(0)), right=learns)
case(
    "parameters",
    "a target scaling unknown",
    regresses(target_scaling="robust"),
    error=r"target_scaling",
)
case(
    "parameters",
    "a loss of labels for values",
    regresses(loss="focal"),
    error=r"loss.*squared_error",
)
case(
    "parameters",
    "a quantile out of range",
    regresses(loss="quantile", loss__q=1.5),
    error=r"loss__",
)
case("parameters", "more rows a batch than there are", fits(batch_size=10_000), right=learns)
case("parameters", "batches of one row", fits(batch_size=1, max_epochs=5, lr=0.01), right=learns)
case(
    "parameters",
    "lr 0 learns nothing",
    lambda lib: _lr_zero(lib),
    right=holds,
    error=r"(?i)lr|learning.?rate",
)
case("parameters", "a search over good and bad values", lambda lib: _search(lib), right=holds)


def _lr_zero(lib):
    model = lib.clf(lr=0.0, net=lambda: nn.Linear(4, 3))
    return np.ptp(model.fit(X, Y).history_["train_loss"]) == 0


def _search(lib):
    """A grid in which one candidate diverges is searched to its end."""
    from sklearn.model_selection import GridSearchCV

    grid = {"lr" if lib.name != "MLPClassifier" else "learning_rate_init": [0.05, 1e30]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(lib.clf(), grid, cv=2).fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    return scores[0] > 0.8 and np.isnan(scores[1])
