"""What is done when the memory of a device does not suffice."""

import math
from contextlib import contextmanager

import torch

from sktorch.exceptions import DeviceMemoryError
from sktorch.fields import each

__all__ = ["explained_shortage", "halves", "in_memory", "is_shortage", "n_rows", "shortage_of_fit"]

_WORDS_OF_THE_CPU = "can't allocate memory"


def is_shortage(error):
    """Whether ``error`` says that memory does not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return not isinstance(error, DeviceMemoryError)
    return isinstance(error, RuntimeError) and _WORDS_OF_THE_CPU in str(error)


def n_rows(batch):
    """Return the number of rows of a ``Batch``."""
    return len(batch.y)


def halves(batch):
    """Return a ``Batch`` as two, in the order of its rows."""
    middle = len(batch.y) // 2
    parts = []
    for rows in (slice(None, middle), slice(middle, None)):
        weight = None if batch.weight is None else batch.weight[rows]
        total = len(batch.y[rows])
        if weight is not None:
            total = weight.sum().clamp_(min=torch.finfo(weight.dtype).tiny)
        x = each(lambda part, rows=rows: part[rows], batch.x)
        parts.append(type(batch)(x, batch.y[rows], weight, total))
    return parts


def in_memory(step, items, size, halves, device):
    """Yield ``(item, step(item))``, with items in halves where memory does not suffice.

    Parameters
    ----------
    step : callable
    items : iterable
        Rows to go through, many at once.
    size : callable
        Returns the number of rows of an item.
    halves : callable
        Returns an item as two.
    device : torch.device

    Raises
    ------
    DeviceMemoryError
        If it does not suffice for one row.
    """
    most = math.inf
    for whole in items:
        parts = [whole]
        while parts:
            item = parts.pop(0)
            if size(item) <= most:
                outcome = _attempt(step, item)
                if outcome is not None:
                    yield item, outcome
                    continue
                if size(item) == 1:
                    raise DeviceMemoryError(
                        f"{device} has too little memory for a single row. Free some of it, take a "
                        'smaller net, or set device="cpu".'
                    )
                most = size(item) // 2
                _free(device)
            parts = [*halves(item), *parts]


def _attempt(step, item):
    """Return ``step(item)``, or None where memory does not suffice."""
    try:
        return step(item)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return None


def _free(device):
    """Give back what a failed step has left."""
    if device.type != "cpu":
        torch.accelerator.memory.empty_cache()


def shortage_of_fit(state):
    """Return an error that says which batch size would fit; the fit is over, and its net undone."""
    rows = given = state.train.sizes[0]
    fits = False
    while rows > 1 and not fits:
        rows //= 2
        for parameter in state.parameters:
            parameter.grad = None
        _free(state.device)
        fits = _attempt(lambda n: state.step(state, [state.train.head(n)]), rows) is not None
    advice = f"A batch_size of {rows} would fit"
    if fits:
        advice += (
            f"; with grad_accumulation_steps={state.accumulation * -(-given // rows)} each update "
            "stays as it is."
        )
    else:
        advice = 'A single row would not fit either: take a smaller net, or set device="cpu".'
    return DeviceMemoryError(
        f"{state.device} has too little memory for batch_size={given} in epoch {state.epoch}. "
        f"{advice}"
    )


@contextmanager
def explained_shortage(n_rows):
    """Say what the memory was for, where it does not suffice before the first step."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise DeviceMemoryError(
            f"The device has too little memory for net, for X and y of {n_rows} rows, and for a "
            'trial of a few of them. Pass fewer rows, take a smaller net, or set device="cpu". '
            f"({str(error).splitlines()[0]})"
        ) from error
