"""Optimizers and the groups of parameters they update.

``OPTIMIZERS`` is the registry: torch's own optimizers by their names in lower case.
"""

import inspect

import torch
from torch import nn

from sktorch.fused import FUSED
from sktorch.specs import accepted_arguments, check_arguments, describe, lookup

__all__ = ["OPTIMIZERS", "build_optimizer", "parameter_groups"]

# What the loop does not give: a closure, sparse gradients.
_UNSERVED = (torch.optim.LBFGS, torch.optim.SparseAdam)
OPTIMIZERS = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind)
    and issubclass(kind, torch.optim.Optimizer)
    and kind not in (torch.optim.Optimizer, *_UNSERVED)
}

_FILLED = ("params", "lr", "weight_decay")
_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def parameter_groups(net, extra, *, weight_decay):
    """Sort trainable parameters by their decay.

    Parameters
    ----------
    net : nn.Module
    extra : list of (name, parameter)
        Parameters beside the net's, such as the loss's own; never decayed.
    weight_decay : float
        Applied to weight matrices; biases and the parameters of norms are spared.

    Returns
    -------
    groups : list of dict
        ``{"params": [...], "weight_decay": float}``, as torch's optimizers take them.
    """
    in_norms = {id(p) for m in net.modules() if isinstance(m, _NORMS) for p in m.parameters()}
    decayed, spared = [], [p for _, p in extra if p.requires_grad]
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        is_weight = parameter.ndim >= 2 and not name.endswith("bias")
        (decayed if is_weight and id(parameter) not in in_norms else spared).append(parameter)
    if not decayed and not spared:
        raise ValueError(
            "net has no parameter to train: it has none, or all have requires_grad=False. "
            "Set requires_grad=True on those to be trained."
        )
    if weight_decay == 0:
        return [{"params": decayed + spared, "weight_decay": 0.0}]
    groups = [(decayed, float(weight_decay)), (spared, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def build_optimizer(optimizer, arguments, groups, *, lr):
    """Build the optimizer of one fit.

    Parameters
    ----------
    optimizer : str or class
        A key of ``OPTIMIZERS`` or a subclass of ``torch.optim.Optimizer``.
    arguments : dict
        The ``optimizer__`` parameters.
    groups : list of dict
        From ``parameter_groups``.
    lr : float
    """
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        kind = optimizer
    elif isinstance(optimizer, str):
        kind = lookup(optimizer, OPTIMIZERS, "optimizer")
    else:
        raise ValueError(
            "optimizer must be a name or a class of torch.optim (not an instance: it is built anew "
            f"for each fit), got {describe(optimizer)}. Names: {', '.join(OPTIMIZERS)}."
        )
    if issubclass(kind, _UNSERVED):
        raise ValueError(
            f"optimizer: {describe(kind)} needs a closure or sparse gradients, which are not given "
            f"here. Use one of {', '.join(OPTIMIZERS)}."
        )
    check_arguments(kind, arguments, "optimizer", reserved=_FILLED)
    names, open_ended = accepted_arguments(kind)
    if "weight_decay" not in names and not open_ended:
        if any(group["weight_decay"] for group in groups):
            raise ValueError(
                f"weight_decay: {describe(kind)} has no weight decay. Set weight_decay=0."
            )
        groups = [{"params": group["params"]} for group in groups]
    settings = dict(arguments)
    if "fused" in names and not {"fused", "foreach", "differentiable"} & settings.keys():
        # One kernel for all parameters; torch offers it for floating tensors only.
        settings["fused"] = all(p.is_floating_point() for g in groups for p in g["params"])
        kind = FUSED.get(kind, kind) if settings["fused"] else kind
    try:
        return kind(groups, lr=lr, **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        given = {"lr": lr, **{f"optimizer__{name}": value for name, value in arguments.items()}}
        raise ValueError(f"optimizer: {describe(kind)} refused {given}: {error}") from error
