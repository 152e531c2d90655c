"""Nets that are bad or odd."""

import copy

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from torch import nn

from corpus.case import IDS, B, R, X, Y, case, fits, holds, learns, regresses, score

F = nn.functional


class Net(nn.Module):
    """A net with room for oddities: it takes float64 or float32, three outputs."""

    n_outputs = 3

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 32)
        self.head = nn.Linear(32, self.n_outputs)

    def scores(self, x):
        return self.head(torch.relu(self.hidden(x.to(self.head.weight.dtype))))

    def forward(self, x):
        return self.scores(x)


def odd(forward, name="Odd", n_outputs=3):
    """Return a class of nets with another forward."""
    return type(name, (Net,), {"forward": forward, "n_outputs": n_outputs})


class Writes(Net):
    """Writes to what it is given."""

    def forward(self, x):
        x = x.to(self.head.weight.dtype)
        return self.scores(x.mul_(1.5))


class Recurrent(nn.Module):
    """Reads the columns one after another."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.lstm(x.to(self.head.weight.dtype)[:, :, None])[0][:, -1])


class Bare(nn.Module):
    """A net of a single matrix."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 2))

    def forward(self, x):
        return x.to(self.weight.dtype) @ self.weight


class NoInit(nn.Module):
    """Forgets to call the constructor of its parent."""

    def __init__(self):
        self.head = nn.Linear(4, 3)


def broken():
    """Return nothing."""
    return 1 / 0


def frozen():
    """Return a net without anything to train."""
    net = Net()
    return net.requires_grad_(False)


def half_frozen():
    """Return a net of which a part is trained."""
    net = Net()
    net.hidden.requires_grad_(False)
    return net


def leaf():
    """Return a net that cannot be copied, since it holds what was computed."""
    net = Net()
    net.cache = net.hidden.weight * 2
    return net


def training_only(change):
    """Return a class of nets whose forward is another in training mode."""
    return odd(lambda self, x: change(self, self.scores(x)) if self.training else self.scores(x))


def in_place(self, x):
    """Change what the backward still needs."""
    hidden = torch.relu(self.hidden(x.to(self.head.weight.dtype)))
    out = torch.sigmoid(hidden)
    hidden.mul_(2), out.mul_(2)
    return self.head(out)


def unregistered():
    """Return a net whose layers no one can find."""
    net = nn.Module()
    net.layers = [nn.Linear(4, 3)]
    net.forward = lambda x: net.layers[0](x.float())
    return net


def wild():
    """Return a net whose first weights are infinite."""
    net = Net()
    nn.init.constant_(net.hidden.weight, float("inf"))
    return net


BAD_NETS = {
    "a pair in training only": (
        training_only(lambda self, out: (out, out)),
        r"(?i)net.*tuple|tensor",
    ),
    "fewer rows in training only": (
        training_only(lambda self, out: out[1:]),
        r"(?i)rows|shape|loss",
    ),
    "other outputs in training only": (
        training_only(lambda self, out: out[:, :2]),
        r"(?i)net.*training|shape|outputs",
    ),
    "detached in training only": (
        training_only(lambda self, out: out.detach()),
        r"(?i)depend|grad",
    ),
    "NaN in training only": (training_only(lambda self, out: out * torch.nan), r"(?i)nan|finite"),
    "changed in place what the backward needs": (odd(in_place), r"(?i)net.*(in.?place|backward)"),
    "layers in a list": (unregistered, r"(?i)net.*parameter|depend|cop"),
    "infinite weights": (wild, r"(?i)finite|weights|nan"),
    "a pair": (odd(lambda self, x: (self.scores(x), x)), r"(?i)net.*tuple|tensor"),
    "a dict": (odd(lambda self, x: {"logits": self.scores(x)}), r"(?i)net.*dict|tensor"),
    "None": (odd(lambda self, x: None), r"(?i)net.*None|tensor"),
    "NaN": (odd(lambda self, x: self.scores(x) * torch.nan), r"(?i)nan|finite"),
    "infinity": (odd(lambda self, x: self.scores(x) / 0), r"(?i)inf|finite|nan"),
    "labels": (odd(lambda self, x: self.scores(x).argmax(1, keepdim=True)), r"(?i)float|scores"),
    "nothing that depends on weights": (
        odd(lambda self, x: self.scores(x).detach()),
        r"(?i)depend|grad|trainable",
    ),
    "one row for all": (odd(lambda self, x: self.scores(x).mean(0)), r"(?i)net.*shape|samples"),
    "rows twice": (odd(lambda self, x: self.scores(x).repeat(2, 1)), r"(?i)net.*shape|samples"),
    "an output for each pixel": (
        odd(lambda self, x: self.scores(x)[:, :, None, None].expand(-1, -1, 2, 2)),
        r"(?i)net.*shape|outputs",
    ),
    "too few outputs": (nn.Linear(4, 2, dtype=torch.float64), r"(?i)2 outputs.*3 classes"),
    "too many outputs": (nn.Linear(4, 7, dtype=torch.float64), r"(?i)7 outputs.*3 classes"),
    "one output for three classes": (
        nn.Linear(4, 1, dtype=torch.float64),
        r"(?i)outputs?.*classes",
    ),
    "another width of X": (
        nn.Linear(5, 3, dtype=torch.float64),
        r"(?i)net.*in_features=5|features",
    ),
    "complex numbers": (odd(lambda self, x: self.scores(x) + 1j), r"(?i)complex|float|scores"),
    "an error of its own": (odd(lambda self, x: {}["key"]), r"(?i)net|forward"),
    "an argument that nobody passes": (odd(lambda self, x, mask: self.scores(x)), r"(?i)mask"),
    "everything frozen": (frozen, r"(?i)net|parameter"),
    "no parameter": (nn.Identity(), r"(?i)net|parameter|outputs"),
    "no forward": (nn.Module, r"(?i)forward"),
    "no constructor of its parent": (NoInit, r"(?i)net.*NoInit|__init__"),
    "a function that fails": (broken, r"(?i)net.*broken"),
    "a function of nothing": (lambda: None, r"(?i)net.*None|Module"),
    "a list": (lambda: [nn.Linear(4, 3)], r"(?i)net.*Module"),
    "a number": (7, r"(?i)net.*7|module"),
    "no device": (lambda: nn.Linear(4, 3, device="meta"), r"(?i)meta"),
    "what cannot be copied": (leaf(), r"(?i)net.*cop|net"),
    "a batch of a fixed size": (
        odd(lambda self, x: self.scores(x) + torch.zeros(8, 1)),
        r"(?i)net|batch|rows|samples",
    ),
    "a scripted module": (lambda: torch.jit.script(nn.Linear(4, 3)), r"(?i)script"),
    "no axis of samples for one row": (
        odd(lambda self, x: self.scores(x).squeeze(), n_outputs=3),
        r"(?i)net.*axis|squeeze|shape",
    ),
}
for name, (net, error) in BAD_NETS.items():
    # Where a library is content with such a net, and learns, that is right too.
    case("nets", f"bad: {name}", fits(net=net), right=learns, error=error)


def eval_mode():
    """Return a net that was left in eval mode."""
    return Net().eval()


GOOD_NETS = {
    "a class": Net,
    "a function": lambda: Net(),
    "an instance": Net(),
    "a float64 instance": Net().double(),
    "an instance in eval mode": eval_mode(),
    "a part frozen": half_frozen,
    "writes to what it is given": Writes,
    "an LSTM": Recurrent,
    "lazy layers": lambda: nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3)),
    "dropout that is no layer": odd(lambda self, x: F.dropout(self.scores(x), 0.1, self.training)),
    "log probabilities": nn.Sequential(Net(), nn.LogSoftmax(dim=1)),
    "bfloat16": lambda: Net().bfloat16(),
    "batch norm": nn.Sequential(nn.BatchNorm1d(4), Net()),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 32)), nn.ReLU(), nn.Linear(32, 3)
    ),
    "turns gradients off where it may": odd(
        lambda self, x: self.head(torch.relu(self.hidden(x.float())).detach())
    ),
}
for name, net in GOOD_NETS.items():
    case("nets", name, fits(net=net, max_epochs=80), right=learns)


def _last_batch_of_one_row(lib):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    return score(lib, X[:73], Y[:73], net=net, batch_size=12)


def _shared(lib):
    """A net given to two estimators, and fitted twice, begins anew each time."""
    net, before = Net(), None
    before = copy.deepcopy(net.state_dict())
    one, other = lib.clf(net=net, max_epochs=3), lib.clf(net=net, max_epochs=3)
    data = X.astype(np.float32), Y
    first = one.fit(*data).predict_proba(data[0])
    second = other.fit(*data).predict_proba(data[0])
    third = one.fit(*data).predict_proba(data[0])
    unchanged = all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    return np.array_equal(first, second) and np.array_equal(first, third) and unchanged


def _clone(lib):
    """A clone of a fitted estimator knows nothing of the fit."""
    net = Net().requires_grad_(True)
    data = X.astype(np.float32), Y
    model = lib.clf(net=net, max_epochs=1, lr=0.0)
    first = model.fit(*data).predict_proba(data[0])
    model.set_params(lr=0.5).fit(*data)
    again = clone(model).set_params(lr=0.0).fit(*data).predict_proba(data[0])
    return np.allclose(first, again)


def _folds(lib):
    """Weights do not leak from fold to fold: labels that are noise stay noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, size=120)
    data = rng.normal(size=(120, 4)).astype(np.float32)
    net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    model = lib.clf(net=net, max_epochs=100, lr=0.02)
    model.fit(data, noise)
    return cross_val_score(model, data, noise, cv=4).mean() < 0.7


def _one_logit(labels):
    def act(lib):
        net = nn.Sequential(nn.Linear(4, 1, dtype=torch.float64))
        y = labels[B]
        loss = "bce" if lib.name == "sktorch" else nn.BCEWithLogitsLoss
        model = lib.clf(net=net, loss=loss, max_epochs=60).fit(X, y)
        return np.mean(model.predict(X) == y)

    return act


def _double_softmax(lib):
    """Softmax in the net and in the loss: said, or made up for."""
    net = nn.Sequential(Net(), nn.Softmax(dim=1))
    return score(lib, X.astype(np.float32), net=net, lr=0.001, max_epochs=30)


case(
    "nets",
    "half precision throughout",
    fits(net=lambda: Net().half()),
    right=learns,
    error=r"float16.*precision",
)
case("nets", "a single matrix", fits(net=Bare, y=B), right=learns)
case("nets", "batch norm, and a last batch of one row", _last_batch_of_one_row, right=learns)
case(
    "nets",
    "batch norm and batches of one row",
    fits(batch_size=1, net=nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).double()),
    error=r"(?i)batch.*norm|batch_size|per channel",
)
case("nets", "one net in two estimators", _shared, right=holds)
case("nets", "a clone of a fitted estimator", _clone, right=holds)
case("nets", "an instance across folds", _folds, right=holds)
case("nets", "one logit and labels 1 and 2", _one_logit(np.array([1, 2])), right=learns)
case("nets", "one logit and labels -1 and 1", _one_logit(np.array([-1, 1])), right=learns)
case("nets", "one logit and texts", _one_logit(np.array(["no", "yes"])), right=learns)
case("nets", "a softmax twice", _double_softmax, error=r"(?i)probabilities.*softmax|softmax")
case("nets", "parameters for an instance", fits(net=Net(), net__width=3), error=r"net__width|width")
case(
    "nets",
    "an embedding and ids",
    lambda lib: score(
        lib,
        IDS,
        IDS[:, 0] % 3,
        net=nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(32, 3)),
        max_epochs=60,
    ),
    right=learns,
)
case(
    "nets",
    "ids that the embedding has not",
    fits(X=IDS + 5, net=nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(32, 3))),
    error=r"(?i)ids|range",
)
case(
    "nets",
    "numbers for an embedding",
    fits(net=nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(32, 3))),
    error=r"(?i)whole|integer|Long|Int",
)
case(
    "nets",
    "a regression of the wrong width",
    regresses(net=lambda: nn.Linear(4, 2)),
    error=r"(?i)2 outputs.*1|outputs",
)
case(
    "nets",
    "that ends in a ReLU which died",
    lambda lib: lib.reg(
        net=odd(lambda self, x: F.relu(self.scores(x) * 0 - 1), n_outputs=1), max_epochs=2
    ).fit(X, R),
    error=r"(?i)constant|same|depend|gradient|dead",
)
