"""Which training step a fit takes."""

import time
import warnings

from sktorch.engine.compiled import CannotCompileError, CompiledStep, is_known
from sktorch.engine.eligibility import refusal
from sktorch.specs import user_level

__all__ = ["plan_step"]

# What compiling saves of a step: the larger part of what a small net spends between its kernels,
# and little of the arithmetic of a large one.
_SAVED_SHARE = 0.6
_SAVED_SECONDS = 120e-6

# What compiling costs where this process has not measured it yet.
_TYPICAL_SECONDS = 10.0
_measured = []


def plan_step(state):
    """Choose the step for the epochs to come; "auto" chooses once it has timed an epoch."""
    if state.compile == "auto":
        if not state.history.rows:
            return
        if not pays(state):
            state.compile = False
            return
    if state.compile:
        asked, state.compile = state.compile, False
        reason = refusal(state) or _compile(state)
        if reason and asked is True:
            warnings.warn(
                f"compile=True: this fit runs the plain step, since {reason}. The result is the "
                "same. Set compile=False, or change what stands in the way.",
                UserWarning,
                stacklevel=user_level(),
            )


def pays(state):
    """Tell whether the rest of a fit saves more seconds than compiling costs."""
    batch = state.train.head(state.train.sizes[0])
    cost = 0.0 if is_known(state, batch) else (_measured or [_TYPICAL_SECONDS])[-1]
    steps = sum(size == state.train.sizes[0] for size in state.train.sizes)
    seconds = state.history.last["epoch_time"] / len(state.train)
    saved = min(_SAVED_SHARE * seconds, _SAVED_SECONDS)
    return saved * steps * (state.max_epochs - 1) > cost


def _compile(state):
    """Compile the step; return why it cannot be, or ""."""
    started = time.perf_counter()
    try:
        state.step = CompiledStep(state)
    except CannotCompileError as error:
        return str(error)
    seconds = time.perf_counter() - started
    if seconds > 1.0:
        _measured.append(seconds)
    return ""
