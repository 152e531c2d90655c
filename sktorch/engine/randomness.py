"""Random numbers of one fit, kept apart from those of the process.

Layers draw their weights and their dropout masks from torch's global generators and take no
other. A ``RandomStream`` lends its own state to those generators while it is entered, under a lock,
and puts theirs back: two fits in two threads draw what each would draw alone, and the
process's own streams are where they were.
"""

import threading
from contextlib import contextmanager
from functools import cached_property

import torch

__all__ = ["LENDING", "RandomStream"]

# Held while torch's global generators are not their own.
LENDING = threading.RLock()


def _global_generators(device):
    """Torch's generators that work on ``device`` may draw from."""
    generators = [torch.default_generator]
    if device.type == "cpu":
        return generators
    backend = getattr(torch, device.type, None)
    if hasattr(backend, "default_generators"):
        backend.init()
        index = backend.current_device() if device.index is None else device.index
        generators.append(backend.default_generators[index])
    return generators


class RandomStream:
    """A context in which torch's global generators continue this stream.

    Parameters
    ----------
    seed : int
    device : torch.device

    Attributes
    ----------
    states : list of Tensor
        Where the stream is: one state for each generator that is lent to.
    """

    def __init__(self, seed, device):
        self.seed = seed
        self._generators = _global_generators(device)

    # Made when it is asked for: of data that lies in memory no stream is ever read.
    @cached_property
    def states(self):
        """See the class."""
        return [
            torch.Generator(device=g.device).manual_seed(self.seed).get_state()
            for g in self._generators
        ]

    def __enter__(self):
        LENDING.acquire()
        self._outer = [g.get_state() for g in self._generators]
        if "states" in vars(self):
            for generator, state in zip(self._generators, self.states, strict=True):
                generator.set_state(state)
        else:
            for generator in self._generators:
                generator.manual_seed(self.seed)
        return self

    def __exit__(self, *_):
        self.states = [g.get_state() for g in self._generators]
        for generator, state in zip(self._generators, self._outer, strict=True):
            generator.set_state(state)
        LENDING.release()

    def call(self, function, *args):
        """Return what ``function`` gives inside the stream."""
        with self:
            return function(*args)

    def feeds(self, function):
        """Whether ``function`` draws random numbers; the stream is left where it was."""
        before = self.states
        with self.undone():
            function()
            drawn = [g.get_state() for g in self._generators]
        return any(not torch.equal(a, b) for a, b in zip(drawn, before, strict=True))

    def advance(self, items):
        """Yield the items of an iterator that may draw random numbers from the stream.

        One that draws none after its first item is left alone from then on, so that others can use
        the stream's turn.
        """
        number, draws, end = 0, True, object()
        while draws:
            before = self.states
            with self:
                item = next(items, end)
            if item is end:
                return
            yield item
            pairs = zip(self.states, before, strict=True)
            draws = number == 0 or any(not torch.equal(a, b) for a, b in pairs)
            number += 1
        yield from items

    @contextmanager
    def undone(self):
        """Enter the stream, and leave it where it was."""
        before = self.states
        with self:
            yield
        self.states = before
