"""Backward without what torch looks up anew at each step.

For a small net ``Tensor.backward`` spends a fifth of its time on what a plain number on a CPU has
no use for: subclasses of tensors, nested ones, settings for the threads of an accelerator.
"""

import torch

__all__ = ["backward", "gradients_of"]

_run = torch.autograd.Variable._execution_engine.run_backward


def backward(loss):
    """Add the gradients of ``loss``, a 0-d tensor, to those of its leaves."""
    if type(loss) is torch.Tensor and loss.is_cpu:
        ones = (torch.ones_like(loss),)
        _run((loss,), ones, False, False, (), allow_unreachable=True, accumulate_grad=True)
    else:
        loss.backward()


def gradients_of(loss, tensors):
    """Return the gradient of the sum of ``loss`` in each tensor, or None where it has none."""
    if type(loss) is torch.Tensor and loss.is_cpu:
        ones = (torch.ones_like(loss),)
        given = tuple(tensors)
        return _run(
            (loss,), ones, False, False, given, allow_unreachable=True, accumulate_grad=False
        )
    return torch.autograd.grad(loss.sum(), tensors, allow_unused=True)
