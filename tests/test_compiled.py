"""compile=True: the results of the plain step, in fewer microseconds."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from compiling import CASES, FOR_A_NET, SETTINGS, Normed, X, Y, assert_same_fit, both
from nets import Recomputes
from sklearn.datasets import make_regression
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.engine import compiled
from sktorch.losses import LOSSES

X_VALUES, VALUES = make_regression(150, 6, n_targets=2, noise=5.0, random_state=0)


@pytest.mark.parametrize("case", CASES)
def test_a_compiled_fit_ends_where_the_plain_one_ends(case):
    assert_same_fit(*both(TorchClassifier(**SETTINGS, **CASES[case]), X, Y))


def test_weights_that_were_frozen_at_first_count_their_own_steps():
    def thawed(compile):
        net = nn.Sequential(nn.Linear(X.shape[1], 8), nn.Tanh(), nn.Linear(8, 2)).double()
        net.load_state_dict({k: torch.full_like(v, 0.1) for k, v in net.state_dict().items()})
        net[0].requires_grad_(False)
        given = {"lr": 0.05, "batch_size": 16, "random_state": 0, "dtype": "float64"}
        clf = TorchClassifier(net, compile=compile, **given).partial_fit(X, Y, classes=[0, 1])
        clf.net_.requires_grad_(True)
        return clf.partial_fit(X, Y)

    assert_same_fit(thawed(False), thawed(True))


def test_batch_norm_dropout_and_frozen_layers_are_those_of_the_plain_step():
    torch.manual_seed(0)
    assert_same_fit(*both(TorchClassifier(Normed, **FOR_A_NET), X, Y))


class Noise(nn.Module):
    """Adds random numbers to what it is given, in training."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        return self.layer(x + 0.1 * self.draw(x) if self.training else x)


class Attention(nn.Module):
    """A layer with dropout in four places, one of them between two products of matrices."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.2, batch_first=True)
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        return self.last(self.layer(self.first(x[..., None])).mean(1))


class Branches(nn.Module):
    """Two ways through dropout that do not wait for each other."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Sequential(
            *(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(64, 6), nn.AlphaDropout(0.3)),
        )
        self.narrow = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.4))
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.wide(x) + self.narrow(x))


DRAWING = {
    "randn_like": lambda: Noise(torch.randn_like),
    "rand": lambda: Noise(lambda x: torch.rand(x.shape, dtype=x.dtype) + torch.rand_like(x)),
    "exponential_": lambda: Noise(lambda x: torch.empty_like(x).exponential_().log()),
    "normal_": lambda: Noise(lambda x: torch.empty_like(x.T).normal_(0.1, 2.0).T),
    "randperm": lambda: Noise(lambda x: x[torch.randperm(len(x))]),
    "gumbel_softmax": lambda: Noise(nn.functional.gumbel_softmax),
    "dropout of attention": Attention,
    "dropout in branches": Branches,
}


@pytest.mark.parametrize("case", DRAWING)
def test_random_numbers_are_drawn_as_in_the_plain_step(case):
    torch.manual_seed(0)
    assert_same_fit(*both(TorchClassifier(DRAWING[case](), **FOR_A_NET), X, Y))


def drawn_twice(x):
    """Draw into what has been read already."""
    noise = torch.empty_like(x)
    return (x + noise.normal_()) * (x + noise.normal_())


def scaled_late(x):
    """Change what has been read already."""
    noise = torch.rand_like(x)
    y = x + noise
    noise.mul_(0.5)
    return y + noise


@pytest.mark.parametrize("draw", [drawn_twice, scaled_late])
def test_what_draws_where_it_has_read_is_not_compiled(draw):
    with pytest.warns(UserWarning, match="draws random numbers where it has read others"):
        TorchClassifier(Noise(draw), compile=True, **FOR_A_NET).fit(X, Y)


def test_what_draws_again_in_the_backward_is_not_compiled():
    with pytest.warns(UserWarning, match="the backward draws random numbers"):
        TorchClassifier(Recomputes, compile=True, **FOR_A_NET).fit(X, Y)


@pytest.mark.parametrize(
    "draw",
    [lambda x: nn.functional.rrelu(x, training=True), lambda x: torch.bernoulli(x.sigmoid())],
)
def test_what_draws_by_what_it_is_given_is_not_compiled(draw):
    with pytest.warns(UserWarning, match="draws random numbers by what it is given"):
        TorchClassifier(Noise(draw), compile=True, **FOR_A_NET).fit(X, Y)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_compiles_or_says_why_not(loss):
    values = "values" in LOSSES[loss].targets
    data = (X_VALUES, VALUES - VALUES.min() + 1) if values else (X, Y)
    if loss == "kl_div":
        data = X_VALUES, np.tile([0.25, 0.75], (150, 1))
    estimator = (TorchRegressor if values else TorchClassifier)(loss=loss, **SETTINGS)
    if loss == "adaptive_log_softmax":
        estimator.set_params(compile=True)
        with pytest.warns(UserWarning, match="loss has weights of its own"):
            estimator.fit(*data)
        return
    assert_same_fit(*both(estimator, *data))


def test_sample_weights_are_those_of_the_plain_step():
    weight = np.random.default_rng(0).uniform(0, 2, len(X))
    assert_same_fit(*both(TorchClassifier(**SETTINGS), X, Y, weight))


def test_partial_fit_goes_on_with_the_optimizer_of_the_epochs_before():
    plain, fast = (TorchClassifier(compile=c, **SETTINGS) for c in (False, True))
    for _ in range(3):
        plain.partial_fit(X, Y, classes=[0, 1])
        fast.partial_fit(X, Y, classes=[0, 1])
    assert_same_fit(plain, fast)


@pytest.fixture
def count(monkeypatch):
    """Count how often something is compiled."""
    compiled._programs.clear()
    calls = []
    original = compiled.compile_step

    def compile_step(*args):
        program = original(*args)
        calls.append(args)
        return program

    monkeypatch.setattr(compiled, "compile_step", compile_step)
    return calls


def test_folds_and_candidates_that_differ_in_numbers_share_one_program(count):
    grid = {"lr": [1e-3, 1e-2], "weight_decay": [0.01, 0.1], "loss__gamma": [0.5, 2.0]}
    estimator = TorchClassifier(loss="focal", compile=True, **SETTINGS)
    search = GridSearchCV(estimator, grid, cv=3, refit=False)
    scores = search.fit(X, Y).cv_results_["mean_test_score"]
    assert len(count) == 1
    plain = GridSearchCV(estimator.set_params(compile=False), grid, cv=3, refit=False).fit(X, Y)
    np.testing.assert_array_equal(scores, plain.cv_results_["mean_test_score"])


def test_auto_compiles_only_what_it_pays_for(count):
    TorchClassifier(compile="auto", **SETTINGS).fit(X, Y)
    assert not count


class Branching(nn.Module):
    """Takes another way for other values."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        y = self.layer(x)
        return y if y.sum() > 0 else 2 * y


class Counting(Branching):
    """Holds what it has seen outside its buffers."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) / self.calls**0.1


class Noisy(Branching):
    """Draws numbers where torch does not."""

    def forward(self, x):
        return self.layer(x) + float(np.random.rand())


@pytest.mark.parametrize(
    ("net", "settings", "reason"),
    [
        (Branching, {}, "compile"),
        (Counting, {}, "changes its attributes"),
        (Noisy, {}, "random numbers of Python or numpy"),
        ("mlp", {"optimizer": "lbfgs"}, "LBFGS is none of"),
        ("mlp", {"optimizer": "nadam"}, "NAdam is none of"),
        ("mlp", {"optimizer": "adam", "optimizer__maximize": True}, "optimizer__maximize"),
        ("mlp", {"grad_accumulation_steps": 2}, "grad_accumulation_steps"),
    ],
)
def test_what_cannot_be_compiled_runs_plainly_with_one_warning(net, settings, reason):
    common = SETTINGS if net == "mlp" else FOR_A_NET
    settings = {**common, **settings, "max_epochs": 2}
    with pytest.warns(UserWarning, match="compile=True") as caught:
        fast = TorchClassifier(net, compile=True, **settings).fit(X, Y)
    assert len(caught) == 1
    assert reason in str(caught[0].message) or net is Branching
    if net not in (Counting, Noisy):  # these depend on how often they are tried out
        assert_same_fit(TorchClassifier(net, **settings).fit(X, Y), fast)


def test_without_a_compiler_the_plain_step_runs():
    from torch._inductor import config

    compiled._programs.clear()
    estimator = TorchClassifier(**{**SETTINGS, "net__hidden_layer_sizes": (7,)})
    plain = estimator.fit(X, Y).net_.state_dict()
    without = config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False})
    with without, pytest.warns(UserWarning, match="compile=True: this fit runs the plain step"):
        fast = estimator.set_params(compile=True).fit(X, Y).net_.state_dict()
    for name, tensor in plain.items():
        assert torch.equal(tensor, fast[name])


@pytest.mark.slow
def test_a_net_with_pooling_compiles_where_nothing_has_been_compiled_before():
    code = """
import numpy as np
from torch import nn
from sktorch import TorchClassifier

net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 3 * 3, 2))
X = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype("float32")
fit = TorchClassifier(net, batch_size=16, max_epochs=2, compile=True, early_stopping=False)
fit.fit(X, np.arange(40) % 2)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300)


@pytest.mark.slow
def test_worker_processes_compile_too():
    search = GridSearchCV(
        TorchClassifier(compile=True, **SETTINGS), {"lr": [1e-3, 1e-2]}, cv=2, n_jobs=2, refit=False
    )
    fast = search.fit(X, Y).cv_results_["mean_test_score"]
    search.set_params(estimator__compile=False)
    np.testing.assert_array_equal(fast, search.fit(X, Y).cv_results_["mean_test_score"])


def test_a_fit_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []
        TorchClassifier(**SETTINGS).fit(X, Y)
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert torch.get_num_threads() == 2
        assert seen == [2]
    finally:
        torch.set_num_threads(before)
