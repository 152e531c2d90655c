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
    """The update of one optimizer; a call takes a parameter, its gradient, slots and numbers.

    Parameters
    ----------
    optimizer : Optimizer

    Attributes
    ----------
    names : tuple of str
        The numbers it takes, tensors of float64, in the order of ``numbers``.
    kind : tuple
        Equal for optimizers that differ in these numbers only.
    has_momentum : bool
        Whether it keeps a buffer for momentum.
    refusal : str
        Settings that it does not know, or "".
    """

    names = ()
    flags = ()
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
        """Return what is kept for each parameter, as torch's optimizer calls it."""
        return []

    def slots(self, optimizer, parameter):
        """Return what ``optimizer`` keeps for ``parameter``, begun if it has not been yet."""
        state = optimizer.state[parameter]
        for name in self.slot_names():
            if state.get(name) is None:
                state[name] = torch.zeros_like(parameter.detach())
                if name == "step":
                    state[name] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {name: state[name] for name in self.slot_names()}


class _SGD(Update):
    names = ("lr", "weight_decay", "momentum")
    flags = ("nesterov",)
    refused = (*Update.refused, "dampening")

    def slot_names(self):
        return ["momentum_buffer"] if self.has_momentum else []

    def __call__(self, p, g, slots, lr, weight_decay, momentum):
        lr, weight_decay, momentum = (v.to(p.dtype) for v in (lr, weight_decay, momentum))
        g = g + weight_decay * p
        if slots:
            (buffer,) = slots
            buffer.mul_(momentum).add_(g)
            g = g + momentum * buffer if self.flagged["nesterov"] else buffer
        p.sub_(lr * g)


class _Adam(Update):
    names = ("lr", "weight_decay", "beta1", "beta2", "eps")
    flags = ("amsgrad", "decoupled_weight_decay")

    def numbers(self, group):
        return [*map(float, (group["lr"], group["weight_decay"], *group["betas"], group["eps"]))]

    def slot_names(self):
        largest = ["max_exp_avg_sq"] if self.flagged["amsgrad"] else []
        return ["step", "exp_avg", "exp_avg_sq", *largest]

    def __call__(self, p, g, slots, lr, weight_decay, beta1, beta2, eps):
        step, mean, square, *largest = slots
        step.add_(1)
        rate = lr / (1 - beta1**step)
        scale = torch.sqrt(1 - beta2**step)
        if self.flagged["decoupled_weight_decay"]:
            p.mul_((1 - lr * weight_decay).to(p.dtype))
        else:
            g = g + weight_decay.to(p.dtype) * p
        mean.lerp_(g, (1 - beta1).to(p.dtype))
        square.mul_(beta2.to(p.dtype)).add_((1 - beta2).to(p.dtype) * g * g)
        for most in largest:
            square = most.copy_(torch.maximum(most, square))
        p.sub_(rate.to(p.dtype) * mean / (square.sqrt() / scale.to(p.dtype) + eps.to(p.dtype)))


class _RMSprop(Update):
    names = ("lr", "weight_decay", "momentum", "alpha", "eps")
    flags = ("centered",)

    def slot_names(self):
        buffer = ["momentum_buffer"] if self.has_momentum else []
        return ["step", "square_avg", *buffer, *(["grad_avg"] if self.flagged["centered"] else [])]

    def __call__(self, p, g, slots, lr, weight_decay, momentum, alpha, eps):
        others = (lr, weight_decay, momentum, alpha, 1 - alpha, eps)
        lr, weight_decay, momentum, alpha, fresh, eps = (v.to(p.dtype) for v in others)
        slots = dict(zip(self.slot_names(), slots, strict=True))
        slots["step"].add_(1)
        g = g + weight_decay * p
        square = slots["square_avg"].mul_(alpha).add_(fresh * g * g)
        if self.flagged["centered"]:
            mean = slots["grad_avg"].lerp_(g, fresh)
            square = square - mean * mean
        g = g / (square.sqrt() + eps)
        if self.has_momentum:
            g = slots["momentum_buffer"].mul_(momentum).add_(g)
        p.sub_(lr * g)


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
