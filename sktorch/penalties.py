"""Penalties on weights, for all parameters of a net together."""

import torch

from sktorch.rules import apply_rule

__all__ = ["Penalty", "build_penalty"]


class Penalty:
    """``sum(l1 * |w|) + sum(l2 / 2 * w**2)``, with a strength for each parameter.

    Parameters
    ----------
    l1, l2 : list of (Parameter, float)
        Parameters with a strength above zero.
    """

    def __init__(self, l1, l2):
        self.l1 = l1
        self.l2 = l2

    @torch.no_grad()
    def add_gradients(self):
        """Add the gradient of the penalty, known in closed form, to that of the loss."""
        for pairs, derivative in ((self.l2, list), (self.l1, torch._foreach_sign)):
            # A callback may freeze and thaw parameters.
            pairs = [pair for pair in pairs if pair[0].requires_grad]
            if not pairs:
                continue
            weights, strengths = zip(*pairs, strict=True)
            for weight in weights:
                if weight.grad is None or weight.grad.is_sparse:
                    # Every weight is penalised, also one that this batch did not use.
                    used = weight.grad
                    weight.grad = torch.zeros_like(weight) if used is None else used.to_dense()
            scaled = torch._foreach_mul(derivative(weights), strengths)
            torch._foreach_add_([weight.grad for weight in weights], scaled)

    @torch.no_grad()
    def value(self):
        """Return the penalty as a 0-d tensor, or 0.0 where there is none."""
        terms = [strength * weight.abs().sum() for weight, strength in self.l1]
        terms += [0.5 * strength * weight.square().sum() for weight, strength in self.l2]
        return sum(terms, 0.0)


def build_penalty(net, *, l1, l2, frozen=False):
    """Build the penalty of one fit, or return None where it is zero.

    Parameters
    ----------
    net : nn.Module
    l1, l2 : float, mapping or callable
        As in ``apply_rule``. A plain number spares parameters with "bias" in their name.
    frozen : bool
        Whether to take in parameters that are not trainable yet.
    """
    if l1 == l2 == 0.0:
        return None
    named = [(name, p) for name, p in net.named_parameters() if frozen or p.requires_grad]
    parts = []
    for rule, parameter in ((l1, "l1"), (l2, "l2")):
        values = apply_rule(
            rule, named, parameter, spared=lambda name, _: "bias" in name, default=0.0
        )
        pairs = zip(named, values, strict=True)
        parts.append([(p, float(value)) for (_, p), (value, _) in pairs if value])
    return Penalty(*parts) if any(parts) else None
