"""Learning-rate range test: which rates a net learns at, found by raising the rate step by step."""

import numpy as np
import torch

from sktorch.engine.loop import groups_of

__all__ = ["lr_range", "suggest"]

# How much of the past a smoothed loss keeps at each step.
_MEMORY = 0.9

# Rates at which the smoothed loss is this many times its least are past the end of the range.
_BLOWN_UP = 4.0


def lr_range(state, rates):
    """Take one step at each rate.

    Parameters
    ----------
    state : FitState
        Its net is changed.
    rates : ndarray of shape (n_steps,)
        Of the group with the largest rate; the others keep their ratio to it.

    Returns
    -------
    losses : ndarray of shape (n_steps,)
        Loss of each step before its update.
    """
    state.net.train()
    losses = []
    groups = state.optimizer.param_groups
    bases = [group["lr"] for group in groups]
    if not max(bases) > 0:
        raise ValueError("lr_find: lr is 0 for every parameter. Give some of them a rate.")
    step, batches = state.step, _endless(state)
    for rate in rates:
        for group, base in zip(groups, bases, strict=True):
            group["lr"] = rate * (base / max(bases))
        losses.append(torch.stack([loss for loss, _ in step(state, next(batches))]).mean())
    return torch.stack(losses).double().cpu().numpy()


def _endless(state):
    while True:
        yield from groups_of(state.accumulation, state.train)


def suggest(rates, losses):
    """Return the rate at which the loss falls steepest, and the smoothed losses.

    Parameters
    ----------
    rates, losses : ndarray of shape (n_steps,)

    Returns
    -------
    suggestion : float
    smoothed : ndarray of shape (n_steps,)
        NaN from where the loss blew up.
    """
    smoothed = np.full(len(losses), np.nan)
    average = 0.0
    for step, loss in enumerate(losses):
        average = _MEMORY * average + (1 - _MEMORY) * loss
        value = average / (1 - _MEMORY ** (step + 1))
        if not np.isfinite(value) or (step and value > _BLOWN_UP * np.nanmin(smoothed)):
            break
        smoothed[step] = value
    known = np.flatnonzero(np.isfinite(smoothed))
    if len(known) < 3:
        raise ValueError(
            f"lr_find: the loss was not finite, or blew up, within {len(known) + 1} steps of "
            f"lr_min={rates[0]:g}. Pass a smaller lr_min, or standardise X."
        )
    end = max(2, int(np.argmin(smoothed[known])) + 1)
    slopes = np.gradient(smoothed[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slopes))]), smoothed
