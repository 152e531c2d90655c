"""Optimizers, the groups of parameters they update, and schedules of their learning rate.

``OPTIMIZERS`` and ``SCHEDULERS`` are the registries: torch's own by their names in lower case.
"""

import functools
import inspect
import math

import torch
from torch import nn
from torch.optim import lr_scheduler

from sktorch.fused import FUSED
from sktorch.rules import apply_rule
from sktorch.specs import accepted_arguments, check_arguments, describe

__all__ = [
    "OPTIMIZERS",
    "SCHEDULERS",
    "build_optimizer",
    "build_scheduler",
    "find_scheduler",
    "needs_closure",
    "parameter_groups",
]


def _classes(module, base, without):
    """Return the classes of a module of torch by their names in lower case."""
    return {
        name.lower(): kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind not in without
    }


# Optimizers -------------------------------------------------------------------------------------

OPTIMIZERS = _classes(torch.optim, torch.optim.Optimizer, {torch.optim.Optimizer})

_FILLED = ("params", "lr", "weight_decay")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def parameter_groups(net, extra, *, lr, weight_decay, frozen=False):
    """Sort trainable parameters by their learning rate and decay.

    Parameters
    ----------
    net : nn.Module
    extra : list of (name, parameter)
        Parameters beside the net's, such as the loss's own.
    lr, weight_decay : float, mapping or callable
        As in ``apply_rule``. A plain decay spares biases, the parameters of norms, and ``extra``.
    frozen : bool
        Whether to take in parameters that are not trainable yet.

    Returns
    -------
    groups : list of dict
        ``{"params", "names", "lr", "given_lr", "weight_decay", "rule"}``; ``given_lr`` is what no
        schedule changes, the rule the pattern that gave it, or None.
    """
    own = list(net.named_parameters())
    if not any(parameter.requires_grad for _, parameter in own):
        raise ValueError(
            "net has no parameter to train: it has none, or all have requires_grad=False. "
            "Set requires_grad=True on those to be trained."
        )
    named = [(n, p) for n, p in (*own, *extra) if frozen or p.requires_grad]
    in_norms = {id(p) for m in net.modules() if isinstance(m, _NORMS) for p in m.parameters()}
    others = in_norms | {id(p) for _, p in extra}

    def spared(name, parameter):
        return parameter.ndim < 2 or name.endswith("bias") or id(parameter) in others

    rates = apply_rule(lr, named, "lr")
    decays = apply_rule(weight_decay, named, "weight_decay", spared=spared, default=0.0)
    groups = {}
    for (name, parameter), (rate, pattern), (decay, _) in zip(named, rates, decays, strict=True):
        empty = {"params": [], "names": [], "lr": rate, "given_lr": rate, "rule": pattern}
        empty["weight_decay"] = decay
        group = groups.setdefault((pattern, rate, decay), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def build_optimizer(optimizer, arguments, groups, *, sparse=False):
    """Build the optimizer of one fit.

    Parameters
    ----------
    optimizer : str or class
        A key of ``OPTIMIZERS`` or a subclass of ``torch.optim.Optimizer``.
    arguments : dict
        The ``optimizer__`` parameters.
    groups : list of dict
        From ``parameter_groups``.
    sparse : bool, default=False
        Whether some gradients are sparse.
    """
    kind = _find(optimizer, OPTIMIZERS, torch.optim.Optimizer, "optimizer")
    check_arguments(kind, arguments, "optimizer", reserved=_FILLED)
    names, open_ended = accepted_arguments(kind)
    settings = dict(arguments)
    if kind is torch.optim.SparseAdam and not sparse:
        raise ValueError(
            f"optimizer: {describe(kind)} takes sparse gradients only, and net has no embedding "
            'with sparse=True. Use optimizer="adam".'
        )
    if issubclass(kind, torch.optim.Rprop) and not all(group["lr"] for group in groups):
        raise ValueError(
            f"lr: {describe(kind)} moves parameters also at a rate of 0. Freeze them with "
            "requires_grad=False, or use another optimizer."
        )
    if kind is torch.optim.LBFGS:
        groups = _one_group(groups)
    if "weight_decay" not in names and not open_ended:
        if any(group["weight_decay"] for group in groups):
            raise ValueError(
                f"weight_decay: {describe(kind)} has no weight decay. Set weight_decay=0."
            )
        groups = [{k: v for k, v in group.items() if k != "weight_decay"} for group in groups]
    if "fused" in names and not {"fused", "foreach", "differentiable"} & settings.keys():
        # One kernel for all parameters, which must be floating, of one dtype, and not sparse.
        dtypes = {p.dtype for group in groups for p in group["params"]}
        settings["fused"] = not sparse and len(dtypes) == 1 and dtypes.pop().is_floating_point
        kind = FUSED.get(kind, kind) if settings["fused"] else kind
    try:
        return kind(groups, lr=groups[0]["lr"], **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        given = {
            "lr": groups[0]["lr"],
            **{f"optimizer__{name}": value for name, value in arguments.items()},
        }
        raise ValueError(f"optimizer: {describe(kind)} refused {given}: {error}") from error


def _one_group(groups):
    """Merge groups for an optimizer that takes one; they must not differ."""
    if len({(group["lr"], group["weight_decay"]) for group in groups}) > 1:
        raise ValueError(
            "lr and weight_decay must be one number each for optimizer='lbfgs', which has a "
            "single group of parameters, and weight_decay 0. Use l2 instead."
        )
    merged = {**groups[0], "params": [], "names": []}
    for group in groups:
        merged["params"] += group["params"]
        merged["names"] += group["names"]
    return [merged]


def needs_closure(optimizer):
    """Whether ``optimizer`` evaluates the loss several times a step."""
    return _needs_closure(type(optimizer))


@functools.lru_cache(maxsize=128)
def _needs_closure(kind):
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _find(given, registry, base, parameter, aliases=()):
    """Return the class that ``given`` names or is."""
    if isinstance(given, type) and issubclass(given, base):
        return given
    if not isinstance(given, str):
        raise ValueError(
            f"{parameter} must be a name or a class of torch.optim (not an instance: it is built "
            f"anew for each fit), got {describe(given)}. Names: {', '.join(registry)}."
        )
    plain = given.lower().replace("_", "")
    for name in (plain, f"{plain}lr", dict(aliases).get(plain)):
        if name in registry:
            return registry[name]
    raise ValueError(
        f"{parameter}={given!r} is not known. Known names: {', '.join(sorted(registry))}."
    )


# Schedules --------------------------------------------------------------------------------------


class WarmupCosineLR(lr_scheduler.LRScheduler):
    """Rise linearly to the learning rate, then fall along a cosine; stepped each step.

    Parameters
    ----------
    optimizer : Optimizer
    total_steps : int
        Steps of the fit; filled by the estimator.
    warmup : float, default=0.1
        Share of the steps in which to rise, in [0, 1).
    final : float, default=0.0
        Share of the learning rate to end with, in [0, 1].
    """

    def __init__(self, optimizer, total_steps, warmup=0.1, final=0.0):
        if not 0 <= warmup < 1 or not 0 <= final <= 1:
            raise ValueError(f"warmup={warmup} must be in [0, 1), final={final} in [0, 1]")
        self.total_steps = total_steps
        self.rise = max(1, round(warmup * total_steps)) if warmup else 0
        self.final = final
        super().__init__(optimizer)

    def get_lr(self):
        """Return the learning rate of each group for the step to come."""
        return [base * self._factor(self.last_epoch) for base in self.base_lrs]

    def _factor(self, step):
        if step < self.rise:
            return (step + 1) / self.rise
        share = (step - self.rise) / max(1, self.total_steps - self.rise)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


_BASES = {
    lr_scheduler.LRScheduler,
    lr_scheduler._LRScheduler,
    lr_scheduler.SequentialLR,
    lr_scheduler.ChainedScheduler,
}
SCHEDULERS = {
    **_classes(lr_scheduler, lr_scheduler.LRScheduler, _BASES),
    "warmupcosinelr": WarmupCosineLR,
}
_ALIASES = {
    "cosine": "cosineannealinglr",
    "plateau": "reducelronplateau",
    "warmupcosine": "warmupcosinelr",
}
_EACH_STEP = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR, WarmupCosineLR)


def find_scheduler(scheduler):
    """Return the class that ``lr_scheduler=`` names or is."""
    return _find(scheduler, SCHEDULERS, lr_scheduler.LRScheduler, "lr_scheduler", _ALIASES)


def build_scheduler(scheduler, arguments, optimizer, *, max_epochs, steps_per_epoch, mode):
    """Build the schedule of one fit.

    Parameters
    ----------
    scheduler : str, class or callable
        A key of ``SCHEDULERS``, with or without its "lr" and with underscores or without; a
        subclass of torch's ``LRScheduler``; or a function ``(optimizer) -> LRScheduler``, for a
        schedule made of several, stepped each epoch.
    arguments : dict
        The ``lr_scheduler__`` parameters. ``T_max`` and ``total_iters`` are ``max_epochs``
        where not given, ``total_steps`` the steps of the fit, ``max_lr`` the learning rate.
    optimizer : Optimizer
    max_epochs, steps_per_epoch : int
    mode : {"min", "max"}
        Whether less or more of the monitored value is better.

    Returns
    -------
    scheduler : LRScheduler
    when : {"step", "epoch", "plateau"}
        When to step it; "plateau" each epoch with the monitored value.
    """
    if callable(scheduler) and not isinstance(scheduler, type):
        return _built_by(scheduler, optimizer), "epoch"
    kind = find_scheduler(scheduler)
    check_arguments(kind, arguments, "lr_scheduler", reserved=("optimizer", "last_epoch"))
    names, _ = accepted_arguments(kind)
    rates = [group["lr"] for group in optimizer.param_groups]
    filled = {
        "T_max": max_epochs,
        "total_iters": max_epochs,
        "mode": mode,
        "total_steps": max_epochs * steps_per_epoch,
        "max_lr": rates,
    }
    if {"epochs", "steps_per_epoch"} & arguments.keys():
        del filled["total_steps"]
    if issubclass(kind, lr_scheduler.ConstantLR):
        # A lower rate to begin with, not throughout.
        del filled["total_iters"]
    if not issubclass(kind, lr_scheduler.ReduceLROnPlateau):
        del filled["mode"]
    settings = {**{k: v for k, v in filled.items() if k in names}, **arguments}
    try:
        built = kind(optimizer, **settings)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"lr_scheduler__{name}={value!r}" for name, value in arguments.items())
        raise ValueError(
            f"lr_scheduler: {describe(kind)} refused {given or 'to go without parameters'}: "
            f"{error}. Set its arguments as lr_scheduler__<argument>."
        ) from error
    if issubclass(kind, lr_scheduler.ReduceLROnPlateau):
        return built, "plateau"
    return built, "step" if issubclass(kind, _EACH_STEP) else "epoch"


def _built_by(function, optimizer):
    try:
        built = function(optimizer)
    except Exception as error:
        raise ValueError(
            f"lr_scheduler: {describe(function)} raised {type(error).__name__}: {error}. It is "
            "called with the optimizer."
        ) from error
    if not isinstance(built, lr_scheduler.LRScheduler):
        raise ValueError(
            f"lr_scheduler: {describe(function)} must return a scheduler of torch.optim for the "
            f"optimizer it is given, got {describe(built)}."
        )
    return built
