"""Losses as modules, for loops of one's own."""

from torch import nn

from sktorch.losses.registry import LOSSES, check_parameters

__all__ = ["FocalLoss", "SCELoss"]


class _PointwiseLoss(nn.Module):
    """A pointwise loss as a module, with the ``reduction`` of torch's own."""

    def __init__(self, name, reduction, **parameters):
        super().__init__()
        check_parameters(LOSSES[name], parameters, prefix="")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}.')
        self.name = name
        self.reduction = reduction
        self.parameters_of_loss = parameters

    def forward(self, y_pred, y_true):
        """Return the loss, a scalar or of shape (n_samples,)."""
        expected = y_pred.shape if y_true.is_floating_point() else (*y_pred.shape[:1],)
        if y_true.shape != expected or (y_pred.ndim < 2 and not y_true.is_floating_point()):
            raise ValueError(
                f"{type(self).__name__}: targets must be integers of shape (n_samples,) against "
                "logits of shape (n_samples, n_classes), or floats of the shape of the logits; got "
                f"{y_true.dtype} of shape {tuple(y_true.shape)} and logits of shape "
                f"{tuple(y_pred.shape)}."
            )
        values = LOSSES[self.name].pointwise(y_pred, y_true, **self.parameters_of_loss)
        return values if self.reduction == "none" else getattr(values, self.reduction)()

    def extra_repr(self):
        """Show the parameters."""
        return ", ".join(f"{name}={value}" for name, value in self.parameters_of_loss.items())


class FocalLoss(_PointwiseLoss):
    """Focal loss of logits (Lin et al., 2017): mean of ``alpha_t (1 - p_t)**gamma CE``.

    Parameters
    ----------
    gamma : float, default=2.0
        How much less easy samples count; 0 is weighted cross entropy.
    alpha : float, list of float, None or "auto", default="auto"
        Weight of the positive class, its complement that of the negative; or a weight for each
        class; None for no weights. "auto" is 0.75 for two classes and None for more.
    reduction : {"mean", "sum", "none"}, default="mean"

    Notes
    -----
    Called with logits and targets: integers of shape (n_samples,) against logits of shape
    (n_samples, n_classes); or zeros and ones of the dtype and the shape of the logits, for two
    classes with one output and for multilabel data, where the mean over labels is taken.

    Examples
    --------
    >>> import torch
    >>> from sktorch.losses import FocalLoss
    >>> logits = torch.logit(torch.tensor([[0.9], [0.1]]))
    >>> round(FocalLoss()(logits, torch.tensor([[1.0], [0.0]])).item(), 4)
    0.0005
    """

    def __init__(self, gamma=2.0, alpha="auto", reduction="mean"):
        super().__init__("focal", reduction, gamma=gamma, alpha=alpha)


class SCELoss(_PointwiseLoss):
    """Symmetric cross entropy of logits, for noisy labels (Wang et al., 2019): ``a CE + b RCE``.

    Parameters
    ----------
    a, b : float, default=1.0
        Weights of cross entropy and of reverse cross entropy, ``-sum p log q`` with the
        prediction p and the one-hot label q clamped to ``[1e-4, 1]``.
    reduction : {"mean", "sum", "none"}, default="mean"

    Notes
    -----
    Takes the same shapes as ``FocalLoss``.

    Examples
    --------
    >>> import torch
    >>> from sktorch.losses import SCELoss
    >>> SCELoss()(torch.zeros(1, 2), torch.tensor([0])).round(decimals=3)
    tensor(5.2980)
    """

    def __init__(self, a=1.0, b=1.0, reduction="mean"):
        super().__init__("sce", reduction, a=a, b=b)
