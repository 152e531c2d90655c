"""The updates of torch's most used optimizers, as formulas on tensors.

Torch's optimizers take one learning rate for all elements of a tensor. These take numbers that
are tensors themselves, broadcast over the parameter: one for each net of a stack, and inputs
rather than constants of a compiled program. Slots have the names of torch's, so that either can
go on where the other stopped.
"""

import torch

from sktorch.fused import FUSED

__all__ = ["UPDATES", "Update", "find_update"]


class Update:
    """The update of one optimizer.

    What is the same for all elements of a parameter is computed once, as its ``factors``; a call
    takes a parameter, its gradient, its slots, and these.

    Parameters
    ----------
    optimizer : Optimizer

    Attributes
    ----------
    names : tuple of str
        The numbers it takes, tensors of float64, in the order of ``numbers``.
    kind : tuple
        Equal for optimizers that differ in these numbers only.
    counts : bool
        Whether it counts the steps of each parameter.
    fuses : bool
        Whether ``FusedMove`` stands in for it.
    has_momentum : bool
        Whether it keeps a buffer for momentum.
    refusal : str
        Settings that it does not know, or "".
    """

    names = ()
    flags = ()
    counts = False
    fuses = False
    refused = ("maximize", "differentiable")

    def __init__(self, optimizer):
        groups = optimizer.param_groups
        settings = {name: [bool(group.get(name)) for group in groups] for name in self.flags}
        self.flagged = {name: any(values) for name, values in settings.items()}
        self.kind = (type(self), *self.flagged.values())
        unknown = [name for name in self.refused if any(group.get(name) for group in groups)]
        unknown += [name for name, values in settings.items() if len({*values}) > 1]
        self.has_momentum = any(group.get("momentum") for group in groups)
        self.refusal = ", ".join(f"optimizer__{name}" for name in unknown)

    def numbers(self, group):
        """Return the numbers of a group of parameters."""
        return [float(group[name]) for name in self.names]

    def slot_names(self):
        """Return torch's names of what is kept in the shape of a parameter."""
        return []

    def slots(self, optimizer, parameter):
        """Return what ``optimizer`` keeps for ``parameter``, begun if it has not been yet."""
        state = optimizer.state[parameter]
        if self.counts and state.get("step") is None:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        for name in self.slot_names():
            if state.get(name) is None:
                state[name] = torch.zeros_like(parameter.detach())
        return state

    def factors(self, counts, *numbers):
        """Return what to broadcast over a parameter, from the steps taken and the numbers."""
        return numbers


class _SGD(Update):
    names = ("lr", "weight_decay", "momentum")
    flags = ("nesterov",)
    refused = (*Update.refused, "dampening")

    def slot_names(self):
        return ["momentum_buffer"] if self.has_momentum else []

    def __call__(self, p, g, slots, lr, weight_decay, momentum):
        g = torch.addcmul(g, weight_decay, p)
        if slots:
            (buffer,) = slots
            buffer.mul_(momentum).add_(g)
            g = torch.addcmul(g, momentum, buffer) if self.flagged["nesterov"] else buffer
        p.addcmul_(lr, g, value=-1)


class _Adam(Update):
    names = ("lr", "weight_decay", "beta1", "beta2", "eps")
    flags = ("amsgrad", "decoupled_weight_decay")
    counts = True
    fuses = True

    def numbers(self, group):
        return [*map(float, (group["lr"], group["weight_decay"], *group["betas"], group["eps"]))]

    def slot_names(self):
        largest = ["max_exp_avg_sq"] if self.flagged["amsgrad"] else []
        return ["exp_avg", "exp_avg_sq", *largest]

    def factors(self, counts, lr, weight_decay, beta1, beta2, eps):
        decay = 1 - lr * weight_decay if self.flagged["decoupled_weight_decay"] else weight_decay
        # What corrects the mean of squares is here, and not in each of its elements.
        scale = torch.sqrt(1 - beta2**counts)
        rate = lr * scale / (1 - beta1**counts)
        return decay, rate, 1 - beta1, 1 - beta2, eps * scale

    def __call__(self, p, g, slots, decay, rate, fresh, fresh_square, eps):
        mean, square, *largest = slots
        if self.flagged["decoupled_weight_decay"]:
            p.mul_(decay)
        else:
            g = torch.addcmul(g, decay, p)
        mean.addcmul_(fresh, g - mean)
        square.addcmul_(fresh_square, torch.addcmul(square, g, g, value=-1), value=-1)
        for most in largest:
            square = most.copy_(torch.maximum(most, square))
        p.addcmul_(rate, mean / square.sqrt().add_(eps), value=-1)


class _RMSprop(Update):
    names = ("lr", "weight_decay", "momentum", "alpha", "eps")
    flags = ("centered",)
    counts = True

    def slot_names(self):
        buffer = ["momentum_buffer"] if self.has_momentum else []
        return ["square_avg", *buffer, *(["grad_avg"] if self.flagged["centered"] else [])]

    def factors(self, counts, lr, weight_decay, momentum, alpha, eps):
        return lr, weight_decay, momentum, 1 - alpha, eps

    def __call__(self, p, g, slots, lr, weight_decay, momentum, fresh, eps):
        slots = dict(zip(self.slot_names(), slots, strict=True))
        g = torch.addcmul(g, weight_decay, p)
        square = slots["square_avg"]
        square.addcmul_(fresh, torch.addcmul(square, g, g, value=-1), value=-1)
        if self.flagged["centered"]:
            mean = slots["grad_avg"]
            mean.addcmul_(fresh, g - mean)
            square = square - mean * mean
        g = g / square.sqrt().add_(eps)
        if self.has_momentum:
            g = slots["momentum_buffer"].mul_(momentum).add_(g)
        p.addcmul_(lr, g, value=-1)


# By torch's class; ours that stand in for it are its subclasses of the same name.
UPDATES = {
    torch.optim.SGD: _SGD,
    torch.optim.Adam: _Adam,
    torch.optim.AdamW: _Adam,
    torch.optim.RMSprop: _RMSprop,
}


def find_update(optimizer):
    """Return the formula of ``optimizer``, or None where there is none."""
    for kind, update in UPDATES.items():
        if type(optimizer) in (kind, FUSED.get(kind)):
            return update(optimizer)
    return None
