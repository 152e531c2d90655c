"""Nets, losses and weights that are odd but right, and those that would be silently wrong."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from nets import Recomputes, UserMLP, linear
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.losses import FocalLoss

F = nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(99, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


class Doubles(nn.Module):
    """Writes to what it is given, and remembers what that was."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(x[0, 0].item())
        return self.head(x.mul_(2))


@pytest.mark.parametrize("batch_size", [10, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_net_that_writes_to_its_input_harms_no_data(batch_size, shuffle, tmp_path):
    given = X.astype(np.float32)
    np.save(tmp_path / "X.npy", given)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r+")
    for data in (given, mapped):
        clf = TorchClassifier(
            Doubles, max_epochs=3, batch_size=batch_size, shuffle=shuffle, early_stopping=False
        ).fit(data, Y, X_val=data, y_val=Y)
        clf.predict(data)
        assert np.array_equal(data, X.astype(np.float32))
        if batch_size == 1000:
            assert set(clf.net_.seen) == {data[0, 0]}
        same = {np.float32(v) for v in clf.net_.seen} <= {*given[:, 0]}
        assert same


def test_a_loss_that_writes_to_its_targets_harms_no_targets():
    def doubling(y_pred, y_true):
        return (y_pred - y_true.mul_(2)) ** 2

    reg = TorchRegressor(loss=doubling, lr=0, max_epochs=4, early_stopping=False)
    losses = reg.fit(X, X[:, 0]).history_["train_loss"]
    assert losses.nunique() == 1


def bce_of_mine(y_pred, y_true):
    return F.binary_cross_entropy(y_pred, y_true)


@pytest.mark.parametrize("loss", [nn.BCELoss, F.binary_cross_entropy, bce_of_mine, nn.MSELoss])
def test_a_net_that_ends_in_a_sigmoid_gives_its_own_probabilities(loss, breast_cancer):
    X, y = breast_cancer
    net = nn.Sequential(nn.Linear(30, 1), nn.Sigmoid())
    clf = TorchClassifier(net, loss=loss, lr=0.01, max_epochs=40).fit(X, y)
    assert clf.score(X, y) > 0.95
    with torch.no_grad():
        p = clf.net_(torch.tensor(X, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1:], p, atol=1e-7)
    assert np.isfinite(clf.decision_function(X)).all()


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)),
        nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1), nn.Identity()),
    ],
    ids=["by its last layer", "by its numbers"],
)
def test_a_softmax_under_a_loss_of_logits_is_warned_about(net):
    with pytest.warns(UserWarning, match=r"net gives probabilities.*'cross_entropy'.*Remove"):
        TorchClassifier(net, max_epochs=1).fit(X, Y)


def test_a_class_of_weight_zero_is_not_there():
    weight = {0: 0, 1: 1, 2: 1}
    for batch_size in (4, 1000):
        clf = TorchClassifier(class_weight=weight, batch_size=batch_size, max_epochs=3)
        order = np.argsort(Y)
        clf.fit(X[order], Y[order], X_val=X, y_val=Y)
        assert np.isfinite(clf.history_.to_numpy()).all()
        assert clf.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "weight", [{0: -1, 1: 1, 2: 1}, {0: np.nan, 1: 1, 2: 1}, dict.fromkeys(range(3), 0)]
)
def test_class_weights_that_mean_nothing_are_refused(weight):
    with pytest.raises(ValueError, match=r"class_weight must hold finite numbers"):
        TorchClassifier(class_weight=weight).fit(X, Y)


@pytest.mark.parametrize("scale", [1e-300, 1e-50, 1.0, 1e38, 1e300])
def test_only_the_ratio_of_weights_counts(scale):
    w = RNG.uniform(0.5, 2, size=len(X))
    clf = TorchClassifier(linear(4, 3, torch.float32), max_epochs=3, random_state=0)
    plain = clf.fit(X, Y, w).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, Y, w * scale).predict_proba(X), plain, rtol=1e-5)


def test_a_batch_of_vanishing_weights_adds_nothing():
    w = np.r_[np.full(90, 1e-60), np.ones(9)]
    clf = TorchClassifier(UserMLP, batch_size=10, shuffle=False, max_epochs=2).fit(X, Y, w)
    assert np.isfinite(clf.history_.to_numpy()).all()


def test_a_factory_that_returns_one_module_each_time_shares_no_weights():
    shared = nn.Linear(4, 3)
    before = shared.weight.detach().clone()
    clf = TorchClassifier(lambda: shared, lr=0.1, max_epochs=5, random_state=0)
    first = clf.fit(X, Y).history_["train_loss"]
    assert clf.fit(X, Y).history_["train_loss"].equals(first)
    assert torch.equal(shared.weight, before)


@pytest.mark.parametrize("n", [50, 99])
def test_batch_norm_takes_a_last_batch_of_one_row(n):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    clf = TorchClassifier(net, batch_size=49, max_epochs=3).fit(
        X[:n], Y[:n], X_val=X[:1], y_val=Y[:1]
    )
    assert clf.n_iter_ == 3
    with pytest.raises(ValueError, match=r"batch_size=1 .*batch norm"):
        TorchClassifier(net, batch_size=1).fit(X, Y)


class Squeezes(nn.Module):
    """Drops the axis of samples where there is one."""

    def __init__(self, axis=None):
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.axis = () if axis is None else (axis,)

    def forward(self, x):
        return self.head(x).squeeze(*self.axis)


def test_a_net_that_drops_the_axis_of_samples_is_refused():
    with pytest.raises(ValueError, match=r"drops the axis of samples.*squeeze\(1\)"):
        TorchRegressor(Squeezes).fit(X, X[:, 0])
    reg = TorchRegressor(Squeezes, net__axis=1, max_epochs=1).fit(X, X[:, 0])
    assert reg.predict(X[:1]).shape == (1,)


class EmbeddingLast(nn.Module):
    """Registers its layers in another order than it calls them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8 * 4, 3)
        self.embedding = nn.Embedding(20, 8)

    def forward(self, x):
        return self.head(self.embedding(x).flatten(1))


def test_integers_go_to_an_embedding_wherever_it_was_registered():
    ids = RNG.integers(0, 20, size=(99, 4))
    clf = TorchClassifier(EmbeddingLast, lr=0.1, max_epochs=50).fit(ids, ids[:, 0] % 3)
    assert clf.score(ids, ids[:, 0] % 3) == 1


def test_ids_that_an_embedding_does_not_have_are_refused():
    net = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(32, 3))
    ids = RNG.integers(0, 20, size=(99, 4))
    clf = TorchClassifier(net, max_epochs=1).fit(ids, Y)
    bad = ids.copy()
    bad[50, 2] = 20
    message = r"X must hold ids from 0 to 19.*got 0 to 20"
    with pytest.raises(ValueError, match=message):
        clf.fit(bad, Y)
    with pytest.raises(ValueError, match=f"X_val.*{message}"):
        clf.fit(ids, Y, X_val=bad, y_val=Y)
    with pytest.raises(ValueError, match=message):
        clf.predict(bad)


def test_partial_fit_refuses_other_classes():
    clf = TorchClassifier().partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes=\['a', 'b'\] .*\[0, 1, 2\]"):
        clf.partial_fit(X, Y, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"balanced"):
        TorchClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])


@pytest.mark.parametrize("loss", [lambda p, t: p[:3, 0], lambda p, t: p[:1, 0]])
def test_a_loss_with_too_few_numbers_is_refused(loss):
    with pytest.raises(ValueError, match=r"loss: .*one number for each sample, or one in all"):
        TorchClassifier(loss=loss).fit(X, Y)


def test_what_a_users_code_raises_is_told_with_the_parameter_it_came_by():
    def broken():
        return 1 / 0

    class NoInit(nn.Module):
        def __init__(self):
            self.head = nn.Linear(4, 3)

    def misfit(y_pred, y_true):
        return F.binary_cross_entropy_with_logits(y_pred, y_true)

    with pytest.raises(ValueError, match=r"net: the function broken raised ZeroDivisionError"):
        TorchClassifier(broken).fit(X, Y)
    with pytest.raises(ValueError, match=r"net: the class NoInit raised AttributeError"):
        TorchClassifier(NoInit).fit(X, Y)
    with pytest.raises(ValueError, match=r"loss failed on predictions of shape \(8, 3\)"):
        TorchClassifier(loss=misfit).fit(X, Y)
    with pytest.raises(ValueError, match=r"optimizer__betas.*\(2, 3\)"):
        TorchClassifier(optimizer__betas=(2, 3)).fit(X, Y)


def test_a_warm_start_with_another_net_is_refused():
    clf = TorchClassifier(net__hidden_layer_sizes=5, warm_start=True, max_epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match=r"warm_start=True goes on.*hidden_layer_sizes"):
        clf.set_params(net__hidden_layer_sizes=50).fit(X, Y)


def test_the_default_dtype_of_torch_does_not_decide_for_the_mlp():
    torch.set_default_dtype(torch.float64)
    try:
        clf = TorchClassifier(max_epochs=1).fit(X.astype(np.float32), Y)
    finally:
        torch.set_default_dtype(torch.float32)
    assert next(clf.net_.parameters()).dtype is torch.float32


class Gated(nn.Module):
    """Its last registered layer is a sigmoid, and its output is not."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.head = nn.Linear(n_features_in, n_outputs)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        return self.head(x * self.gate(x))


class Functional(nn.Module):
    """Ends in a sigmoid that is no layer."""

    def __init__(self, n_features_in):
        super().__init__()
        self.head = nn.Linear(n_features_in, 1)

    def forward(self, x):
        return torch.sigmoid(self.head(x))


def test_the_meaning_of_an_output_is_read_off_the_output(breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(Gated, loss=lambda p, t: F.cross_entropy(p, t), lr=0.01, max_epochs=20)
    with torch.no_grad():
        scores = clf.fit(X, y).net_(torch.tensor(X, dtype=torch.float32))
    np.testing.assert_allclose(clf.predict_proba(X), scores.softmax(1).numpy(), atol=1e-6)
    clf = TorchClassifier(Functional, loss=bce_of_mine, lr=0.01, max_epochs=40).fit(X, y)
    assert clf.score(X, y) > 0.95
    with pytest.warns(UserWarning, match=r"net gives probabilities.*'bce'"):
        TorchClassifier(Functional, loss="bce", max_epochs=1).fit(X, y)


def test_a_loss_of_log_probabilities_needs_them(breast_cancer):
    X, y = breast_cancer
    for loss in ("nll", "kl_div", "bce_probability"):
        clf = TorchClassifier(loss=loss, lr=0.01, max_epochs=20).fit(X, y)
        assert clf.score(X, y) > 0.95
        assert clf.history_["train_loss"].min() >= 0
    for loss in ("nll", "kl_div", nn.NLLLoss):
        with pytest.raises(ValueError, match=r"net must give log probabilities .*LogSoftmax"):
            TorchClassifier(UserMLP, loss=loss).fit(X, y)
    with pytest.raises(ValueError, match=r"net must give probabilities .*Sigmoid"):
        TorchClassifier(nn.Linear(30, 1), loss="bce_probability").fit(X, y)


def test_torchs_losses_of_values_mean_what_ours_mean():
    counts = RNG.poisson(np.exp(1 + X[:, 0]))
    settings = {"lr": 0.01, "max_epochs": 60, "random_state": 0}
    named = TorchRegressor(loss="poisson", **settings).fit(X, counts)
    theirs = TorchRegressor(loss=nn.PoissonNLLLoss, **settings).fit(X, counts)
    np.testing.assert_allclose(theirs.predict(X), named.predict(X), rtol=1e-6)
    with pytest.raises(ValueError, match=r"GaussianNLLLoss .*loss='gaussian_nll'"):
        TorchRegressor(loss=nn.GaussianNLLLoss).fit(X, counts)
    with pytest.raises(ValueError, match=r"SoftMarginLoss.*loss='bce'"):
        TorchClassifier(loss=nn.SoftMarginLoss()).fit(X, Y > 0)


@pytest.mark.parametrize(
    ("logits", "targets"), [((5, 1), torch.ones(5)), ((5, 1), torch.zeros(4).long())]
)
def test_public_losses_do_not_broadcast(logits, targets):
    with pytest.raises(ValueError, match=r"FocalLoss: targets must be .*got .*\(5, 1\)"):
        FocalLoss()(torch.zeros(logits), targets)


def test_weights_of_validation_do_not_change_the_training():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 9.0]))
    clf = TorchClassifier(loss=loss, max_epochs=2, early_stopping=False, random_state=0)
    plain = clf.fit(X, Y, X_val=X, y_val=Y).predict_proba(X)
    weighted = clf.fit(X, Y, X_val=X, y_val=Y, sample_weight_val=np.ones(99)).predict_proba(X)
    assert np.array_equal(plain, weighted)
    with pytest.raises(ValueError, match=r"one number in all"):
        TorchClassifier(loss=lambda p, t: F.cross_entropy(p, t)).fit(
            X, Y, X_val=X, y_val=Y, sample_weight_val=np.ones(99)
        )


def test_half_precision_is_half_for_the_built_in_net_and_refused_for_float64():
    settings = {"max_epochs": 3, "random_state": 0}
    half = TorchClassifier(precision="bfloat16", **settings).fit(X, Y)
    full = TorchClassifier(dtype="float32", **settings).fit(X, Y)
    assert not np.array_equal(half.predict_proba(X), full.predict_proba(X))
    with pytest.raises(ValueError, match=r"precision='float16' .*float64.*dtype=\"float32\""):
        TorchClassifier(linear(4, 3), precision="float16").fit(X, Y)


class Caches(nn.Module):
    """Keeps a tensor it made in validation for training."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.ones = torch.ones(0)

    def forward(self, x):
        if len(self.ones) < len(x):
            self.ones = torch.ones(len(x), 1)
        return self.head(x * self.ones[: len(x)])


def test_a_net_that_keeps_what_it_made_in_validation_trains_on():
    clf = TorchClassifier(Caches, batch_size=30, max_epochs=3).fit(X, Y, X_val=X, y_val=Y)
    assert clf.n_iter_ == 3


@pytest.mark.parametrize(
    ("net", "y", "alpha"),
    [
        (nn.Linear(4, 1), Y > 0, [0.3, 0.7]),
        (nn.Linear(4, 2), Y > 0, [0.3, 0.7]),
        (nn.Linear(4, 3), X[:, :3] > 0, [0.3, 0.7, 0.5]),
    ],
)
def test_focal_takes_a_weight_for_each_class_or_label(net, y, alpha):
    clf = TorchClassifier(net, loss="focal", loss__alpha=alpha, max_epochs=2, random_state=0)
    listed = clf.fit(X, y).predict_proba(X)
    if len(alpha) == 2:
        number = clf.set_params(loss__alpha=0.7).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(listed, number, rtol=1e-6)
    with pytest.raises(ValueError, match=r"loss__alpha must have one weight"):
        clf.set_params(loss__alpha=[0.1] * 4).fit(X, y)


@pytest.mark.parametrize("optimizer", ["sgd", "sparseadam"])
def test_sparse_gradients_serve_where_torch_takes_them(optimizer):
    ids = RNG.integers(0, 9, size=(99, 1))
    net = nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Flatten())
    clf = TorchClassifier(net, optimizer=optimizer, lr=0.5, max_epochs=60, early_stopping=False)
    assert clf.fit(ids, ids[:, 0] % 3).score(ids, ids[:, 0] % 3) > 0.9
    with pytest.raises(ValueError, match=r"SparseAdam .*sparse=True"):
        TorchClassifier(optimizer="sparseadam").fit(X, Y)
    assert TorchClassifier(net, optimizer="sgd", l2=0.1, max_epochs=1).fit(ids, ids[:, 0] % 3)


def test_a_net_of_another_width_is_named_for_integers_too():
    with pytest.raises(ValueError, match=r"\(4,\).*shapes cannot be multiplied.*in_features=5"):
        TorchClassifier(nn.Linear(5, 3)).fit((X * 9).astype(int), Y)


def test_a_loss_that_draws_random_numbers_is_seeded():
    class Dropping(nn.Module):
        def forward(self, y_pred, y_true):
            return F.cross_entropy(F.dropout(y_pred, 0.3, self.training), y_true)

    before = torch.get_rng_state()
    clf = TorchClassifier(loss=Dropping, max_epochs=3, random_state=0)
    first = clf.fit(X, Y, X_val=X, y_val=Y).history_.drop(columns="epoch_time")
    assert first.equals(clf.fit(X, Y, X_val=X, y_val=Y).history_.drop(columns="epoch_time"))
    assert torch.equal(torch.get_rng_state(), before)


def test_recomputed_dropout_is_seeded_in_threads_too():
    before = torch.get_rng_state()

    def fit(_):
        clf = TorchClassifier(Recomputes, max_epochs=4, batch_size=20, random_state=0)
        return clf.fit(X, Y).predict_proba(X)

    alone = fit(0)
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(p, alone) for p in pool.map(fit, range(8)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_may_be_any_callable():
    @dataclass
    class Scaled:
        by: float

        def __call__(self, y_pred, y_true):
            return self.by * F.cross_entropy(y_pred, y_true)

    class Plain:
        def __call__(self, y_pred, y_true):
            return F.cross_entropy(y_pred, y_true)

    for loss in (Scaled(1.0), Plain):
        assert TorchClassifier(loss=loss, max_epochs=2).fit(X, Y).n_iter_ == 2


def test_a_range_test_keeps_the_ratio_of_rules():
    clf = TorchClassifier(UserMLP, lr={"hidden.*": 0, "*": 1e-3}, random_state=0)
    _, with_rule = clf.lr_find(X, Y, n_steps=30)
    _, without = clf.set_params(lr=1e-3).lr_find(X, Y, n_steps=30)
    assert not with_rule["loss"].equals(without["loss"])
    state = np.random.RandomState(0)
    clf.set_params(random_state=state).lr_find(X, Y, n_steps=30)
    assert state.randint(99) == np.random.RandomState(0).randint(99)


def test_a_net_that_refers_to_its_parent_is_stored():
    class Child(nn.Module):
        def forward(self, x):
            return x

    net = nn.Sequential(Child(), nn.Linear(4, 3))
    net[0].parents = [net]
    clf = TorchClassifier(net, max_epochs=1).fit(X, Y)
    with pytest.raises(AttributeError, match=r"local object"):
        pickle.dumps(clf)  # the class is local, and that is all that is wrong
    again = copy.deepcopy(clf)
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert again.net_[0].parents[0] is again.net_
