"""How many threads a fit computes with."""

import threading
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sktorch.fields import caller

__all__ = ["forward_flops", "set_threads", "threads_for", "using_threads"]

# Operations in a forward below which threads cost more to meet than they save.
_ENOUGH_FLOPS = 1e6


class _Counter(TorchDispatchMode):
    """Adds up operations: those of matrix products and convolutions, and one for each output."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        elif isinstance(out, torch.Tensor):
            self.total += out.numel()
        return out


def threads_for(state):
    """Return how many threads to train with: one where a batch is little work.

    It goes by the work alone and not by its time, so that the same fit always takes as many.
    """
    n_threads = torch.get_num_threads()
    layers = (nn.RNNBase, nn.Transformer)
    if state.device.type != "cpu" or n_threads == 1 or _has(state.net, layers):
        return n_threads
    return 1 if forward_flops(state) < _ENOUGH_FLOPS else n_threads


def forward_flops(state):
    """Return the operations of the net in the forward of a training batch."""
    state.net.eval()
    batch = state.train.head(2)
    with _Counter() as counter, torch.no_grad(), state.stream.undone():
        caller(state.net, batch.x)(batch.x)
    return counter.total * state.train.sizes[0] / len(batch.y)


def _has(net, kinds):
    return any(isinstance(module, kinds) for module in net.modules())


def set_threads(n_threads):
    """Let torch compute with ``n_threads`` in this thread; return with how many it did.

    ``torch.set_num_threads`` is for the calling thread and for those that start later; a thread
    that starts and ends at once takes the second effect back.
    """
    before = torch.get_num_threads()
    if n_threads != before:
        torch.set_num_threads(n_threads)
        later = threading.Thread(target=torch.set_num_threads, args=(before,))
        later.start()
        later.join()
    return before


@contextmanager
def using_threads(n_threads):
    """Let torch compute with ``n_threads`` in this thread, and as before afterwards."""
    before = set_threads(n_threads)
    try:
        yield
    finally:
        if n_threads != before:
            torch.set_num_threads(before)
