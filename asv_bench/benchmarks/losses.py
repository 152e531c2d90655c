"""What a loss of ours costs in a step, beside the same loss written by hand in torch."""

import torch
import torch.nn.functional as F
from torch import nn

from sktorch.losses import LOSSES, find_loss
from sktorch.objective import build_objective


def focal_by_hand(z, t):
    log_p = F.log_softmax(z, dim=1).gather(1, t.unsqueeze(1)).squeeze(1)
    return ((1 - log_p.exp()) ** 2 * -log_p).mean()


def sce_by_hand(z, t):
    p = F.softmax(z, dim=1).clamp(1e-4, 1)
    q = F.one_hot(t, z.shape[1]).to(z.dtype).clamp(1e-4, 1)
    return F.cross_entropy(z, t) - (p * q.log()).sum(1).mean()


def hinge_by_hand(z, t):
    own = F.one_hot(t, z.shape[1]).bool()
    other = z.masked_fill(own, -torch.inf).max(dim=1).values
    return F.relu(1 - z[own] + other).mean()


def gaussian_by_hand(z, t):
    mean, log_variance = z.chunk(2, dim=1)
    return (0.5 * (log_variance + (t - mean) ** 2 * torch.exp(-log_variance))).mean()


BY_HAND = {
    "cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy_with_logits,
    "bce_probability": lambda z, t: F.binary_cross_entropy(z, t),
    "nll": F.nll_loss,
    "kl_div": F.nll_loss,
    "focal": focal_by_hand,
    "sce": sce_by_hand,
    "hinge": hinge_by_hand,
    "squared_error": F.mse_loss,
    "absolute_error": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "poisson": lambda z, t: F.poisson_nll_loss(z, t),
    "gamma": lambda z, t: (z + t * (-z).exp()).mean(),
    "quantile": lambda z, t: torch.maximum(0.5 * (t - z), -0.5 * (t - z)).mean(),
    "gaussian_nll": gaussian_by_hand,
    "cosine": lambda z, t: (1 - F.cosine_similarity(z, t, dim=1)).mean(),
}


def by_sktorch(loss, entry):
    found = find_loss(loss, classification=entry.targets[0] != "values")
    return build_objective(loss, {}, found).mean


class AdaptiveSoftmax:
    """The same for 10 classes by adaptive softmax, whose weights are trained too."""

    param_names = ("written",)
    params = (["by sktorch", "by hand"],)

    def setup(self, written):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(20, 100), nn.ReLU(), nn.Linear(100, 32))
        self.x = torch.randn(64, 20)
        self.y = torch.randint(0, 10, (64,))
        if written == "by sktorch":
            loss = "adaptive_log_softmax"
            sizes = {"n_features": 32, "n_outputs": 10, "counts": torch.bincount(self.y)}
            found = find_loss(loss, classification=True)
            objective = build_objective(loss, {"cutoffs": [1, 5]}, found, **sizes)
            module, self.loss = objective.module, objective.mean
        else:
            module = nn.AdaptiveLogSoftmaxWithLoss(32, 10, [1, 5])
            self.loss = lambda z, t: module(z, t).loss
        self.parameters = [*self.net.parameters(), *module.parameters()]

    def time_gradients(self, written):
        for _ in range(100):
            for parameter in self.parameters:
                parameter.grad = None
            self.loss(self.net(self.x), self.y).backward()


class Losses:
    """Forward, loss and backward of a 20-100-10 net on 64 rows, without the optimizer."""

    param_names = ("loss", "written")
    params = ([*BY_HAND], ["by sktorch", "by hand"])

    def setup(self, loss, written):
        torch.manual_seed(0)
        entry = LOSSES[loss]
        layers = [nn.Linear(20, 100), nn.ReLU(), nn.Linear(100, 10)]
        last = {"probabilities": nn.Sigmoid(), "log_probabilities": nn.LogSoftmax(dim=1)}
        self.net = nn.Sequential(*layers, *filter(None, [last.get(entry.meaning)]))
        self.x = torch.randn(64, 20)
        self.y = torch.rand(64, 10 // entry.outputs_per_target) + 0.1
        if entry.targets[0] == "index":
            self.y = torch.randint(0, 10, (64,))
        if entry.targets[0] == "indicator":
            self.y = self.y.round().clamp(0, 1)
        self.parameters = [*self.net.parameters()]
        self.loss = BY_HAND[loss]
        if written == "by sktorch":
            self.loss = by_sktorch(loss, entry)

    def time_gradients(self, loss, written):
        for _ in range(100):
            for parameter in self.parameters:
                parameter.grad = None
            self.loss(self.net(self.x), self.y).backward()
