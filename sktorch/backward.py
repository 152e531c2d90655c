"""Backward without what torch looks up anew at each step.

For a small net ``Tensor.backward`` spends a fifth of its time on what a plain number on a CPU has
no use for: subclasses of tensors, nested ones, settings for the threads of an accelerator.
"""

import threading

import torch

__all__ = ["backward", "gradients_of"]

_run = torch.autograd.Variable._execution_engine.run_backward


def backward(loss):
    """Add the gradients of ``loss``, a 0-d tensor, to those of its leaves."""
    if type(loss) is torch.Tensor and loss.is_cpu:
        ones = (_ones.like(loss),)
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


class _Ones(threading.local):
    """What a backward begins with, one for each dtype: to make it takes as long as to use it."""

    def __init__(self):
        self.known = {}

    def like(self, loss):
        """Return a 0-d tensor that holds 1."""
        if loss.dtype not in (torch.float32, torch.float64):
            return torch.ones_like(loss)
        one, memory = self.known.get(loss.dtype, (None, (0.0,)))
        # A function of the user's may have written to it.
        if memory[0] != 1.0:
            one = torch.ones((), dtype=loss.dtype)
            self.known[loss.dtype] = one, memoryview(one.view(1).numpy())
        return one


_ones = _Ones()
