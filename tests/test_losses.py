"""Losses: values and gradients against torch, weights against copies."""

import numpy as np
import pytest
import torch
from nets import linear
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.losses import LOSSES, build_objective, find_loss

CLASSIFICATION = [name for name, loss in LOSSES.items() if "values" not in loss.targets]
REGRESSION = [name for name, loss in LOSSES.items() if "values" in loss.targets]


def batches(loss, n=12):
    """Yield predictions and targets in each layout that ``loss`` takes."""
    generator = torch.Generator().manual_seed(0)
    for layout in LOSSES[loss].targets:
        y_pred = torch.randn(n, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        if layout == "index":
            yield y_pred, torch.randint(0, 3, (n,), generator=generator)
        elif layout == "indicator":
            yield y_pred, torch.randint(0, 2, (n, 3), generator=generator).double()
        else:
            yield y_pred, torch.randn(n, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_pointwise_and_its_mean_is_the_mean(name):
    for y_pred, y_true in batches(name):
        values = LOSSES[name].pointwise(y_pred, y_true)
        assert values.shape == (12,)
        assert (values >= 0).all()
        objective = build_objective(
            name, {}, find_loss(name, classification=name in CLASSIFICATION), weighted=False
        )
        torch.testing.assert_close(objective(y_pred, y_true, None, 12), values.mean())
        weight = torch.arange(12, dtype=torch.float64)
        torch.testing.assert_close(
            objective(y_pred, y_true, weight, weight.sum()), (values * weight).sum() / weight.sum()
        )


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_values(name):
    for y_pred, y_true in batches(name):
        assert torch.autograd.gradcheck(lambda z, t=y_true: LOSSES[name].pointwise(z, t), y_pred)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_loss_of_logits_is_finite_at_extreme_logits(name):
    for y_pred, y_true in batches(name):
        for scale in (1.0, 1e4):
            z = (torch.sign(y_pred.detach()) * scale).requires_grad_()
            LOSSES[name].pointwise(z, y_true).sum().backward()
            assert torch.isfinite(LOSSES[name].pointwise(z, y_true)).all()
            assert torch.isfinite(z.grad).all()


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


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_classification_loss_learns(name, breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(loss=name, lr=0.01, max_epochs=20, random_state=0).fit(X, y)
    assert clf.score(X, y) > 0.95


@pytest.mark.parametrize("name", REGRESSION)
def test_every_regression_loss_learns(name, diabetes):
    X, y = diabetes
    reg = TorchRegressor(loss=name, lr=0.01, max_epochs=30, random_state=0).fit(X, y)
    assert reg.score(X, y) > 0.4


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
