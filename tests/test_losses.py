"""Losses: values and gradients against torch, weights against copies."""

import pickle

import numpy as np
import pytest
import torch
from nets import linear
from sklearn.metrics import (
    mean_gamma_deviance,
    mean_pinball_loss,
    mean_poisson_deviance,
    roc_auc_score,
)
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.losses import LOSSES, FocalLoss, SCELoss, find_loss
from sktorch.objective import build_objective

CLASSIFICATION = [name for name, loss in LOSSES.items() if {"index", "indicator"} & {*loss.targets}]
REGRESSION = [name for name, loss in LOSSES.items() if "values" in loss.targets]
LOGITS = [name for name, loss in LOSSES.items() if loss.meaning in ("logits", "margins")]

N = 12


def function(name):
    """Return the pointwise function of a loss, built where it has weights of its own."""
    if LOSSES[name].meaning != "features":
        return LOSSES[name].pointwise
    torch.manual_seed(0)
    return LOSSES[name].pointwise(3, 3, torch.tensor([4, 5, 3]), div_value=1.0).double()


def batches(name):
    """Yield predictions and targets in each layout that a loss takes."""
    generator = torch.Generator().manual_seed(0)
    loss = LOSSES[name]
    for layout in loss.targets:
        n_outputs = 3 * (loss.outputs_per_target if layout == "values" else 1)
        y_pred = torch.randn(N, n_outputs, generator=generator, dtype=torch.float64)
        if loss.meaning == "probabilities":
            y_pred = y_pred.sigmoid()
        if loss.meaning == "log_probabilities":
            y_pred = y_pred.log_softmax(1)
        if layout == "index":
            y_true = torch.randint(0, 3, (N,), generator=generator)
        elif layout == "indicator":
            y_true = torch.randint(0, 2, (N, 3), generator=generator).double()
        else:
            y_true = torch.rand(N, 3, generator=generator, dtype=torch.float64) + 0.1
            y_true = y_true / y_true.sum(1, keepdim=True) if name == "kl_div" else y_true
        yield y_pred.requires_grad_(), y_true


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].meaning != "features"])
def test_a_loss_is_pointwise_and_its_mean_is_the_mean(name):
    for y_pred, y_true in batches(name):
        values = LOSSES[name].pointwise(y_pred, y_true)
        assert values.shape == (N,)
        assert (values >= 0).all() or LOSSES[name].meaning in ("mean_and_log_variance", "log_mean")
        entry = find_loss(name, classification=name in CLASSIFICATION)
        objective = build_objective(name, {}, entry)
        torch.testing.assert_close(objective(y_pred, y_true, None, N), values.mean())
        weight = torch.arange(N, dtype=torch.float64)
        torch.testing.assert_close(
            objective(y_pred, y_true, weight, weight.sum()), (values * weight).sum() / weight.sum()
        )


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_values(name):
    loss = function(name)
    for y_pred, y_true in batches(name):
        y_pred = y_pred.detach().requires_grad_()
        assert torch.autograd.gradcheck(lambda z, t=y_true: loss(z, t), y_pred)


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_a_loss_of_logits_is_finite_at_extreme_logits(name, dtype, scale):
    for y_pred, y_true in batches(name):
        z = (torch.sign(y_pred.detach()) * scale).to(dtype).requires_grad_()
        y = y_true.to(dtype) if y_true.is_floating_point() else y_true
        values = LOSSES[name].pointwise(z, y)
        values.sum().backward()
        assert torch.isfinite(values).all()
        assert torch.isfinite(z.grad).all()


F = nn.functional
LOG_TWO_PI = np.log(2 * np.pi)
# The same loss as torch or scikit-learn writes it, averaged.
REFERENCES = {
    ("nll", "index"): F.nll_loss,
    ("bce_probability", "indicator"): F.binary_cross_entropy,
    ("kl_div", "values"): lambda z, t: F.kl_div(z, t, reduction="batchmean"),
    ("hinge", "index"): F.multi_margin_loss,
    ("smooth_l1", "values"): F.smooth_l1_loss,
    ("poisson", "values"): F.poisson_nll_loss,
    ("quantile", "values"): lambda z, t: mean_pinball_loss(*flat(t, z)),
    ("gaussian_nll", "values"): lambda z, t: F.gaussian_nll_loss(z[:, :3], t, z[:, 3:].exp()),
    ("cosine", "values"): lambda z, t: F.cosine_embedding_loss(z, t, torch.ones(N)),
    ("squared_error", "values"): F.mse_loss,
    ("absolute_error", "values"): F.l1_loss,
    ("huber", "values"): F.huber_loss,
    ("cross_entropy", "index"): F.cross_entropy,
    ("cross_entropy", "indicator"): F.binary_cross_entropy_with_logits,
    ("bce", "indicator"): F.binary_cross_entropy_with_logits,
}


def flat(*tensors):
    return [t.detach().numpy().ravel() for t in tensors]


@pytest.mark.parametrize(("name", "layout"), REFERENCES)
def test_a_loss_is_that_of_torch_or_scikit_learn(name, layout):
    y_pred, y_true = [*batches(name)][LOSSES[name].targets.index(layout)]
    if name == "hinge":  # torch adds up over the other classes; of two there is one
        y_pred, y_true = y_pred[:, :2], y_true.clamp(max=1)
        expected = 2 * REFERENCES[name, layout](y_pred, y_true).item()
    else:
        expected = float(REFERENCES[name, layout](y_pred.detach(), y_true))
    assert LOSSES[name].pointwise(y_pred, y_true).mean().item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "deviance"), [("poisson", mean_poisson_deviance), ("gamma", mean_gamma_deviance)]
)
def test_a_log_likelihood_is_half_the_deviance_above_its_least_value(name, deviance):
    y_pred, y_true = next(batches(name))
    loss = LOSSES[name].pointwise
    excess = (loss(y_pred, y_true) - loss(y_true.log(), y_true)).mean().item()
    assert excess == pytest.approx(deviance(*flat(y_true, y_pred.exp())) / 2)


def test_symmetric_cross_entropy_is_the_sum_of_the_two():
    y_pred, y_true = next(batches("sce"))
    q = F.one_hot(y_true, 3).double().clamp(1e-4, 1)
    p = y_pred.softmax(1).clamp(1e-4, 1)
    expected = 0.3 * F.cross_entropy(y_pred, y_true) - 2 * (p * q.log()).sum(1).mean()
    torch.testing.assert_close(SCELoss(a=0.3, b=2)(y_pred, y_true), expected)
    one, two = y_pred[:, :1], torch.cat([torch.zeros(N, 1), y_pred[:, :1]], dim=1)
    y = (y_true > 0).long()
    torch.testing.assert_close(SCELoss()(one, y.double().unsqueeze(1)), SCELoss()(two, y))


@pytest.mark.parametrize("loss", [FocalLoss(gamma=1.5, alpha=None), SCELoss(b=0.5)])
def test_public_modules_serve_a_loop_of_ones_own_and_the_estimator(loss, data):
    X, y, _ = data
    values = type(loss)(**loss.parameters_of_loss, reduction="none")
    z = torch.randn(5, 3)
    t = torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(values(z, t).mean(), loss(z, t))
    ours = one_step(TorchClassifier(linear(4, 3), loss=loss), X, y)
    assert_equal(ours, by_hand(linear(4, 3), loss, X, y))
    with pytest.raises(ValueError, match=r"gamma must be a number >= 0"):
        FocalLoss(gamma=-1)


def test_focal_has_the_published_figures():
    # An easy pair, 0.9 for 1 and 0.1 for 0, and a hard pair at 0.5; printed to four decimals.
    for p, expected in (([0.9, 0.1], 0.0005), ([0.5, 0.5], 0.0866)):
        logits = torch.logit(torch.tensor(p, dtype=torch.float64)).unsqueeze(1)
        y = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
        assert LOSSES["focal"].pointwise(logits, y).mean().item() == pytest.approx(
            expected, abs=5e-5
        )
        two = torch.cat([torch.zeros_like(logits), logits], dim=1)
        value = LOSSES["focal"].pointwise(two, torch.tensor([1, 0])).mean().item()
        assert value == pytest.approx(expected, abs=5e-5)


def test_focal_at_gamma_zero_is_weighted_cross_entropy():
    alpha = [0.2, 0.5, 0.3]
    for y_pred, y_true in batches("cross_entropy"):
        if y_true.is_floating_point():
            ours = LOSSES["focal"].pointwise(y_pred, y_true, gamma=0.0, alpha=0.6)
            weight = y_true * 0.6 + (1 - y_true) * 0.4
            theirs = nn.functional.binary_cross_entropy_with_logits(
                y_pred, y_true, weight, reduction="none"
            ).mean(1)
        else:
            ours = LOSSES["focal"].pointwise(y_pred, y_true, gamma=0.0, alpha=alpha)
            theirs = nn.functional.cross_entropy(
                y_pred, y_true, torch.tensor(alpha, dtype=torch.float64), reduction="none"
            )
        torch.testing.assert_close(ours, theirs)


def one_step(estimator, X, y, **weights):
    """Fit one full-batch SGD step and return the net's parameters."""
    fitted = estimator.set_params(
        optimizer="sgd", lr=0.1, max_epochs=1, batch_size=len(X), early_stopping=False
    ).fit(X, y, **weights)
    return [p.detach() for p in fitted.net_.parameters()]


def by_hand(net, loss, X, y):
    """Take the same step as written in torch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss(net(torch.as_tensor(X)), torch.as_tensor(y)).backward()
    optimizer.step()
    return list(net.parameters())


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-12)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 4)), rng.integers(0, 3, size=30), rng.uniform(0.1, 3, size=30)


def test_one_step_is_the_step_by_hand(data):
    X, y, w = data
    weight = torch.tensor(w)
    F = nn.functional

    def weighted(values):
        return (values * weight).sum() / weight.sum()

    ours = one_step(TorchClassifier(linear(4, 3)), X, y, sample_weight=w)
    theirs = by_hand(
        linear(4, 3), lambda z, t: weighted(F.cross_entropy(z, t, reduction="none")), X, y
    )
    assert_equal(ours, theirs)

    class_weight = {0: 1.0, 1: 2.0, 2: 5.0}
    ours = one_step(TorchClassifier(linear(4, 3), class_weight=class_weight), X, y)
    factors = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    assert_equal(ours, by_hand(linear(4, 3), lambda z, t: F.cross_entropy(z, t, factors), X, y))

    target = X[:, :2] ** 2
    ours = one_step(
        TorchRegressor(linear(4, 2), loss="huber", loss__delta=0.3, target_scaling=None),
        X,
        target,
        sample_weight=w,
    )
    theirs = by_hand(
        linear(4, 2),
        lambda z, t: weighted(F.huber_loss(z, t, reduction="none", delta=0.3).mean(1)),
        X,
        target,
    )
    assert_equal(ours, theirs)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss,
        nn.CrossEntropyLoss(),
        lambda z, t: nn.functional.cross_entropy(z, t),
        lambda z, t: nn.functional.cross_entropy(z, t, reduction="none"),
        "cross_entropy",
    ],
    ids=["class", "module", "scalar", "pointwise", "name"],
)
def test_a_loss_may_be_a_name_a_class_a_module_or_a_function(loss, data):
    X, y, _ = data
    ours = one_step(TorchClassifier(linear(4, 3), loss=loss), X, y)
    assert_equal(ours, by_hand(linear(4, 3), nn.CrossEntropyLoss(), X, y))


def test_a_loss_that_gives_one_number_cannot_be_weighted(data):
    X, y, w = data
    clf = TorchClassifier(loss=lambda z, t: nn.functional.cross_entropy(z, t))
    with pytest.raises(ValueError, match=r"sample_weight"):
        clf.fit(X, y, sample_weight=w)


def test_the_parameters_of_a_loss_are_trained(data):
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_t = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, y_pred, y_true):
            return nn.functional.cross_entropy(y_pred * self.log_t.exp(), y_true, reduction="none")

    X, y, _ = data
    loss = Tempered()
    moved = []

    class Spy(Tempered):
        def forward(self, y_pred, y_true):
            moved.append(self.log_t.item())
            return super().forward(y_pred, y_true)

    TorchClassifier(linear(4, 3), loss=Spy, lr=0.1, max_epochs=3).fit(X, y)
    assert moved[-1] != 0
    TorchClassifier(linear(4, 3), loss=loss, lr=0.1, max_epochs=3).fit(X, y)
    assert loss.log_t.item() == 0


LAST_LAYER = {"probabilities": nn.Sigmoid(), "log_probabilities": nn.LogSoftmax(dim=1)}


def net_for(loss):
    """Return a factory of nets that end as ``loss`` wants it."""

    def build(n_features_in, n_outputs):
        layers = [nn.Linear(n_features_in, 16), nn.ReLU(), nn.Linear(16, n_outputs)]
        return nn.Sequential(*layers, LAST_LAYER.get(LOSSES[loss].meaning, nn.Identity()))

    return build


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_classification_loss_learns(name, weighted, breast_cancer):
    X, y = breast_cancer
    class_weight = "balanced" if weighted else None
    clf = TorchClassifier(
        net_for(name), loss=name, lr=0.01, max_epochs=20, class_weight=class_weight, random_state=0
    ).fit(X, y, np.linspace(0.5, 1.5, len(y)) if weighted else None)
    assert clf.score(X, y) > 0.95
    if LOSSES[name].meaning == "margins":
        assert not hasattr(clf, "predict_proba")
        return
    p = clf.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(clf.classes_[p.argmax(axis=1)], clf.predict(X))
    assert roc_auc_score(y, p[:, 1]) > 0.97


@pytest.mark.parametrize("name", [n for n in REGRESSION if n not in ("kl_div", "cosine")])
def test_every_regression_loss_learns(name, diabetes):
    X, y = diabetes
    reg = TorchRegressor(loss=name, lr=0.01, max_epochs=30, random_state=0)
    assert reg.fit(X, y).score(X, y) > 0.3
    weighted = reg.fit(X, y, np.linspace(0.5, 1.5, len(y))).score(X, y)
    assert weighted > 0.3


def test_a_quantile_is_above_its_share_of_the_targets(diabetes):
    X, y = diabetes
    for quantile in (0.1, 0.8):
        reg = TorchRegressor(loss="quantile", loss__quantile=quantile, lr=0.01, random_state=0)
        reg.set_params(max_epochs=40)
        assert (y < reg.fit(X, y).predict(X)).mean() == pytest.approx(quantile, abs=0.07)


def test_a_normal_tells_its_standard_deviation():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(3000, 1))
    y = 100 * X[:, 0] + 1000 + rng.normal(size=3000) * np.where(X[:, 0] > 0, 50, 5)
    reg = TorchRegressor(loss="gaussian_nll", lr=0.01, max_epochs=60, random_state=0).fit(X, y)
    mean, std = reg.predict([[-0.5], [0.5]], return_std=True)
    np.testing.assert_allclose(mean, [950, 1050], atol=10)
    np.testing.assert_allclose(std, [5, 50], rtol=0.25)
    both = TorchRegressor(loss="gaussian_nll", max_epochs=1).fit(X, np.c_[y, y])
    assert [a.shape for a in both.predict(X, return_std=True)] == [(3000, 2)] * 2
    with pytest.raises(ValueError, match=r"return_std.*gaussian_nll"):
        TorchRegressor(max_epochs=1).fit(X, y).predict(X, return_std=True)


def test_distributions_and_directions_are_learned():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    p = np.exp(X[:, :3]) / np.exp(X[:, :3]).sum(axis=1, keepdims=True)
    reg = TorchRegressor(net_for("kl_div"), loss="kl_div", lr=0.02, random_state=0).fit(X, p)
    np.testing.assert_allclose(reg.predict(X).sum(axis=1), 1, rtol=1e-5)
    assert abs(reg.predict(X) - p).mean() < 0.02
    reg = TorchRegressor(loss="cosine", lr=0.02, random_state=0).fit(X, X[:, :2])
    a, b = reg.predict(X), X[:, :2]
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.mean() > 0.98


@pytest.mark.parametrize(
    ("loss", "message"),
    [("poisson", "not negative"), ("gamma", "positive"), ("kl_div", "sum to 1")],
)
def test_values_a_loss_is_not_defined_for_are_refused(loss, message, diabetes):
    X, y = diabetes
    with pytest.raises(ValueError, match=rf"y must hold .*{message}.*'{loss}'"):
        TorchRegressor(loss=loss).fit(X, y - y.mean())


def test_many_unequal_classes_by_adaptive_softmax():
    rng = np.random.default_rng(0)
    y = np.minimum(rng.geometric(0.1, size=3000), 40)
    X = np.eye(41)[y] + 0.1 * rng.normal(size=(3000, 41))
    clf = TorchClassifier(
        loss="adaptive_log_softmax", loss__cutoffs=[5, 15], lr=0.01, max_epochs=30, random_state=0
    ).fit(X, y)
    assert clf.score(X, y) > 0.95
    np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1, rtol=1e-9)
    again = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    frozen = (
        again.set_params(lr=0, max_epochs=1, warm_start=True).fit(X, y).partial_fit(X[:9], y[:9])
    )
    assert np.array_equal(frozen.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("loss", [nn.NLLLoss, nn.BCELoss])
def test_probabilities_follow_from_what_the_loss_takes_the_output_to_mean(loss, breast_cancer):
    X, y = breast_cancer
    last = nn.LogSoftmax(dim=1) if loss is nn.NLLLoss else nn.Sigmoid()
    head = linear(30, 2 if loss is nn.NLLLoss else 1)
    clf = TorchClassifier(nn.Sequential(head, last), loss=loss, max_epochs=5).fit(X, y)
    with torch.no_grad():
        out = clf.net_(torch.tensor(X)).numpy()
    p = np.exp(out[:, 1]) if loss is nn.NLLLoss else out[:, 0]
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], p, rtol=1e-9)
