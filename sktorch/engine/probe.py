"""A look at the net and the loss before the first step, so that misfits have a name."""

import math

import torch

from sktorch.nets import first_layer

__all__ = ["PROBE_ROWS", "probe_net", "probe_training"]

PROBE_ROWS = 8


def probe_net(net, x):
    """Run ``net`` on a few rows and return the shape of what it gives for one sample.

    Parameters
    ----------
    net : nn.Module
        Lazy layers learn their shapes here.
    x : Tensor of shape (n_probe, ...)

    Returns
    -------
    shape : tuple
        ``()`` or ``(n_outputs,)``.

    Raises
    ------
    ValueError
        Naming ``net``: its forward fails, gives no tensor, gives other than one row a sample, or
        gives values that are not finite.
    """
    net.eval()
    with torch.no_grad():
        y_pred = forward_or_explain(net, x)
    if not isinstance(y_pred, torch.Tensor):
        raise ValueError(
            f"net must return a tensor, got {type(y_pred).__name__} from {type(net).__name__}. "
            "Return the prediction alone."
        )
    if y_pred.ndim not in (1, 2) or y_pred.shape[0] != x.shape[0]:
        raise ValueError(
            f"net must return shape (n_samples, n_outputs) or (n_samples,), got "
            f"{tuple(y_pred.shape)} for {x.shape[0]} samples."
        )
    if not y_pred.is_floating_point():
        raise ValueError(
            f"net must return floating-point numbers, got {y_pred.dtype}. Return its scores, not "
            "the predicted labels."
        )
    if not torch.isfinite(y_pred).all():
        raise ValueError(
            "net gives values that are not finite on the first rows of X before any training. "
            "Check its initial weights and its forward."
        )
    return tuple(y_pred.shape[1:])


def forward_or_explain(net, x):
    """Call ``net``; what it raises names ``net``, the shape of X and the first layer."""
    try:
        return net(x)
    except Exception as error:
        raise ValueError(
            f"net: the forward of {type(net).__name__} failed on samples of shape "
            f"{tuple(x.shape[1:])} and dtype {str(x.dtype).removeprefix('torch.')}: "
            f"{type(error).__name__}: {error}. Its first layer is {first_layer(net)}; "
            "make it fit X, or X fit it."
        ) from error


def probe_training(net, objective, batch, stream):
    """Compute the loss of ``batch`` once in training mode and check that it can be minimised.

    Buffers, such as the running means of batch norm, and ``stream`` are as before afterwards.

    Returns
    -------
    random : bool
        Whether the forward drew random numbers. It is asked of the forward itself, since dropout
        need not be a layer.

    Raises
    ------
    ValueError
        Naming ``loss`` or ``net``.
    """
    net.train()
    buffers = [buffer.clone() for buffer in net.buffers()]
    before = stream.states
    with stream:
        y_pred = forward_or_explain(net, batch.x)
    after, stream.states = stream.states, before
    with torch.no_grad():
        for buffer, kept in zip(net.buffers(), buffers, strict=True):
            buffer.copy_(kept)
    check_loss(objective, y_pred, batch)
    return any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


def check_loss(objective, y_pred, batch):
    """Refuse a loss that fails, is not one number, is not finite or cannot be differentiated."""
    try:
        loss = objective(y_pred, batch.y, batch.weight, batch.total)
    except (RuntimeError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"loss failed on predictions of shape {tuple(y_pred.shape)} ({y_pred.dtype}) and "
            f"targets of shape {tuple(batch.y.shape)} ({batch.y.dtype}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss)
        raise ValueError(f"loss must return one tensor, one number in all or a sample, got {got}.")
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
