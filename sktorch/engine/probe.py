"""A look at the net and the loss before the first step, so that misfits have a name."""

import math
import warnings
from typing import NamedTuple

import torch

from sktorch.data.tensors import as_tensor
from sktorch.engine.placement import check_ids
from sktorch.engine.shortage import is_shortage
from sktorch.nets import first_layer, float_dtype, reads_ids
from sktorch.specs import user_level

__all__ = [
    "PROBE_ROWS",
    "Trial",
    "check_loss",
    "forward_or_explain",
    "looks_like",
    "probe_net",
    "probe_training",
]

PROBE_ROWS = 8


def forward_or_explain(net, x):
    """Call ``net``; what it raises names ``net``, the shape of X and the first layer."""
    try:
        return net(x)
    except Exception as error:
        if is_shortage(error):
            raise
        raise ValueError(
            f"net: the forward of {type(net).__name__} failed on samples of shape "
            f"{tuple(x.shape[1:])} and dtype {str(x.dtype).removeprefix('torch.')}: "
            f"{type(error).__name__}: {error}. Its first layer is {first_layer(net)}; "
            "check that it takes such samples."
        ) from error


def probe_net(net, X, device):
    """Run ``net`` on a few rows, in eval mode.

    Parameters
    ----------
    net : nn.Module
        On ``device``. Lazy layers learn their shapes here.
    X : ndarray or sparse matrix of shape (n_probe, ...)
    device : torch.device

    Returns
    -------
    input_dtype : torch.dtype
        What the net takes X in: int64 where it begins with an embedding, or where X holds integers
        and its forward takes nothing else; the dtype of its parameters otherwise.
    y_pred : Tensor of shape (n_probe,) or (n_probe, n_outputs)

    Raises
    ------
    ValueError
        Naming ``net``: its forward fails, gives no tensor, gives other than one row a sample, or
        gives values that are not finite.
    """
    net.eval()
    dtype = torch.int64 if reads_ids(net) else float_dtype(net)
    try:
        x = as_tensor(X, dtype, device, "X")
        check_ids(net, x)
        # Copied, since the net may write to what it is given.
        y_pred = forward_or_explain(net, x.clone())
    except ValueError as error:
        if dtype is torch.int64 or X.dtype.kind not in "iu":
            raise
        dtype = torch.int64
        try:
            x = as_tensor(X, dtype, device, "X")
            y_pred = net(x.clone())
        except Exception:
            raise error from None
    check_output(net, y_pred, X.shape[0])
    with torch.no_grad():
        one = net(x[:1].clone())
    if one.ndim == y_pred.ndim and len(one) != 1:
        raise ValueError(
            f"net gives {len(one)} rows for one sample: its forward makes something of a fixed "
            "number of rows. Let it go by the batch, as in len(x)."
        )
    if one.shape != (1, *y_pred.shape[1:]):
        raise ValueError(
            f"net gives shape {tuple(one.shape)} for one sample and {tuple(y_pred.shape)} for "
            f"{X.shape[0]}: it drops the axis of samples. Name the axis to drop, as in squeeze(1)."
        )
    return dtype, y_pred


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
    if not torch.isfinite(y_pred).all():
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
        scores = y_pred.detach().cpu().double()
        for meaning, p in (("probabilities", scores), ("log_probabilities", scores.exp())):
            p = p.numpy()
            if (p >= 0).all() and abs(p.sum(1) - 1).max() < 1e-3:
                return meaning
    return "logits"


class Trial(NamedTuple):
    """What one forward in training mode told.

    Parameters
    ----------
    is_random : bool
        Whether it drew random numbers. It is asked of the forward itself, since dropout need not
        be a layer.
    writes : bool
        Whether the net or the loss wrote to what it was given.
    loss : float
        What it was.
    """

    is_random: bool
    writes: bool
    loss: float


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
    versions = batch.x._version, batch.y._version
    with stream:
        y_pred = forward_or_explain(net, batch.x)
        check_output(net, y_pred, len(batch.y), "in training mode")
        loss = check_loss(objective, y_pred, batch)
        check_gradients(loss, modules)
    after, stream.states = stream.states, before
    with torch.no_grad():
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
    return Trial(
        is_random=any(not torch.equal(a, b) for a, b in zip(after, before, strict=True)),
        writes=(batch.x._version, batch.y._version) != versions,
        loss=loss.item(),
    )


def check_gradients(loss, modules):
    """Refuse a net that cannot be differentiated; warn of one that cannot learn."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    try:
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    except Exception as error:
        if is_shortage(error):
            raise
        raise ValueError(
            f"net: the backward of {type(modules[0]).__name__} failed: {type(error).__name__}: "
            f"{error} Check that its forward changes nothing in place that it still needs."
        ) from error
    if loss != 0 and not any(
        (g.coalesce().values() if g.is_sparse else g).any() for g in gradients if g is not None
    ):
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
