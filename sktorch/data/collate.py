"""Samples of a Dataset side by side, and what in them is x, y and weight."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.utils.data import default_collate

from sktorch.fields import leaves
from sktorch.specs import describe

__all__ = ["FORMS", "collated", "joined", "numeric_inputs", "parts_of", "to_array"]

_TARGETS = ("labels", "label", "y", "target")
_WEIGHT = "sample_weight"

FORMS = (
    "A sample is x, (x, y), (x, y, weight), or a dict with the target as one of "
    f"{', '.join(map(repr, _TARGETS))}; x is a tensor, an array or a number, or a dict or tuple of "
    "them."
)


def collated(samples, numbers, source):
    """Return samples stacked: ``default_collate``, but numpy stacks its arrays, in a third.

    Parameters
    ----------
    samples : list
    numbers : ndarray of int
        Their numbers, for the message where they do not fit.
    source : Dataset
    """
    try:
        if not isinstance(samples[0], tuple | list):
            return _column(samples)
        return [_column(values) for values in zip(*samples, strict=True)]
    except (TypeError, RuntimeError, ValueError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise ValueError(
            f"X: samples of {describe(type(source))} cannot be stacked: "
            f"{_misfit(samples, numbers)} ({type(error).__name__}: {reason})"
        ) from error


def _column(values):
    """Return one part of all samples."""
    if isinstance(values[0], np.ndarray):
        # Without their subclass: rows of a memory map are slow to handle.
        return torch.from_numpy(np.stack([np.asarray(value) for value in values]))
    if isinstance(values[0], np.number):
        return torch.from_numpy(np.array(values))
    return default_collate(list(values))


def parts_of(batch):
    """Return ``(x, y, weight)`` of a sample or a batch, each None where there is none."""
    if isinstance(batch, Mapping):
        targets = [name for name in _TARGETS if name in batch]
        if len(targets) > 1:
            raise ValueError(
                f"X: a dict sample has more than one target, {' and '.join(targets)}. {FORMS}"
            )
        inputs = {k: v for k, v in batch.items() if k not in (*targets, _WEIGHT)}
        y = batch[targets[0]] if targets else None
        return _inputs(inputs), y, batch.get(_WEIGHT)
    if isinstance(batch, list | tuple):
        if not 1 <= len(batch) <= 3:
            raise ValueError(f"X: a sample is a tuple of {len(batch)} items. {FORMS}")
        x, y, weight = (*batch, None, None)[:3]
        return _inputs(x), y, weight
    return batch, None, None


def _inputs(x):
    """Return one input as it is, and several as a dict or a tuple."""
    if isinstance(x, Mapping):
        return dict(x) if len(x) != 1 else next(iter(x.values()))
    if isinstance(x, list | tuple):
        return tuple(x) if len(x) != 1 else x[0]
    return x


def numeric_inputs(x, source):
    """Refuse inputs that are no arrays of numbers."""
    parts = leaves(x)
    for _, part in parts:
        numeric = isinstance(part, torch.Tensor) or (
            isinstance(part, np.ndarray) and part.dtype.kind in "biuf"
        )
        if not numeric:
            raise ValueError(
                f"X: {describe(source)} gives {describe(part)} for x, which is no tensor of "
                f"numbers. {FORMS}"
            )
    if not parts:
        raise ValueError(f"X: {describe(source)} gives no input for the net. {FORMS}")
    return x


def to_array(values, name):
    """Return targets or weights as an array of numpy."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype is torch.bfloat16 else values).numpy()
    array = np.asarray(values)
    if array.dtype == object:
        raise ValueError(
            f"{name}: a Dataset gives {describe(values)} for it, which is no array. {FORMS}"
        )
    return array


def joined(arrays):
    """Return arrays one after the other, or say that they do not fit."""
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        shapes = sorted({array.shape[1:] for array in arrays})
        raise ValueError(f"y: targets have unequal shapes: {shapes}. Make them alike.") from error


def _misfit(samples, numbers):
    """Say in words why samples cannot be stacked."""
    outlines = [_outline(sample) for sample in samples]
    other = next((i for i, found in enumerate(outlines) if found != outlines[0]), None)
    if other is None:
        return f"sample {numbers[0]} is {outlines[0]}. {FORMS}"
    return (
        f"sample {numbers[0]} is {outlines[0]}, sample {numbers[other]} is {outlines[other]}. "
        "Make them one size (ImageFolder(size=...), or pad), or pass a DataLoader with a "
        "collate_fn."
    )


def _outline(sample):
    if isinstance(sample, Mapping):
        return f"{{{', '.join(f'{k}: {_outline(v)}' for k, v in sample.items())}}}"
    if isinstance(sample, list | tuple):
        return f"({', '.join(_outline(item) for item in sample)})"
    if hasattr(sample, "shape"):
        return f"{type(sample).__name__} of shape {tuple(sample.shape)}"
    return f"a {type(sample).__name__}"
