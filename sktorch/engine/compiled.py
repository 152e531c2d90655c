"""Training steps compiled as one graph: forward, backward, clipping and update.

A graph belongs to a structure, not to a fit. Learning rates, decays and arguments of the loss are
tensors in it, so that all folds and candidates of a search run the same one.
"""

import random
import threading
from collections import OrderedDict

import numpy as np
import torch
from torch.func import functionalize

from sktorch.engine.functional import FunctionalStep, Numbers
from sktorch.engine.step import train_step
from sktorch.engine.structure import structure

__all__ = ["CannotCompileError", "CompiledStep", "is_known", "program_of"]

_MOST_PROGRAMS = 64


class CannotCompileError(Exception):
    """Says why a step cannot be compiled; never leaves the engine."""


class CompiledStep:
    """``train_step`` for batches of the usual size; others, such as a short last one, go to that.

    Parameters
    ----------
    state : FitState
        Parameters, buffers and the optimizer's state are changed in place, so that plain steps
        may come between.

    Raises
    ------
    CannotCompileError
    """

    def __init__(self, state):
        batch = state.train.head(state.train.sizes[0])
        self.shape = batch.x.shape
        step, self.program = program_of(state, batch)
        self.numbers = Numbers(step, [state])
        self.tensors = [*step.tensors(state), self.numbers.table, self.numbers.loss]
        # Torch's schedulers warn where they are stepped before the optimizer was.
        state.optimizer._opt_called = True

    def __call__(self, state, batches):
        """Update the net once; see ``train_step``."""
        batch = batches[0]
        if len(batches) > 1 or batch.x.shape != self.shape:
            return train_step(state, batches)
        self.numbers.refresh()
        with state.randomness:
            loss, y_pred = self.program([*self.tensors, *tensors_of(batch)])
        for after in state.after_update:
            after()
        return [(loss, y_pred)]


def tensors_of(batch):
    """Return the parts of a batch that differ from batch to batch."""
    return [part for part in batch if isinstance(part, torch.Tensor)]


# Programs ---------------------------------------------------------------------------------------

_programs = OrderedDict()
_compiling = threading.RLock()


def program_of(state, batch):
    """Return the step of ``state`` as a ``FunctionalStep``, and compiled.

    Parameters
    ----------
    state : FitState
    batch : Batch
        Of the size that the program is for.

    Returns
    -------
    step : FunctionalStep
    program : callable
        Takes a list of tensors, which it empties: those of ``step``, its numbers, and those of a
        batch. It changes the first in place and returns the loss and the prediction.

    Raises
    ------
    CannotCompileError
    """
    with _compiling:
        # Some losses of torch take floats only; their numbers are constants of the program.
        for as_tensors in (True, False):
            step = FunctionalStep(state, tensor_numbers=as_tensors)
            key = program_key(step, state, batch)
            if key not in _programs:
                _programs[key] = _try_program(step, state, batch)
            _programs.move_to_end(key)
            while len(_programs) > _MOST_PROGRAMS:
                _programs.popitem(last=False)
            program = _programs[key]
            if not isinstance(program, CannotCompileError):
                return step, program
            if not state.objective.numbers:
                break
    raise program


def is_known(state, batch):
    """Whether the step of ``state`` has been compiled already, or found to be uncompilable."""
    return program_key(FunctionalStep(state), state, batch) in _programs


def program_key(step, state, batch):
    """Return what is equal for fits that one program serves."""
    parts = tuple((tuple(part.shape), part.dtype) for part in tensors_of(batch))
    numbers = () if step.numbers else tuple(state.objective.numbers.items())
    precision = (type(state.precision), getattr(state.precision, "dtype", None))
    return (
        structure(state.net),
        structure(state.objective.key),
        step.update.kind,
        (step.penalised, step.clips, step.stacked, *step.names),
        (numbers, precision, parts, state.device, torch.get_num_threads()),
    )


def _try_program(step, state, batch):
    """Compile; return the program, or the error that says why there is none."""
    try:
        return _new_program(step, state, batch)
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        refused = CannotCompileError(f"{type(error).__name__}: {reason[0]}")
        return refused


def _new_program(step, state, batch):
    for module in state.modules:
        module.train()
    numbers = Numbers(step, [state])
    inputs = [*step.tensors(state), numbers.table, numbers.loss, *tensors_of(batch)]
    before = structure(state.net), random.getstate(), np.random.get_state()[1:3]
    graph = trace(step, inputs, batch)
    if structure(state.net) != before[0]:
        raise ValueError(f"the forward of {type(state.net).__name__} changes its attributes")
    drawn = (random.getstate(), np.random.get_state()[1:3])
    if not all(map(np.array_equal, (before[1][1], *before[2]), (drawn[0][1], *drawn[1]))):
        raise ValueError(f"the forward of {type(state.net).__name__} draws numbers outside torch")
    return compile_graph(graph, inputs)


def trace(step, inputs, batch):
    """Return the operations of ``step`` as a graph over ``inputs``.

    Traced on tensors without values, so that a forward that asks for one fails here instead of
    being fixed to what it saw.
    """
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    places = [i for i, part in enumerate(batch) if isinstance(part, torch.Tensor)]
    n_data = len(places)

    def function(*flat):
        *tensors, table, loss_numbers = flat[:-n_data]
        data = list(batch)
        for place, tensor in zip(places, flat[-n_data:], strict=True):
            data[place] = tensor
        return step(tensors, table, loss_numbers, *data)

    return make_fx(
        functionalize(function, remove="mutations"),
        decomposition_table=select_decomp_table(),
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )(*inputs)


def compile_graph(graph, inputs):
    """Return a function of a list of tensors, compiled by torch's inductor.

    Its entry is called without the wrappers of ``torch.compile``, whose guards cost as much at
    each call as the step of a small net.
    """
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._subclasses import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = [mode.from_tensor(tensor) for tensor in inputs]
    options = {
        # The random numbers are those of a plain step.
        "fallback_random": True,
        # What is passed has the shapes that were traced.
        "size_asserts": False,
        "triton.cudagraphs": inputs[0].device.type == "cuda",
    }
    with config.patch(options), tracing(TracingContext(mode)):
        return compile_fx_inner(graph, fakes)
