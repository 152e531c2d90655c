"""Which training step a fit takes."""

import math
import time
import warnings

from sktorch.engine.compiled import CompiledStep
from sktorch.engine.eligibility import refusal
from sktorch.engine.graph import CannotCompileError
from sktorch.engine.step import train_step
from sktorch.specs import user_level

__all__ = ["plan_stack", "plan_step", "release_step"]

# What compiling saves of a step: the larger part of what a small net spends between its kernels,
# and little of the arithmetic of a large one.
_SAVED_SHARE = 0.6
_SAVED_SECONDS = 120e-6

# A stack spends less between kernels, but its kernels write and read large tensors in between.
_SAVED_OF_STACK = 0.5

# What compiling costs where this process has not measured it yet.
_TYPICAL_SECONDS = 10.0
_measured = []

# What takes less was found among the programs that were compiled before.
_CACHED_SECONDS = 0.5


def plan_step(state):
    """Choose the step for the epochs to come.

    "auto" takes a program that is there already, and decides on a new one after the first epoch,
    when it knows what a plain step costs. One that is compiled takes over what has changed since.
    """
    if isinstance(state.step, CompiledStep):
        if state.step.serves(state):
            state.step.begin_epoch()
        else:
            state.step = train_step
    if not state.compile:
        return
    asked, begins = state.compile, not state.history.rows
    if asked is True or not begins:
        state.compile = False
    only_known = asked == "auto" and (begins or not _pays(state))
    reason = refusal(state)
    try:
        if not reason:
            state.step = _timed(CompiledStep, state, only_known)
            state.compile = False
    except CannotCompileError as error:
        reason = str(error)
    if reason and asked is True:
        _warn_plain(reason)


def release_step(state):
    """Let go of a compiled step, which may hold much of a GPU, and the fit in turn."""
    if isinstance(state.step, CompiledStep):
        state.step = train_step


def plan_stack(stack, seconds):
    """Choose the step of a stack, which took so many seconds for its last epoch."""
    asked = stack.members[0].compile
    if not asked or stack.program is not None:
        return
    epochs_left = max(state.epochs_left for state in stack.members)
    pays = seconds < math.inf and _SAVED_OF_STACK * seconds * epochs_left > _cost()
    # A narrower stack, which members have left, is compiled only where that pays.
    later = "auto"
    try:
        _timed(stack.compile, asked == "auto" and not pays)
    except CannotCompileError as error:
        later = "auto" if asked == "auto" and seconds == math.inf else False
        if asked is True:
            _warn_plain(str(error))
    for state in stack.members:
        state.compile = later


def _warn_plain(reason):
    """Tell why a step is not compiled though that was asked for."""
    warnings.warn(
        f"compile=True: this fit runs the plain step, since {reason}. The result is the same. Set "
        "compile=False, or change what stands in the way.",
        UserWarning,
        stacklevel=user_level(),
    )


def _timed(build, *args):
    """Return ``build(*args)``, and remember how long compiling takes in this process."""
    started = time.perf_counter()
    built = build(*args)
    seconds = time.perf_counter() - started
    if seconds > _CACHED_SECONDS:
        _measured.append(seconds)
    return built


def _pays(state):
    """Whether compiling saves a fit more than it costs."""
    usual = state.train.sizes.count(state.train.sizes[0])
    seconds = state.history.last["epoch_time"] / len(state.train)
    saved = min(_SAVED_SHARE * seconds, _SAVED_SECONDS)
    return saved * usual * state.epochs_left > _cost()


def _cost():
    """Return the seconds that compiling takes."""
    return (_measured or [_TYPICAL_SECONDS])[-1]
