"""How the loss is minimised: each step is the step as written by hand in torch."""

import copy

import numpy as np
import pytest
import torch
from nets import UserMLP, linear
from torch import nn
from torch.optim import lr_scheduler

from sktorch import TorchClassifier
from sktorch.fused import FUSED
from sktorch.optim import OPTIMIZERS, SCHEDULERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = RNG.integers(0, 3, size=60)
W = RNG.uniform(0.1, 3, size=60)
F = nn.functional


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def fitted(net, **settings):
    defaults = {"optimizer": "sgd", "lr": 0.1, "max_epochs": 1, "batch_size": 60, "shuffle": False}
    defaults["early_stopping"] = False
    return TorchClassifier(net, **{**defaults, **settings})


def by_hand(net, loss=None, optimizer=None, prepare=None, steps=1):
    """Take full-batch steps on the weighted loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1) if optimizer is None else optimizer
    w = torch.tensor(W)
    for _ in range(steps):
        optimizer.zero_grad()
        data = (F.cross_entropy(net(torch.tensor(X)), torch.tensor(Y), reduction="none") * w).sum()
        (data / w.sum() + (0 if loss is None else loss(net))).backward()
        if prepare is not None:
            prepare(net)
        optimizer.step()
    return net


def assert_same(ours, theirs, tolerance=1e-12):
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def weights(net):
    return [p for name, p in net.named_parameters() if "bias" not in name]


CASES = {
    "plain": ({}, {}),
    "l1": ({"l1": 0.1}, {"loss": lambda n: 0.1 * sum(w.abs().sum() for w in weights(n))}),
    "l2": ({"l2": 0.1}, {"loss": lambda n: 0.05 * sum((w**2).sum() for w in weights(n))}),
    "both by rules": (
        {"l1": {"0.*": 0.2}, "l2": {"2.weight": 0.3, "*": 0.0}},
        {
            "loss": lambda n: (
                0.2 * (n[0].weight.abs().sum() + n[0].bias.abs().sum())
                + 0.15 * (n[2].weight ** 2).sum()
            )
        },
    ),
    "clip": (
        {"grad_clip_norm": 0.01},
        {"prepare": lambda n: nn.utils.clip_grad_norm_(n.parameters(), 0.01)},
    ),
    "l2 and clip": (
        {"l2": 3.0, "grad_clip_norm": 0.5},
        {
            "loss": lambda n: 1.5 * sum((w**2).sum() for w in weights(n)),
            "prepare": lambda n: nn.utils.clip_grad_norm_(n.parameters(), 0.5),
        },
    ),
    "accumulation": ({"batch_size": 10, "grad_accumulation_steps": 6}, {}),
    "accumulation, short last": ({"batch_size": 25, "grad_accumulation_steps": 3}, {}),
    "accumulation and penalty": (
        {"batch_size": 25, "grad_accumulation_steps": 3, "l2": 0.1},
        {"loss": lambda n: 0.05 * sum((w**2).sum() for w in weights(n))},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_step_by_hand(case):
    settings, hand = CASES[case]
    ours = fitted(two_layers(), **settings).fit(X, Y, W)
    assert_same(ours.net_, by_hand(two_layers(), **hand))


RULES = {
    "plain decay spares biases": (
        {"weight_decay": 0.3},
        [
            {"params": ["0.weight", "2.weight"], "weight_decay": 0.3},
            {"params": ["0.bias", "2.bias"]},
        ],
    ),
    "decay by pattern": (
        {"weight_decay": {"0.*": 0.3, "*.bias": 0.2}},
        [
            {"params": ["0.weight", "0.bias"], "weight_decay": 0.3},
            {"params": ["2.weight"]},
            {"params": ["2.bias"], "weight_decay": 0.2},
        ],
    ),
    "decay by function": (
        {"weight_decay": lambda name, p: 0.1 * p.ndim},
        [
            {"params": ["0.weight", "2.weight"], "weight_decay": 0.2},
            {"params": ["0.bias", "2.bias"], "weight_decay": 0.1},
        ],
    ),
    "rate by pattern": (
        {"lr": {"0.*": 0.0, "*": 0.1}},
        [{"params": ["0.weight", "0.bias"], "lr": 0.0}, {"params": ["2.weight", "2.bias"]}],
    ),
    "the founding recipe": (
        {"lr": 1e-2, "optimizer__momentum": 0.9, "weight_decay": {"*.weight": 1e-5, "*": 0}},
        [
            {"params": ["0.weight", "2.weight"], "weight_decay": 1e-5, "lr": 1e-2, "momentum": 0.9},
            {"params": ["0.bias", "2.bias"], "lr": 1e-2, "momentum": 0.9},
        ],
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_rules_are_groups_of_parameters(case):
    settings, groups = RULES[case]
    net = two_layers()
    named = dict(net.named_parameters())
    groups = [{**g, "params": [named[name] for name in g["params"]]} for g in groups]
    theirs = by_hand(net, optimizer=torch.optim.SGD(groups, lr=0.1), steps=3)
    ours = fitted(two_layers(), max_epochs=3, **settings).fit(X, Y, W)
    assert_same(ours.net_, theirs)


def test_a_rate_of_zero_freezes_and_each_rule_has_its_column():
    clf = fitted(two_layers(), optimizer="adam", lr={"0.*": 0, "2.*": 0.1}, max_epochs=2).fit(X, Y)
    assert torch.equal(clf.net_[0].weight, two_layers()[0].weight)
    assert not torch.equal(clf.net_[2].weight, two_layers()[2].weight)
    columns = ["epoch", "train_loss", "lr", "lr[0.*]", "lr[2.*]", "epoch_time"]
    assert list(clf.history_) == columns
    assert clf.history_["lr[2.*]"].tolist() == [0.1, 0.1]


def test_norm_parameters_are_not_decayed():
    net = nn.Sequential(
        nn.Linear(4, 6), nn.LayerNorm(6), nn.Unflatten(1, (2, 3)), nn.LayerNorm((2, 3))
    )
    net = nn.Sequential(*net, nn.Flatten(), nn.Linear(6, 3)).double()
    clf = fitted(net, lr=0.5, weight_decay=1.0).fit(X, Y)
    free = fitted(net, lr=0.5).fit(X, Y)
    for name, p in clf.net_.named_parameters():
        decayed = name in ("0.weight", "5.weight")
        assert torch.equal(p, dict(free.net_.named_parameters())[name]) != decayed


@pytest.mark.parametrize("name", sorted({*OPTIMIZERS} - {"sparseadam"}))
def test_every_optimizer_steps_as_torch_steps_it(name):
    net = nn.Linear(4, 3, bias=False).double() if name == "muon" else two_layers()
    theirs = copy.deepcopy(net)
    optimizer = OPTIMIZERS[name](theirs.parameters(), lr=0.02)
    for group in optimizer.param_groups:
        # Some of torch's defaults are not 0; the estimator's own parameter is.
        group["weight_decay"] = 0

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(theirs(torch.tensor(X)), torch.tensor(Y))
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(4)]
    ours = fitted(net, optimizer=name, lr=0.02, max_epochs=4).fit(X, Y)
    assert_same(ours.net_, theirs, 1e-9)
    np.testing.assert_allclose(ours.history_["train_loss"], losses, rtol=1e-9)
    by_class = fitted(net, optimizer=OPTIMIZERS[name], lr=0.02, max_epochs=4).fit(X, Y)
    assert_same(ours.net_, by_class.net_, 0)


def test_sparse_adam_serves_sparse_embeddings():
    ids = RNG.integers(0, 9, size=(60, 1))
    net = nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Flatten())
    clf = fitted(net, optimizer="sparseadam", lr=0.1, max_epochs=80).fit(ids, ids[:, 0] % 3)
    assert clf.score(ids, ids[:, 0] % 3) == 1


def test_lbfgs_with_penalties_finds_the_minimum_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    clf = fitted(
        linear(4, 3),
        optimizer="lbfgs",
        optimizer__line_search_fn="strong_wolfe",
        optimizer__tolerance_grad=1e-12,
        optimizer__tolerance_change=1e-15,
        lr=1,
        max_epochs=20,
        l2=1 / len(X),
    ).fit(X, Y)
    reference = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-12).fit(X, Y)
    np.testing.assert_allclose(clf.predict_proba(X), reference.predict_proba(X), atol=1e-7)


SCHEDULES = {
    "step": (lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.5}),
    "multi_step": (lr_scheduler.MultiStepLR, {"milestones": [2, 5]}),
    "exponentiallr": (lr_scheduler.ExponentialLR, {"gamma": 0.9}),
    "cosine": (lr_scheduler.CosineAnnealingLR, {"T_max": 8}),
    "CosineAnnealingWarmRestarts": (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3}),
    "linear": (lr_scheduler.LinearLR, {"total_iters": 8}),
    "polynomial": (lr_scheduler.PolynomialLR, {"total_iters": 8, "power": 2.0}),
    "constant": (lr_scheduler.ConstantLR, {"factor": 0.5}),
    "lambda": (lr_scheduler.LambdaLR, {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    "multiplicative": (lr_scheduler.MultiplicativeLR, {"lr_lambda": lambda epoch: 0.9}),
    "onecycle": (lr_scheduler.OneCycleLR, {"max_lr": 0.1, "total_steps": 16}),
    "cyclic": (lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}),
}
FILLED = {"T_max", "total_iters", "total_steps"}


@pytest.mark.parametrize("form", ["name", "class"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_column_lr_is_torchs_own_schedule_to_the_bit(name, form):
    kind, settings = SCHEDULES[name]
    by_step = kind in (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)
    optimizer = torch.optim.SGD(two_layers().parameters(), lr=0.1, momentum=0.9)
    scheduler = kind(optimizer, **settings)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        for _ in range(2 if by_step else 1):
            optimizer.step()
            scheduler.step()
    given = {f"lr_scheduler__{k}": v for k, v in settings.items() if k not in FILLED}
    clf = fitted(
        two_layers(),
        lr_scheduler=name if form == "name" else kind,
        optimizer__momentum=0.9,
        batch_size=30,
        max_epochs=8,
        **given,
    ).fit(X, Y)
    assert clf.history_["lr"].tolist() == expected


def test_every_scheduler_of_torch_is_known():
    assert {kind for kind, _ in SCHEDULES.values()} <= {*SCHEDULERS.values()}
    assert lr_scheduler.ReduceLROnPlateau in SCHEDULERS.values()


def test_a_plateau_goes_by_the_monitored_value():
    clf = fitted(
        two_layers(), lr_scheduler="plateau", lr_scheduler__patience=2, lr_scheduler__factor=0.5,
        lr=0.3, max_epochs=40, monitor="val_loss",
    )  # fmt: skip
    clf.fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:])
    optimizer = torch.optim.SGD(two_layers().parameters(), lr=0.3)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, factor=0.5)
    expected = []
    for value in clf.history_["val_loss"]:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    assert clf.history_["lr"].tolist() == expected
    assert expected[-1] < 0.3


def test_warm_up_rises_then_falls_along_a_cosine():
    clf = fitted(
        two_layers(), lr_scheduler="warmup_cosine", lr_scheduler__warmup=0.25, max_epochs=8
    ).fit(X, Y)
    fall = [0.05 * (1 + np.cos(np.pi * k / 6)) for k in range(6)]
    np.testing.assert_allclose(clf.history_["lr"], [0.05, 0.1, *fall])


def test_partial_fit_goes_on_with_the_schedule():
    settings = {"lr_scheduler": "cosine", "lr_scheduler__T_max": 6, "random_state": 0}
    parts = fitted(two_layers(), **settings)
    for _ in range(5):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    whole = fitted(two_layers(), **settings).set_params(max_epochs=5).fit(X, Y)
    assert parts.history_["lr"].tolist() == whole.history_["lr"].tolist()
    assert_same(parts.net_, whole.net_, 0)


def test_averaged_weights_are_validated_and_returned():
    net = two_layers()
    average = None
    losses = []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(5):
        by_hand(net, optimizer=optimizer)
        now = copy.deepcopy(net.state_dict())
        average = now if average is None else {k: 0.8 * average[k] + 0.2 * now[k] for k in now}
        z = torch.func.functional_call(net, average, torch.tensor(X[:9]))
        losses.append(F.cross_entropy(z, torch.tensor(Y[:9])).item())
    clf = fitted(two_layers(), ema_decay=0.8, max_epochs=5)
    clf.fit(X, Y, W, X_val=X[:9], y_val=Y[:9])
    for name, value in clf.net_.state_dict().items():
        torch.testing.assert_close(value, average[name])
    np.testing.assert_allclose(clf.history_["val_loss"], losses)
    parts = fitted(two_layers(), ema_decay=0.8)
    for _ in range(5):
        parts.partial_fit(X, Y, classes=[0, 1, 2], sample_weight=W)
    assert_same(parts.net_, clf.net_, 1e-9)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_close_to_full(precision, breast_cancer):
    X, y = breast_cancer
    settings = {"lr": 0.01, "max_epochs": 15, "random_state": 0, "grad_clip_norm": 1.0}
    half = TorchClassifier(UserMLP, precision=precision, **settings).fit(X, y)
    full = TorchClassifier(UserMLP, **settings).fit(X, y)
    assert half.net_.hidden.weight.dtype is torch.float32
    assert half.score(X, y) > 0.97
    assert not torch.equal(half.net_.hidden.weight, full.net_.hidden.weight)
    np.testing.assert_allclose(half.predict_proba(X), full.predict_proba(X), atol=0.1)


BAD = {
    "pattern of no parameter": (
        {"lr": {"encoder.*": 1, "*": 1}},
        r"lr: .*'encoder\.\*'.*0\.weight",
    ),
    "parameter without rate": ({"lr": {"0.*": 1}}, r"lr has no value for 2\.weight, 2\.bias.*'\*'"),
    "negative rule": ({"weight_decay": {"*": -1}}, r"weight_decay\['\*'\].*>= 0.*-1"),
    "negative function": ({"weight_decay": lambda n, p: -1}, r"weight_decay of 0\.weight.*-1"),
    "penalty of no parameter": ({"l2": {"bais": 1}}, r"l2: .*'bais'"),
    "negative penalty": ({"l1": -0.1}, r"'l1' .*-0.1"),
    "scheduler": ({"lr_scheduler": "stepp"}, r"lr_scheduler='stepp'.*steplr"),
    "scheduler parameter": (
        {"lr_scheduler": "step", "lr_scheduler__size": 1},
        r"lr_scheduler__size .*lr_scheduler__step_size",
    ),
    "scheduler without what it needs": ({"lr_scheduler": "step"}, r"lr_scheduler: .*step_size"),
    "parameter without scheduler": ({"lr_scheduler__gamma": 1}, r"lr_scheduler__gamma .*None"),
    "clip": ({"grad_clip_norm": 0}, r"'grad_clip_norm' .*0"),
    "accumulation": ({"grad_accumulation_steps": 0}, r"'grad_accumulation_steps' .*0"),
    "average": ({"ema_decay": 1.0}, r"'ema_decay' .*1.0"),
    "precision": ({"precision": "float8"}, r"'precision' .*float8"),
    "frozen by rprop": ({"optimizer": "rprop", "lr": 0}, r"lr: .*Rprop.*requires_grad=False"),
    "rules for lbfgs": (
        {"optimizer": "lbfgs", "lr": {"0.*": 1, "*": 2}},
        r"lr and weight_decay must be one number each .*lbfgs",
    ),
    "decay for lbfgs": ({"optimizer": "lbfgs", "weight_decay": 0.1}, r"lbfgs"),
    "float16 for lbfgs": ({"optimizer": "lbfgs", "precision": "float16"}, r"precision="),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_named(case):
    settings, message = BAD[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        fitted(two_layers(), **settings).fit(X, Y)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lbfgs"])
def test_a_range_test_suggests_a_rate_that_learns_and_changes_nothing(optimizer, digits):
    images, labels = digits
    clf = TorchClassifier(optimizer=optimizer, lr_scheduler="onecycle", random_state=0)
    if optimizer == "lbfgs":
        clf.set_params(optimizer__line_search_fn="strong_wolfe")
    before = clf.get_params()
    suggestion, steps = clf.lr_find(images, labels, lr_max=10.0, n_steps=80)
    assert clf.get_params() == before
    assert not hasattr(clf, "net_")
    assert list(steps) == ["lr", "loss", "smoothed"]
    assert steps["lr"].iloc[[0, -1]].tolist() == pytest.approx([1e-6, 10.0])
    np.testing.assert_allclose(np.diff(np.log(steps["lr"])), np.log(1e7) / 79)
    assert 1e-4 < suggestion < 10
    clf.set_params(lr=suggestion, max_epochs=5, lr_scheduler=None)
    assert clf.fit(images, labels).score(images, labels) > 0.9


def test_a_range_test_says_what_it_needs():
    with pytest.raises(ValueError, match=r"lr_min=1.*lr_max=0.1"):
        TorchClassifier().lr_find(X, Y, lr_min=1, lr_max=0.1)
    with pytest.raises(ValueError, match=r"lr_find: .*smaller lr_min"):
        TorchClassifier(optimizer="sgd").lr_find(X * 1e6, Y, lr_min=1e3, lr_max=1e6)


@pytest.mark.parametrize("kind", FUSED)
def test_a_fused_optimizer_goes_where_torchs_goes_and_keeps_its_states(kind):
    """What holds a state, such as a compiled step, sees every update of it."""

    def weights(kind, fused):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        extra = {"momentum": 0.9, "dampening": 0.1} if issubclass(kind, torch.optim.SGD) else {}
        optimizer = kind(net.parameters(), lr=0.1, weight_decay=0.01, fused=fused, **extra)
        held = []
        for step in range(6):
            optimizer.zero_grad()
            rows = torch.randn(5, 4)
            # The third step leaves the last layer out.
            (net[0](rows) if step == 2 else net(rows)).square().sum().backward()
            optimizer.step()
            if step == 0:
                states = (optimizer.state[p] for p in net.parameters())
                held = [{k: v.detach() for k, v in s.items() if v is not None} for s in states]
        states = [optimizer.state[p] for p in net.parameters()]
        for now, before in zip(states, held, strict=True):
            assert all(torch.equal(now[name], before[name]) for name in before)
        copies = [v.clone() for state in states for v in state.values() if v is not None]
        return [p.detach() for p in net.parameters()], copies

    for ours, theirs in zip(weights(FUSED[kind], True), weights(kind, True), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


class InTurns(nn.Module):
    """Has a layer that takes part only where a batch begins with a positive number."""

    def __init__(self):
        super().__init__()
        self.first, self.other = linear(4, 3), linear(4, 3)

    def forward(self, x):
        y = self.first(x)
        return y + self.other(x) if x[0, 0] > 0 else y


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_parameter_counts_only_the_steps_in_which_it_had_a_gradient(name):
    net = InTurns()
    assert len({*(X[::10, 0] > 0)}) == 2
    ours = fitted(net, optimizer=name, batch_size=10, max_epochs=3).fit(X, Y).net_
    theirs = copy.deepcopy(net)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    optimizer = kind(theirs.parameters(), lr=0.1, **({} if name == "sgd" else {"fused": False}))
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    for start in [*range(0, 60, 10)] * 3:
        rows = slice(start, start + 10)
        optimizer.zero_grad()
        F.cross_entropy(theirs(torch.tensor(X[rows])), torch.tensor(Y[rows])).backward()
        optimizer.step()
    assert_same(ours, theirs)


class Doubled(torch.autograd.Function):
    """Writes to the gradient that it is given, as nobody should."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mul_(2)


def test_a_backward_that_writes_to_its_gradient_is_the_same_in_each_step():
    net = two_layers()
    ours = fitted(net, loss=lambda p, y: Doubled.apply(F.cross_entropy(p, y)), max_epochs=4)
    twice = fitted(net, lr=0.2, max_epochs=4).fit(X, Y)
    assert_same(ours.fit(X, Y).net_, twice.net_)
    # Nor does it change fits that follow.
    assert_same(fitted(net, lr=0.2, max_epochs=4).fit(X, Y).net_, twice.net_)


@pytest.mark.parametrize("kind", FUSED)
def test_parameters_that_a_fused_optimizer_takes_over_later_are_updated(kind):
    early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = FUSED[kind]([early], lr=0.1, fused=True)
    for parameters in ([early], [early, late]):
        for parameter in parameters:
            parameter.grad = torch.ones(3)
        optimizer.step()
        if late not in {*optimizer.param_groups[-1]["params"]}:
            optimizer.add_param_group({"params": [late]})
    assert (late < 1).all()
    assert (early < late).all()
