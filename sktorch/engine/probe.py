"""A look at the net and the loss before the first step, so that misfits have a name."""

import math
import warnings
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sktorch.backward import gradients_of
from sktorch.data.batches import Batch
from sktorch.data.tensors import as_tensors
from sktorch.engine.placement import check_ids
from sktorch.engine.shortage import is_shortage
from sktorch.fields import caller, each, leaves
from sktorch.finite import all_finite
from sktorch.nets import first_layer, float_dtype, reads_ids
from sktorch.specs import user_level

__all__ = [
    "PROBE_ROWS",
    "Probe",
    "Trial",
    "check_loss",
    "forward_or_explain",
    "looks_like",
    "probe_net",
    "probe_training",
    "warn_of_standstill",
]

PROBE_ROWS = 8


def forward_or_explain(net, x):
    """Call ``net``; what it raises names ``net``, the shape of X and the first layer."""
    try:
        return caller(net, x)(x)
    except Exception as error:
        if is_shortage(error):
            raise
        raise ValueError(
            f"net: the forward of {type(net).__name__} failed on samples of {_samples(x)}: "
            f"{type(error).__name__}: {error}. Its first layer is {first_layer(net)}; "
            "check that it takes such samples."
        ) from error


def _samples(x):
    """Say in words what samples of x look like."""
    words = [
        f"shape {tuple(part.shape[1:])} and dtype {str(part.dtype).removeprefix('torch.')}"
        for _, part in leaves(x)
    ]
    if isinstance(x, dict):
        return ", ".join(f"{name}: {text}" for name, text in zip(x, words, strict=True))
    return ", ".join(words)


class Probe(NamedTuple):
    """What one forward in eval mode told.

    Parameters
    ----------
    net : nn.Module
    input_dtype : torch.dtype, or a dict or tuple of them
        What the net takes X in: int64 where it begins with an embedding, or where X holds integers
        and its forward takes nothing else; the dtype of its parameters otherwise. Of several
        inputs those of integers stay integers, wherever the forward takes them so.
    y_pred : Tensor of shape (n_probe,) or (n_probe, n_outputs)
        Without gradients.
    looks : {"probabilities", "log_probabilities", "logits"}
        What the predictions look like; see ``looks_like``.
    """

    net: nn.Module
    input_dtype: torch.dtype
    y_pred: torch.Tensor
    looks: str


def probe_net(net, x, device):
    """Run ``net`` on a few rows, in eval mode; return a ``Probe``.

    Parameters
    ----------
    net : nn.Module
        On ``device``. Lazy layers learn their shapes here.
    x : array or tensor of shape (n_probe, ...), or a dict or tuple of them
    device : torch.device

    Returns
    -------
    probe : Probe

    Raises
    ------
    ValueError
        Naming ``net``: its forward fails, gives no tensor, gives other than one row a sample, or
        gives values that are not finite.
    """
    net.eval()
    n_rows = leaves(x)[0][1].shape[0]
    first_error = None
    for dtypes in _candidates(net, x):
        try:
            tensors = as_tensors(x, dtypes, device)
            check_ids(net, tensors)
            # Copied, since the net may write to what it is given.
            y_pred = forward_or_explain(net, each(torch.clone, tensors))
            break
        except ValueError as error:
            first_error = first_error or error
    else:
        raise first_error
    check_output(net, y_pred, n_rows)
    with torch.no_grad():
        one = caller(net, x)(each(lambda part: part[:1].clone(), tensors))
    if one.ndim == y_pred.ndim and len(one) != 1:
        raise ValueError(
            f"net gives {len(one)} rows for one sample: its forward makes something of a fixed "
            "number of rows. Let it go by the batch, as in len(x)."
        )
    if one.shape != (1, *y_pred.shape[1:]):
        raise ValueError(
            f"net gives shape {tuple(one.shape)} for one sample and {tuple(y_pred.shape)} for "
            f"{n_rows}: it drops the axis of samples. Name the axis to drop, as in squeeze(1)."
        )
    return Probe(net, dtypes, y_pred.detach(), looks_like(y_pred))


def _candidates(net, x):
    """Yield the dtypes that ``net`` may take its inputs in, the likeliest first."""
    floating, parts = float_dtype(net), [part for _, part in leaves(x)]
    whole = [_is_whole(part) for part in parts]
    if not isinstance(x, dict | tuple):
        yield torch.int64 if reads_ids(net) else floating
        if whole[0] and not reads_ids(net):
            yield torch.int64
        return
    for choice in product(*([torch.int64, floating] if w else [floating] for w in whole)):
        yield dict(zip(x, choice, strict=True)) if isinstance(x, dict) else choice


def _is_whole(part):
    if isinstance(part, torch.Tensor):
        return not part.is_floating_point() and part.dtype is not torch.bool
    return part.dtype.kind in "iu"


def check_output(net, y_pred, n_samples, when="in eval mode"):
    """Refuse an output that is not one row of finite scores for each sample."""
    if not isinstance(y_pred, torch.Tensor):
        raise ValueError(
            f"net must return a tensor, got {type(y_pred).__name__} from {type(net).__name__} "
            f"{when}. Return the prediction alone."
        )
    if y_pred.ndim not in (1, 2) or y_pred.shape[0] != n_samples:
        raise ValueError(
            f"net must return shape (n_samples, n_outputs) or (n_samples,), got "
            f"{tuple(y_pred.shape)} for {n_samples} samples {when}."
        )
    if not y_pred.is_floating_point():
        raise ValueError(
            f"net must return floating-point numbers, got {y_pred.dtype}. Return its scores, not "
            "the predicted labels."
        )
    if not all_finite(y_pred.detach()):
        raise ValueError(
            "net gives values that are not finite on the first rows of X before any training, "
            f"{when}. Check its initial weights and its forward."
        )


# The last operation of a net, by the name of its gradient, and what it makes of the output.
_LAST_OPERATIONS = {
    "SigmoidBackward0": "probabilities",
    "SoftmaxBackward0": "probabilities",
    "LogSoftmaxBackward0": "log_probabilities",
    "LogSigmoidBackward0": "log_probabilities",
}
_RESHAPES = ("View", "Squeeze", "Unsqueeze", "Reshape", "Alias", "Clone", "Transpose", "ToCopy")

# How far from 1 rows of probabilities may sum.
_TOLERANCE = 1e-3


def looks_like(y_pred):
    """Tell probabilities and their logarithms from other scores.

    Parameters
    ----------
    y_pred : Tensor of shape (n_probe,) or (n_probe, n_outputs)
        Computed with gradients on.

    Returns
    -------
    meaning : {"probabilities", "log_probabilities", "logits"}
        By the operation that made it, or by rows that sum to one.
    """
    last = y_pred.grad_fn
    while last is not None and last.name().startswith(_RESHAPES) and last.next_functions:
        last = last.next_functions[0][0]
    if last is not None and last.name() in _LAST_OPERATIONS:
        return _LAST_OPERATIONS[last.name()]
    if y_pred.ndim == 2 and y_pred.shape[1] > 1:
        scores = y_pred.detach().cpu().double().numpy()
        if scores.min() < 0 and scores.max() > _TOLERANCE:
            # No probabilities, and the exponential of one alone is more than a row may sum to.
            return "logits"
        with np.errstate(over="ignore"):
            exponentials = np.exp(scores)
        for meaning, p in (("probabilities", scores), ("log_probabilities", exponentials)):
            if (p >= 0).all() and abs(p.sum(1) - 1).max() < _TOLERANCE:
                return meaning
    return "logits"


class Trial(NamedTuple):
    """What one forward in training mode told.

    Parameters
    ----------
    rows : Batch or None
        What it was computed on.
    is_random : bool
        Whether it drew random numbers. It is asked of the forward itself, since dropout need not
        be a layer.
    writes : bool
        Whether the net or the loss wrote to what it was given.
    loss : float
        What it was.
    moves : bool
        Whether any parameter has a gradient other than zero.
    """

    rows: Batch | None
    is_random: bool
    writes: bool
    loss: float
    moves: bool


def probe_training(net, objective, batch, stream):
    """Compute the loss of ``batch`` once in training mode and check that it can be minimised.

    Buffers, such as the running means of batch norm, and ``stream`` are as before afterwards;
    ``batch`` need not be.

    Returns
    -------
    trial : Trial

    Raises
    ------
    ValueError
        Naming ``loss`` or ``net``.
    """
    modules = [net] if objective.module is None else [net, objective.module]
    for module in modules:
        module.train()
    buffers = [buffer for module in modules for buffer in module.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    before = stream.states
    given = [part for _, part in leaves(batch.x)] + [batch.y]
    versions = [tensor._version for tensor in given]
    with stream:
        y_pred = forward_or_explain(net, batch.x)
        check_output(net, y_pred, len(batch.y), "in training mode")
        loss = check_loss(objective, y_pred, batch)
        moves = check_gradients(loss, modules)
    after, stream.states = stream.states, before
    with torch.no_grad():
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
    return Trial(
        rows=batch,
        is_random=any(not torch.equal(a, b) for a, b in zip(after, before, strict=True)),
        writes=[tensor._version for tensor in given] != versions,
        loss=loss.item(),
        moves=moves,
    )


def check_gradients(loss, modules):
    """Refuse a net that cannot be differentiated; return whether any gradient is not zero."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    try:
        gradients = gradients_of(loss, parameters)
    except Exception as error:
        if is_shortage(error):
            raise
        raise ValueError(
            f"net: the backward of {type(modules[0]).__name__} failed: {type(error).__name__}: "
            f"{error} Check that its forward changes nothing in place that it still needs."
        ) from error
    return any(
        bool((g.coalesce().values() if g.is_sparse else g).any())
        for g in gradients
        if g is not None
    )


def warn_of_standstill(trial):
    """Warn of a net that cannot learn."""
    if not trial.moves and trial.loss != 0:
        warnings.warn(
            "net: no parameter has a gradient other than zero on the first rows, so that nothing "
            "will be learned. Check for activations that are zero for all of X (ReLU after large "
            "negative biases), and for operations such as round or sign.",
            UserWarning,
            stacklevel=user_level(),
        )


def check_loss(objective, y_pred, batch):
    """Return the loss; refuse one that fails, is not finite or cannot be differentiated."""
    try:
        loss = objective(y_pred, batch.y, batch.weight, batch.total)
    except Exception as error:
        if str(error).startswith("loss") or is_shortage(error):
            raise
        raise ValueError(
            f"loss failed on predictions of shape {tuple(y_pred.shape)} ({y_pred.dtype}) and "
            f"targets of shape {tuple(batch.y.shape)} ({batch.y.dtype}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if not loss.requires_grad:
        raise ValueError(
            "loss does not depend on any trainable parameter of net. Return its output as the net "
            "computed it, without detach() or no_grad()."
        )
    if not math.isfinite(loss.item()):
        raise ValueError(
            f"loss is {loss.item()} on the first rows before any training. Check that y holds "
            "values this loss can take, and that net gives what the loss expects."
        )
    return loss
