"""Nets as a user would write them."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class UserMLP(nn.Module):
    """Sized from the data, with a parameter of its own."""

    def __init__(self, n_features_in, n_outputs, width=32):
        super().__init__()
        self.hidden = nn.Linear(n_features_in, width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(x)))


class UserCNN(nn.Module):
    """Takes images of shape (n, 1, 8, 8) and gives ten logits."""

    def __init__(self, n_outputs=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 9, n_outputs)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.head(x.flatten(1))


class DroppingMLP(nn.Module):
    """Draws random numbers in its forward, though no layer of it is a dropout layer."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.net = UserMLP(n_features_in, n_outputs)

    def forward(self, x):
        return self.net(nn.functional.dropout(x, 0.2, self.training))


class Recomputes(nn.Module):
    """Draws its dropout again in the backward, as checkpointed nets do."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, n_outputs)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


def make_mlp(n_features_in, n_outputs, width=50):
    """Build a net as a factory does."""
    return nn.Sequential(nn.Linear(n_features_in, width), nn.ReLU(), nn.Linear(width, n_outputs))


def linear(n_in, n_out, dtype=torch.float64):
    """Return a linear net with weights that are the same in every run."""
    net = nn.Linear(n_in, n_out, dtype=dtype)
    with torch.no_grad():
        values = torch.linspace(-0.5, 0.5, n_in * n_out, dtype=dtype)
        net.weight.copy_(values.reshape(n_out, n_in))
        net.bias.copy_(torch.linspace(0.1, 0.2, n_out, dtype=dtype))
    return net


class Tempered(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.log_t = nn.Parameter(torch.zeros(()))

    def forward(self, y_pred, y_true):
        return nn.functional.cross_entropy(y_pred * self.log_t.exp(), y_true, reduction="none")


def several_schedules(optimizer):
    """Return a schedule made of two."""
    schedules = torch.optim.lr_scheduler
    parts = [schedules.ConstantLR(optimizer, 0.5), schedules.ExponentialLR(optimizer, 0.9)]
    return schedules.SequentialLR(optimizer, parts, milestones=[2])
