"""Losses and devices that are bad or odd."""

import numpy as np
import torch
from torch import nn

from corpus.case import X, Y, case, fits, fitted, holds, learns, regresses
from corpus.nets import Net

F = nn.functional

BAD_LOSSES = {
    "fails": (lambda p, t: p @ t, r"(?i)loss"),
    "is no tensor": (lambda p, t: 3.0, r"(?i)loss.*tensor"),
    "is NaN": (lambda p, t: F.cross_entropy(p, t) * torch.nan, r"(?i)loss.*nan"),
    "is infinite": (lambda p, t: F.cross_entropy(p, t) / 0, r"(?i)loss.*inf"),
    "has a number for each pair": (
        lambda p, t: (p[:, 0][None, :] - t[:, None]) ** 2,
        r"(?i)loss.*shape|number",
    ),
    "has too few numbers": (lambda p, t: p[:3, 0], r"(?i)loss.*number"),
    "does not depend on the net": (lambda p, t: torch.zeros(()), r"(?i)loss.*depend|grad"),
    "needs what nobody passes": (lambda p, t, margin: p.sum(), r"(?i)loss.*margin"),
    "is a class of something else": (dict, r"(?i)loss"),
    "is a number": (3, r"(?i)loss"),
}
for name, (loss, error) in BAD_LOSSES.items():
    case("losses", name, fits(loss=loss), error=error)


def becomes(value):
    """Return a loss that is ``value`` from its 60th call on."""
    calls = []

    def loss(y_pred, y_true):
        calls.append(None)
        return F.cross_entropy(y_pred, y_true) * (value if len(calls) > 60 else 1)

    return loss


def _two_ways(lib):
    """A loss without a sign of how it is reduced, and one with a value for each sample."""
    mean = lib.clf(loss=lambda p, t: F.cross_entropy(p, t), max_epochs=5)
    each = lib.clf(loss=lambda p, t: F.cross_entropy(p, t, reduction="none"), max_epochs=5)
    return np.allclose(mean.fit(X, Y).predict_proba(X), each.fit(X, Y).predict_proba(X))


def _summed(lib):
    """A sum over samples and the same with weights of one are the same fit."""
    model = lib.clf(
        loss=nn.CrossEntropyLoss(reduction="sum"), optimizer="sgd", lr=1e-3, max_epochs=3
    )
    plain = model.fit(X, Y).predict_proba(X)
    return np.allclose(model.fit(X, Y, np.ones(90)).predict_proba(X), plain)


case(
    "losses",
    "becomes NaN later",
    fits(loss=becomes(torch.nan), max_epochs=100),
    error=r"(?i)nan.*lr|nan",
)
case(
    "losses",
    "becomes infinite later",
    fits(loss=becomes(torch.inf), max_epochs=100),
    error=r"(?i)inf.*lr|inf",
)
case("losses", "of one number or one a sample", _two_ways, right=holds)
case(
    "losses", "summed, with and without weights", _summed, right=holds, error=r"(?i)loss.*reduction"
)
case(
    "losses",
    "of one number, with weights",
    fits(loss=lambda p, t: F.cross_entropy(p, t), weight=np.ones(90)),
    error=r"(?i)loss.*sample_weight",
)
case(
    "losses",
    "of probabilities, for logits",
    fits(net=lambda: nn.Linear(4, 3), loss="nll"),
    error=r"(?i)log.?probabilit|LogSoftmax",
)
case(
    "losses",
    "that writes to its targets",
    regresses(loss=lambda p, t: (p - t.mul_(1)) ** 2, max_epochs=150),
    right=learns,
)

# Devices ----------------------------------------------------------------------------------------

DEVICES = {
    "unknown": "gpu",
    "of a number that is not there": "cuda:77",
    "another build of torch has": "xla",
    "that holds nothing": "meta",
    "a number": 0,
    "None": None,
}
for name, device in DEVICES.items():
    case("devices", name, fits(device=device), right=learns, error=r"(?i)device|meta|cuda|xla")
case("devices", "an object of torch", fits(device=torch.device("cpu")), right=learns)
case(
    "devices",
    "half precision of float64",
    fits(precision="float16", net=Net().double()),
    error=r"(?i)precision.*float64",
)
case("devices", "in no_grad", lambda lib: _without_gradients(lib), right=learns)


def _without_gradients(lib):
    with torch.no_grad():
        return fitted(lib).score(X, Y)
