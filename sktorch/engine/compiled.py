"""Training steps compiled as one graph: forward, backward, clipping and update.

A graph belongs to a structure, not to a fit. Learning rates, decays and arguments of the loss are
tensors in it, so that all folds and candidates of a search run the same one.
"""

import threading
import warnings
from collections import OrderedDict

import torch

from sktorch.engine.functional import FunctionalStep
from sktorch.engine.graph import CannotCompileError, compile_step
from sktorch.engine.holding import Holding
from sktorch.engine.numbers import LiveNumbers
from sktorch.engine.recording import bind
from sktorch.engine.step import train_step
from sktorch.engine.structure import structure

__all__ = ["CompiledStep", "program_of", "tensors_of", "usual_batch"]

_MOST_PROGRAMS = 64


class CompiledStep:
    """``train_step`` for batches of the usual size; others, such as a short last one, go to that.

    Parameters
    ----------
    state : FitState
        Parameters, buffers and the optimizer's state are changed in place, so that plain steps
        may come between.
    only_known : bool, default=False
        Whether to use what has been compiled before, and compile nothing.

    Raises
    ------
    CannotCompileError
    """

    def __init__(self, state, only_known=False):
        batch = usual_batch(state)
        self.shape = batch.x.shape
        # Some losses of torch take floats only; their numbers are constants of the program.
        for tensor_numbers in (True, False):
            step = FunctionalStep(state, tensor_numbers=tensor_numbers)
            self.numbers = LiveNumbers(step, [state])
            held = step.held_by(state).flat()
            tensors = [tensor.detach() for tensor in held]
            try:
                program = program_of(step, state, tensors, self.numbers.now, batch, only_known)
                break
            except CannotCompileError:
                if not step.loss_names:
                    raise
        self.step = bind(program, [*tensors, *self.numbers.now])
        # Torch's schedulers warn where they are stepped before the optimizer was.
        state.optimizer._opt_called = True
        self.holding = Holding(state, held)

    def serves(self, state):
        """Whether it still computes with what the fit holds; a callback may have changed that."""
        return self.holding.lasts(state)

    @staticmethod
    def _is_watched(state):
        """Whether what is done between steps may change the numbers of the next."""
        hooks = state.hooks
        return state.after_update or hooks["on_batch_begin"] or hooks["on_batch_end"]

    def begin_epoch(self):
        """Take over what schedules and callbacks have changed since the last epoch."""
        self.numbers.refresh()

    def __call__(self, state, batches):
        """Update the net once; see ``train_step``."""
        batch = batches[0]
        if len(batches) > 1 or batch.x.shape != self.shape:
            return train_step(state, batches)
        if self._is_watched(state):
            self.numbers.refresh()
        with state.randomness:
            loss, y_pred = self.step(tensors_of(batch))
        for after in state.after_update:
            after()
        return [(loss, y_pred)]


def usual_batch(state):
    """Return rows of a fit as a batch of the usual size."""
    return state.train.head(state.train.sizes[0])


def tensors_of(batch):
    """Return the parts of a batch that differ from batch to batch, as a program takes them."""
    return [part.contiguous() for part in batch if isinstance(part, torch.Tensor)]


# Programs ---------------------------------------------------------------------------------------

_programs = OrderedDict()
_compiling = threading.RLock()


def program_of(step, state, tensors, numbers, batch, only_known=False):
    """Return ``step`` compiled for inputs of these shapes.

    Parameters
    ----------
    step : FunctionalStep
    state : FitState
        The fit, or one of a stack.
    tensors : list of Tensor
    numbers : Numbers
    batch : Batch
        What ``step`` is called with.
    only_known : bool, default=False
        Whether to compile nothing.

    Returns
    -------
    program : Program
        Its inputs are tensors, numbers and the tensors of a batch.

    Raises
    ------
    CannotCompileError
    """
    inputs = [*tensors, *numbers, *tensors_of(batch)]
    key = _key(step, state, inputs)
    with _compiling:
        if key not in _programs:
            if only_known:
                raise CannotCompileError("it has not been compiled before")
            _programs[key] = _try_program(step, state, inputs, batch)
        _programs.move_to_end(key)
        while len(_programs) > _MOST_PROGRAMS:
            _programs.popitem(last=False)
        program = _programs[key]
    if isinstance(program, str):
        raise CannotCompileError(program)
    return program


def _key(step, state, inputs):
    """Return what is equal for steps that one program serves."""
    constants = () if step.loss_names else tuple(state.objective.numbers.items())
    return (
        structure(state.net),
        structure(state.objective.key),
        step.update.kind,
        (step.uses, step.is_stacked, *step.names),
        (constants, type(state.precision), state.device, torch.get_num_threads()),
        tuple((tuple(t.shape), t.stride(), t.dtype) for t in inputs),
    )


def _try_program(step, state, inputs, batch):
    """Compile; return the program, or the reason why there is none."""
    try:
        for module in (step.net, *state.modules[1:]):
            module.train()
        with warnings.catch_warnings():
            # Torch warns of what it uses itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            return compile_step(step, inputs, batch)
    except CannotCompileError as error:
        return str(error)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {reason}"
