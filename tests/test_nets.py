"""Nets in every form a user may give them."""

import copy
import functools
import weakref
from types import FunctionType, MethodType

import numpy as np
import pytest
import torch
from nets import DroppingMLP, UserCNN, UserMLP, linear, make_mlp
from sklearn.base import clone
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.copying import duplicate
from sktorch.nets import ACTIVATIONS, MLP, NETS, load_matching

FORMS = {
    "name": "mlp",
    "instance": UserMLP(30, 2),
    "class": UserMLP,
    "factory": make_mlp,
    "partial": functools.partial(make_mlp, width=7),
    "lambda": lambda n_features_in, n_outputs: nn.Linear(n_features_in, n_outputs),
    "lazy": nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)),
    "one logit": nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 1)),
    "one squeezed logit": nn.Sequential(nn.Linear(30, 1), nn.Flatten(0)),
    "batch norm": nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)),
    "float64": linear(30, 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_net_learns(form, breast_cancer):
    X, y = breast_cancer
    clf = TorchClassifier(FORMS[form], lr=0.01, max_epochs=30, random_state=0).fit(X, y)
    assert clf.score(X, y) > 0.95
    p = clf.predict_proba(X)
    assert p.shape == (len(X), 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert np.array_equal(clf.classes_[p.argmax(axis=1)], clf.predict(X))
    assert isinstance(clf.net_, nn.Module)
    assert not clf.net_.training


@pytest.mark.parametrize("name", NETS)
def test_every_named_net_is_sized_from_the_data(name, breast_cancer):
    clf = TorchClassifier(name, max_epochs=1).fit(*breast_cancer)
    assert clf.n_outputs_ == 2
    reg = TorchRegressor(name, max_epochs=1).fit(breast_cancer[0], np.ones((569, 3)))
    assert reg.n_outputs_ == 3


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_mlp_has_the_layers_asked_for(activation, breast_cancer):
    clf = TorchClassifier(
        net__hidden_layer_sizes=(6, 4), net__activation=activation, net__dropout=0.1, max_epochs=1
    ).fit(*breast_cancer)
    layers = [type(layer) for layer in clf.net_]
    active = ACTIVATIONS[activation]
    assert layers == [nn.Linear, active, nn.Dropout, nn.Linear, active, nn.Dropout, nn.Linear]
    assert [p.shape[0] for p in clf.net_.parameters() if p.ndim == 2] == [6, 4, 2]


def test_the_mlp_follows_the_dtype_of_X_and_a_users_net_keeps_its_own(breast_cancer):
    X, y = breast_cancer
    for dtype in (np.float32, np.float64):
        clf = TorchClassifier(max_epochs=1).fit(X.astype(dtype), y)
        assert next(clf.net_.parameters()).numpy(force=True).dtype == dtype
    assert next(
        TorchClassifier(max_epochs=1).fit((X * 9).astype(int), y).net_.parameters()
    ).dtype is (torch.float64)
    for net in (UserMLP, UserMLP(30, 2)):
        clf = TorchClassifier(net, max_epochs=1).fit(X, y)
        assert next(clf.net_.parameters()).dtype is torch.float32
        clf = TorchClassifier(net, max_epochs=1, dtype="float64").fit(X, y)
        assert next(clf.net_.parameters()).dtype is torch.float64


def test_every_fit_begins_with_the_weights_of_the_instance(breast_cancer):
    net = UserMLP(30, 2)
    given = copy.deepcopy(net.state_dict())
    clf = TorchClassifier(net, max_epochs=3, random_state=0)
    first = clf.fit(*breast_cancer).predict_proba(breast_cancer[0])
    again = clf.fit(*breast_cancer).predict_proba(breast_cancer[0])
    cloned = clone(clf).fit(*breast_cancer).predict_proba(breast_cancer[0])
    assert np.array_equal(first, again)
    assert np.array_equal(first, cloned)
    assert all(torch.equal(v, given[k]) for k, v in net.state_dict().items())
    frozen = clone(clf).set_params(lr=0).fit(*breast_cancer)
    assert all(torch.equal(v, given[k]) for k, v in frozen.net_.state_dict().items())


def test_one_instance_serves_two_estimators(breast_cancer):
    net = UserMLP(30, 2)
    a = TorchClassifier(net, max_epochs=3, random_state=0).fit(*breast_cancer)
    before = a.predict_proba(breast_cancer[0])
    TorchClassifier(net, max_epochs=9, lr=0.1, random_state=1).fit(*breast_cancer)
    assert np.array_equal(a.predict_proba(breast_cancer[0]), before)


def test_frozen_parameters_stay_bitwise_as_they_were(breast_cancer):
    net = UserMLP(30, 2)
    net.hidden.requires_grad_(False)
    clf = TorchClassifier(net, max_epochs=3, weight_decay=0.1).fit(*breast_cancer)
    assert torch.equal(clf.net_.hidden.weight, net.hidden.weight)
    assert not torch.equal(clf.net_.head.weight, net.head.weight)


def test_images_reach_a_convolution_as_images(digits):
    X, y = digits[0].reshape(-1, 1, 8, 8), digits[1]
    clf = TorchClassifier(UserCNN, lr=0.01, max_epochs=8, random_state=0).fit(X[:1200], y[:1200])
    assert clf.score(X[1200:], y[1200:]) > 0.9
    assert clf.n_features_in_ == 1


def test_integers_reach_an_embedding_as_integers():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, size=(400, 6))
    y = (X == 7).any(axis=1)
    net = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(48, 2))
    clf = TorchClassifier(net, lr=0.05, random_state=0).fit(X, y)
    assert clf.score(X, y) == 1
    with pytest.raises(ValueError, match=r"whole numbers"):
        clf.predict(X + 0.5)


def test_dropout_is_off_when_predicting(breast_cancer):
    clf = TorchClassifier(DroppingMLP, max_epochs=2).fit(*breast_cancer)
    p = clf.predict_proba(breast_cancer[0])
    assert np.array_equal(p, clf.predict_proba(breast_cancer[0]))


def test_batch_norm_sees_training_batches_only(breast_cancer):
    X, y = breast_cancer
    net = nn.Sequential(nn.BatchNorm1d(30), nn.Linear(30, 2))
    clf = TorchClassifier(net, max_epochs=1, batch_size=100, shuffle=False).fit(X, y)
    norm = nn.BatchNorm1d(30).train()
    for start in range(0, len(X), 100):
        norm(torch.tensor(X[start : start + 100], dtype=torch.float32))
    assert torch.equal(clf.net_[0].running_mean, norm.running_mean)
    assert torch.equal(clf.net_[0].running_var, norm.running_var)
    assert clf.net_[0].num_batches_tracked == 6


def test_mlp_draws_glorot_weights():
    torch.manual_seed(0)
    weight = MLP(50, 2, hidden_layer_sizes=100)[0].weight
    bound = (6 / 150) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def trained():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1000))


def test_matching_weights_are_loaded_and_the_rest_is_reported():
    source = trained()
    state = {f"module.backbone.{k}": v for k, v in source.state_dict().items()}
    state["module.extra"] = torch.zeros(2)
    net = nn.ModuleDict({"encoder": trained()[:2], "head": nn.Linear(8, 3)})
    net["encoder"].append(nn.Linear(8, 7))
    head = net["head"].weight.clone()
    report = load_matching(net, state, rename={"module.backbone.": "encoder.", "module.": ""})
    assert report.loaded == [f"encoder.{k}" for k in source.state_dict() if not k.startswith("2")]
    assert report.unexpected == ["extra"]
    assert report.missing == ["encoder.2.weight", "encoder.2.bias", "head.weight", "head.bias"]
    assert report.mismatched["encoder.2.weight"] == ((1000, 8), (7, 8))
    assert torch.equal(net["encoder"][0].weight, source[0].weight)
    assert torch.equal(net["head"].weight, head)
    for part in ("7 loaded", "extra", "head.bias", "(1000,)"):
        assert part in str(report)


@pytest.mark.parametrize("skip", ["2", ["2.*"], ("2.weight", "2.bias")])
def test_what_is_to_be_skipped_is_left_as_it_was(skip):
    net = trained()
    before = net[2].weight.clone()
    report = load_matching(net, trained(), skip=skip)
    assert report.skipped == ["2.weight", "2.bias"]
    assert report.missing == []
    assert torch.equal(net[2].weight, before)


def test_a_state_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"state: no entry .*rename="):
        load_matching(nn.Linear(3, 3), trained())
    with pytest.raises(ValueError, match=r"rename: no name of state begins with 'modle\.'"):
        load_matching(trained(), trained(), rename={"modle.": ""})
    with pytest.raises(ValueError, match=r"state must be a state dict .*\"state_dict\""):
        load_matching(trained(), {"state_dict": trained().state_dict()})


def test_pretrained_weights_with_a_frozen_body_and_a_faster_head(breast_cancer):
    X, y = breast_cancer
    source = UserMLP(30, 5)
    net = UserMLP(30, 2)
    load_matching(net, source, skip="head")
    clf = TorchClassifier(net, lr={"hidden.*": 0, "head.*": 0.05}, max_epochs=20).fit(X, y)
    assert torch.equal(clf.net_.hidden.weight, source.hidden.weight)
    assert clf.score(X, y) > 0.9


class Tangled(nn.Module):
    """Holds the same things in several places, in containers, and itself."""

    def __init__(self):
        super().__init__()
        self.first = self.again = nn.Linear(3, 3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.register_buffer("mean", torch.arange(3.0), persistent=False)
        self.table = {"layer": self.first, ("a", 1): [self.mean, {2, 3}]}
        self.itself = [self]
        self.hook = self.register_forward_hook(lambda module, x, y: y + 1)
        self.scale = np.arange(3)

    def forward(self, x):
        return self.tied(self.first(x)) * self.mean


class Remembering(nn.Linear):
    """Is copied in a way of its own."""

    def __deepcopy__(self, memo):
        twin = Remembering(self.in_features, self.out_features)
        twin.is_copy = True
        return twin


class Stated(nn.Linear):
    """Leaves out of a copy what it has cached."""

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "cache"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.copies = getattr(self, "copies", 0) + 1


class Slotted(nn.Linear):
    """Has more than its dict holds."""

    __slots__ = ("width",)


class Listed(nn.Linear, list):
    """Is a list as well."""

    __hash__ = nn.Module.__hash__


def slotted():
    net = Slotted(2, 2)
    object.__setattr__(net, "width", [2])
    return net


def listed():
    net = Listed(2, 3)
    net.extend([1, [2]])
    return net


COPIED = {
    "plain": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2),
    "lazy": lambda: nn.LazyLinear(3),
    "frozen": lambda: nn.Linear(2, 3).requires_grad_(False),
    "evaluated": lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)).eval(),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3)),
    "dicts": lambda: nn.ModuleDict({"a": nn.ParameterList([torch.ones(2)]), "b": nn.ModuleList()}),
    "tangled": Tangled,
    "its own way": lambda: nn.Sequential(Remembering(2, 3)),
    "its own state": lambda: nn.Sequential(Stated(2, 3)),
    "slots": slotted,
    "a list too": listed,
}


def content(value, seen):
    """Return what a copy must have in common with its original, identities among its parts too."""
    if isinstance(value, torch.nn.Module | torch.Tensor | np.ndarray | dict | list | tuple | set):
        if id(value) in seen:
            return "seen", seen[id(value)]
        seen[id(value)] = len(seen)
    if isinstance(value, weakref.ref):
        return content(value(), seen)
    if isinstance(value, nn.UninitializedParameter):
        return "uninitialized"
    if isinstance(value, torch.Tensor):
        return type(value), value.requires_grad, value.stride(), value.tolist()
    if isinstance(value, nn.Module):
        items = list(value) if isinstance(value, list) else None
        slots = getattr(value, "width", None)
        return type(value), content(vars(value), seen), content(items, seen), content(slots, seen)
    if isinstance(value, dict):
        return type(value), [(content(k, seen), content(v, seen)) for k, v in value.items()]
    if isinstance(value, np.ndarray | list | tuple | set):
        return type(value), [content(part, seen) for part in value]
    if isinstance(value, MethodType):
        return value.__func__, content(value.__self__, seen)
    return value if isinstance(value, str | int | float | type | FunctionType) else type(value)


@pytest.mark.parametrize("form", COPIED)
def test_a_net_is_copied_as_deepcopy_does(form):
    torch.manual_seed(0)
    net = COPIED[form]()
    if form == "lstm":
        net.flatten_parameters()
    torch.manual_seed(1)
    expected = copy.deepcopy(net)
    before = content(net, {})
    torch.manual_seed(1)
    twin = duplicate(net)
    assert content(twin, {}) == content(expected, {})
    assert content(net, {}) == before
    own = {id(t) for t in (*net.parameters(), *net.buffers(), *net.modules())}
    assert not own & {id(t) for t in (*twin.parameters(), *twin.buffers(), *twin.modules())}


def test_a_clone_has_a_net_of_its_own():
    net = UserMLP(4, 3)
    clf = TorchClassifier(net, loss=nn.CrossEntropyLoss(), random_state=0)
    twin = clone(clf)
    assert clf.net is net
    assert type(twin.net) is UserMLP
    with torch.no_grad():
        net.head.weight.zero_()
    assert (twin.net.head.weight != 0).all()
    assert list(vars(twin)) == list(vars(clf))
    assert clone(TorchClassifier(UserMLP)).net is UserMLP


def test_a_subclass_that_builds_its_net_can_be_cloned(breast_cancer):
    class Wide(TorchClassifier):
        def __init__(self, width=4, max_epochs=1):
            super().__init__(UserMLP(30, 2, width), max_epochs=max_epochs)
            self.width = width

    twin = clone(Wide(width=9).fit(*breast_cancer))
    assert twin.net.hidden.out_features == 9
    assert not hasattr(twin, "net_")


class Spectral(nn.Module):
    """Has a complex weight, and gives real numbers."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features_in, n_outputs, dtype=torch.cfloat))

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight).real.to(x.dtype)


def test_a_net_may_have_complex_weights(breast_cancer):
    X, y = breast_cancer
    X = (X - X.mean(0)) / X.std(0)
    assert TorchClassifier(Spectral, lr=0.01, max_epochs=5).fit(X, y).score(X, y) > 0.8


def test_a_net_may_begin_with_large_outputs():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    net = nn.Linear(3, 2)
    nn.init.constant_(net.bias, 1000.0)
    TorchRegressor(net, max_epochs=1, target_scaling=None).fit(X, X[:, :2] + 1000)
