"""Nets on their way to another process arrive as they left, each its own."""

import copy
from collections import Counter, defaultdict

import cloudpickle
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sktorch import TorchClassifier
from sktorch.interop.worker import packed
from sktorch.sameness import content


class Net(nn.Module):
    """Holds some of each."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.first.weight
        self.settings = {"rate": 0.0, "sizes": [1, 2], "memory": {}}
        self.counts = Counter()
        self.scale = torch.tensor(2.0)

    def forward(self, x):
        return self.norm(self.first(x)) * self.scale


def other_weight(net):
    net.first.weight.data[0, 0] += 1e-6


def other_buffer(net):
    net.norm.running_mean[1] = 1e-6


def other_number(net):
    net.settings["rate"] = -0.0


def other_kind(net):
    net.settings["sizes"][0] = True


def other_mode(net):
    net.norm.eval()


def frozen(net):
    net.tied.bias.requires_grad_(False)


def untied(net):
    net.tied.weight = nn.Parameter(net.first.weight.detach().clone())


def one_more(net):
    net.cache = {}


def shared_memory(net):
    net.memory = net.settings["memory"]


def with_hook(net):
    net.first.register_forward_hook(lambda *_: None)


CHANGES = [
    other_weight,
    other_buffer,
    other_number,
    other_kind,
    other_mode,
    frozen,
    untied,
    one_more,
    shared_memory,
    with_hook,
]


def sent(*nets):
    """Return nets as they arrive, held by estimators."""
    estimators = [TorchClassifier(net) for net in nets]
    return [estimator.net for estimator in cloudpickle.loads(packed(estimators))]


def test_what_is_not_known_is_no_copy():
    nets = [nn.Linear(3, 4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, kind in zip(nets, (int, list), strict=True):
        net.found = defaultdict(kind)
    assert content(nets[0]) != content(nets[1])
    assert [net.found.default_factory for net in sent(*nets)] == [int, list]


def test_copies_are_known_as_such():
    net = Net()
    del net.counts
    assert content(net) == content(copy.deepcopy(net)) == content(clone(TorchClassifier(net)).net)


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_in_anything_is_no_copy(change):
    net = Net()
    del net.counts
    other = copy.deepcopy(net)
    assert content(other) == content(net)
    change(other)
    assert content(other) != content(net)


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_nets_arrive_as_they_left(change):
    net = Net()
    other = copy.deepcopy(net)
    if change is not None:
        change(other)
    here = [net, other, copy.deepcopy(net)]
    there = sent(*here)
    assert len({*map(id, there)}) == 3
    # Of a hook it is not known whether it came back the same.
    if change is not with_hook:
        for net in (*there, *here):
            assert net.__dict__.pop("counts") == Counter()
        assert [*map(content, there)] == [*map(content, here)]
    there[0].first.weight.data.zero_()
    assert there[2].first.weight.any()
    assert there[0].tied.weight is there[0].first.weight


def test_copies_travel_once():
    nets = [nn.Linear(100, 100) for _ in range(2)]
    one = len(packed([TorchClassifier(nets[0])]))
    assert len(packed([TorchClassifier(copy.deepcopy(nets[0])) for _ in range(9)])) < 1.5 * one
    assert len(packed([TorchClassifier(net) for net in nets])) > 1.9 * one


def test_a_net_that_another_parameter_holds_a_part_of_stays_whole():
    net = Net()
    (there,) = cloudpickle.loads(packed([TorchClassifier(net, loss=net.norm)]))
    assert there.loss is there.net.norm
