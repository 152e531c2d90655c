"""``summary()`` counts right, tells how each parameter was trained, and changes nothing."""

import copy
import math

import numpy as np
import pytest
import torch
from nets import UserCNN
from sklearn.exceptions import NotFittedError
from torch import nn

from sktorch import TorchClassifier, TorchRegressor

DENSE = nn.Sequential(nn.Linear(15, 20), nn.ReLU(), nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 1))
IMAGES = nn.Sequential(
    nn.Conv2d(3, 32, 3),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 5),
    nn.MaxPool2d(2),
    nn.Dropout2d(0.1),
    nn.AdaptiveMaxPool2d(1),
    nn.Flatten(),
    nn.Linear(64, 32),
    nn.ReLU(),
    nn.Linear(32, 1),
)


class Text(nn.Module):
    """Ids of shape (n, 200) to one logit."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10_000, 3, padding_idx=1)
        self.convs = nn.Sequential(
            nn.Conv1d(3, 16, 5), nn.MaxPool1d(2), nn.ReLU(),
            nn.Conv1d(16, 128, 2), nn.MaxPool1d(2), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(128 * 48, 1)

    def forward(self, ids):
        return self.head(self.convs(self.words(ids).transpose(1, 2)).flatten(1))


def rows(*shape, ids=False):
    random = np.random.RandomState(0)
    X = random.randint(2, 10_000, shape) if ids else random.normal(size=shape).astype("float32")
    return X, np.arange(len(X)) % 2


@pytest.mark.parametrize(
    ("net", "data", "count", "shapes"),
    [
        (DENSE, rows(20, 15), 651, ["[1, 20]", "[1, 15]", "[1, 1]"]),
        (IMAGES, rows(8, 3, 32, 32), 54_273, ["[1, 32, 30, 30]", "[1, 64, 11, 11]", "[1, 64]"]),
        (Text(), rows(8, 200, ids=True), 40_625, ["[1, 200, 3]", "[1, 16, 196]", "[1, 128, 97]"]),
    ],
    ids=["dense", "images", "text"],
)
def test_a_net_has_the_parameters_and_shapes_it_should(net, data, count, shapes):
    summary = TorchClassifier(net, max_epochs=1).fit(*data).summary()
    assert summary.total_params == summary.trainable_params == count
    assert summary.parameters["count"].sum() == count
    text = str(summary)
    assert f"Total params: {count:,}" in text
    assert all(shape in text for shape in shapes)
    assert f"parameters {count * 4 / 1e6:.3g}, total" in text
    assert repr(summary) == text


def test_each_parameter_tells_its_rate_decay_and_whether_it_is_frozen():
    net = copy.deepcopy(DENSE)
    net[0].requires_grad_(False)
    clf = TorchClassifier(
        net,
        lr={"2.*": 0.01, "*": 0.1},
        weight_decay=0.5,
        lr_scheduler="step_lr",
        lr_scheduler__step_size=1,
        max_epochs=3,
    ).fit(*rows(20, 15))
    summary = clf.set_params(lr=9.0).summary()
    table = summary.parameters.set_index("name")
    assert [*table.columns] == ["shape", "count", "lr", "weight_decay", "frozen"]
    assert [*table.index] == [name for name, _ in clf.net_.named_parameters()]
    assert table.loc["0.weight", "frozen"]
    assert math.isnan(table.loc["0.weight", "lr"])
    assert tuple(table.loc["2.weight", ["shape", "count"]]) == ((15, 20), 300)
    assert table.loc["2.weight", "lr"] == 0.01
    assert table.loc["4.weight", "lr"] == 0.1
    assert table.loc["4.weight", "weight_decay"] == 0.5
    assert table.loc["4.bias", "weight_decay"] == 0
    assert summary.trainable_params == 651 - 320
    assert "Frozen params: 320" in str(summary)


def test_a_parameter_that_two_layers_share_counts_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 1))
    net[2].weight = net[0].weight
    summary = TorchClassifier(net, max_epochs=1).fit(*rows(20, 4)).summary()
    assert summary.total_params == sum(p.numel() for p in net.parameters())
    assert f"Total params: {summary.total_params}" in str(summary)


class Counting(UserCNN):
    """Writes to a buffer in each forward, and draws in evaluation too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return super().forward(x + 0 * torch.rand(1))


def test_a_summary_leaves_net_and_generators_as_they_were(digits):
    X, y = digits
    clf = TorchClassifier(Counting, max_epochs=1).fit(X[:100].reshape(-1, 1, 8, 8), y[:100])
    before, drawn = copy.deepcopy(clf.net_.state_dict()), torch.get_rng_state()
    clf.summary()
    assert all(torch.equal(v, before[k]) for k, v in clf.net_.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(m.training for m in clf.net_.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in clf.net_.modules())


def test_a_summary_needs_a_fit():
    with pytest.raises(NotFittedError):
        TorchClassifier().summary()


def test_a_summary_follows_partial_fit_a_pickle_and_every_optimizer(diabetes):
    X, y = diabetes
    for optimizer in ("lbfgs", "sgd", "rprop"):
        reg = TorchRegressor(optimizer=optimizer, lr=0.01, max_epochs=1).fit(X, y)
        assert set(reg.summary().parameters["lr"]) == {0.01}
    reg = TorchRegressor(lr=0.02).partial_fit(X, y)
    copied = copy.deepcopy(reg)
    assert str(copied.summary()) == str(reg.summary())
    assert set(copied.summary().parameters["lr"]) == {0.02}
