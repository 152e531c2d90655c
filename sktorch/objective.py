"""The objective of a fit: a loss, its weights and its parameters, as one number a batch."""

import copy
import functools
import inspect
from functools import partial
from numbers import Real
from typing import NamedTuple

import torch
from torch import nn

from sktorch.losses import check_parameters
from sktorch.losses.reduction import row_mean
from sktorch.specs import check_arguments, describe

__all__ = ["Objective", "Signature", "build_objective", "decoder_of"]


class Signature(NamedTuple):
    """What the net of a fit takes and gives.

    Parameters
    ----------
    input_dtype : torch.dtype, or a dict or tuple of them
    width : int
        Numbers it gives for each sample.
    layout : {"index", "indicator", "values"}
        Layout of the targets it is compared with.
    meaning : str
        As in ``Loss``.
    target_shape : tuple
        Shape of the targets of one sample, as the loss takes them.
    sample_shape : tuple, or a dict or tuple of them
        Shape of one sample of X.
    """

    input_dtype: torch.dtype
    width: int
    layout: str
    meaning: str
    target_shape: tuple
    sample_shape: tuple = ()

    def widths_in(self):
        """Return the first size of a sample, or of each of several inputs."""
        shape, dtype = self.sample_shape, self.input_dtype
        if isinstance(dtype, dict):
            return {name: (*shape[name], 1)[0] for name in dtype}
        if isinstance(dtype, tuple):
            return tuple((*each, 1)[0] for each in shape)
        return (*shape, 1)[0]


class Objective:
    """The loss of a batch as one number: ``sum(w * loss) / sum(w)``.

    Parameters
    ----------
    mean : callable
        ``(y_pred, y_true) -> scalar``, used where samples have no weights.
    pointwise : callable
        ``(y_pred, y_true) -> (n_samples,)``, used where they have.
    module : nn.Module or None
        The loss as a module, if it is one: its parameters are trained with the net's.
    numbers : dict of str to float
        Arguments of ``mean`` and ``pointwise`` that are real numbers.
    key : tuple
        What else they are made of, for objectives that differ in ``numbers`` only to be told.
    by_rows : bool
        Whether ``pointwise`` gives for each row what it would give for that row alone.
    batched : bool
        As in ``Loss``.
    """

    def __init__(
        self, mean, pointwise, module=None, numbers=None, key=(), by_rows=False, batched=False
    ):
        self.mean = mean
        self.pointwise = pointwise
        self.module = module
        self.numbers = numbers or {}
        self.key = key
        self.by_rows = by_rows
        self.batched = batched

    def __call__(self, y_pred, y_true, weight, total, **numbers):
        """Loss of a batch of total weight ``total``; ``weight`` is None or ``(n_samples,)``.

        ``numbers`` take the place of the objective's own.
        """
        if weight is None:
            return self.mean(y_pred, y_true, **numbers)
        return torch.dot(self.pointwise(y_pred, y_true, **numbers), weight) / total

    def of_members(self, y_pred, y_true, weight, total):
        """Losses of batches side by side, where it goes ``by_rows``.

        Parameters
        ----------
        y_pred : Tensor of shape (n_members, n_rows) or (n_members, n_rows, n_outputs)
        y_true : Tensor of shape (n_members, n_rows, ...)
        weight : Tensor of shape (n_members, n_rows) or None
        total : float or Tensor of shape (n_members,)
            Total weight of each batch.

        Returns
        -------
        losses : Tensor of shape (n_members,)
        """
        if self.batched and not y_true.is_floating_point():
            # A softmax over few classes takes several times as long where they are the last axis.
            losses = self.pointwise(y_pred.mT, y_true)
        else:
            losses = self.pointwise(y_pred.flatten(0, 1), y_true.flatten(0, 1))
            losses = losses.view(y_true.shape[:2])
        return losses.mean(1) if weight is None else (losses * weight).sum(1) / total

    def trained_module(self):
        """Return the loss as a module if it has weights that the fit trained, or None."""
        return self.module if self.named_parameters() else None

    def named_parameters(self):
        """Parameters of the loss itself, called ``loss.<name>``."""
        named = [] if self.module is None else self.module.named_parameters()
        return [(f"loss.{name}", parameter) for name, parameter in named]


def decoder_of(module):
    """Return a loss of ours without which the net's output means nothing, or None."""
    return module if hasattr(module, "log_probabilities") else None


def build_objective(loss, arguments, entry, **sizes):
    """Build the objective of one fit.

    Parameters
    ----------
    loss : str, nn.Module, class or callable
        What the user gave.
    arguments : dict
        The ``loss__`` parameters.
    entry : Loss
        From ``find_loss``.
    **sizes : dict
        What a loss of ours with weights of its own is built from.
    """
    if isinstance(loss, str):
        return _built_in_objective(arguments, entry, sizes)
    if isinstance(loss, nn.Module):
        if arguments:
            raise ValueError(
                f"loss__{next(iter(arguments))} cannot be set: loss is an instance of "
                f"{type(loss).__name__}, already built. Pass its class to set its parameters."
            )
        return _module_objective(copy.deepcopy(loss))
    if isinstance(loss, type):
        check_arguments(loss, arguments, "loss")
        built = loss(**arguments)
        if isinstance(built, nn.Module):
            return _module_objective(built)
        if not callable(built):
            raise ValueError(
                f"loss: objects of {describe(loss)} cannot be called. Pass a class that has "
                "__call__(y_pred, y_true), or a torch.nn.Module."
            )
        return _callable_objective(built, built, None, describe(loss), (loss, arguments))
    check_arguments(loss, arguments, "loss", reserved=("y_pred", "y_true"))
    function = partial(loss, **arguments)
    return _callable_objective(function, function, None, describe(loss), (loss, arguments))


def _built_in_objective(arguments, entry, sizes):
    reserved = ("y_pred", "y_true", *sizes)
    check_arguments(entry.pointwise, arguments, "loss", reserved=reserved)
    check_parameters(entry, arguments)
    if isinstance(entry.pointwise, type):
        try:
            module = entry.pointwise(**sizes, **arguments)
        except ValueError as error:
            raise ValueError(
                f"loss: {arguments} for {sizes['n_outputs']} classes: {error}"
            ) from None
        return Objective(_mean_of(module), module, module)
    pointwise = partial(entry.pointwise, **arguments) if arguments else entry.pointwise
    mean = _mean_of(pointwise)
    if entry.mean is not None:
        mean = partial(entry.mean, **arguments) if arguments else entry.mean
    settings = _defaults(entry.pointwise) | arguments
    numbers = {n: float(v) for n, v in settings.items() if _is_real(v)}
    others = {n: v for n, v in settings.items() if n not in numbers}
    key = (entry.pointwise, others)
    return Objective(mean, pointwise, None, numbers, key, by_rows=True, batched=entry.batched)


@functools.cache  # of functions in LOSSES
def _defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _is_real(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _mean_of(pointwise):
    return lambda y_pred, y_true, **numbers: pointwise(y_pred, y_true, **numbers).mean()


def _module_objective(module):
    single = module
    if getattr(module, "reduction", None) == "sum":
        raise ValueError(
            f"loss: {type(module).__name__} with reduction='sum' grows with the rows of a batch, "
            "and so would its steps and what history_ records. Set reduction='mean'."
        )
    if hasattr(module, "reduction"):
        # The same parameters, with a value for each sample.
        single = copy.copy(module)
        single.reduction = "none"
    return _callable_objective(module, single, module, describe(type(module)), (module,))


def _callable_objective(function, single, module, name, key):
    """Wrap a loss of unknown shape: one number a sample, one an output, or one in all.

    ``single`` is the same loss with a value for each sample, where it can be had.
    """

    def values_of(loss, y_pred, y_true):
        values = loss(y_pred, y_true)
        if not isinstance(values, torch.Tensor):
            raise ValueError(f"loss: {name} must return a tensor, got {describe(values)}.")
        if values.ndim and values.shape[0] != y_true.shape[0]:
            raise ValueError(
                f"loss: {name} must return one number for each sample, or one in all, got shape "
                f"{tuple(values.shape)} for {y_true.shape[0]} samples."
            )
        if values.ndim > 1 and values.numel() not in (len(values), y_pred.numel()):
            raise ValueError(
                f"loss: {name} must return one number for each sample or output, got shape "
                f"{tuple(values.shape)} for predictions of shape {tuple(y_pred.shape)} and targets "
                f"of shape {tuple(y_true.shape)}, which broadcast. Give them one shape first."
            )
        return values

    def pointwise(y_pred, y_true):
        values = values_of(single, y_pred, y_true)
        if not values.ndim:
            raise ValueError(
                f"loss: {name} returns one number in all, so it cannot take sample_weight or "
                "class_weight. Return one number for each sample, or fit without weights."
            )
        return row_mean(values)

    def mean(y_pred, y_true):
        values = values_of(function, y_pred, y_true)
        return values.mean() if values.ndim else values

    return Objective(mean, pointwise, module, key=key)
