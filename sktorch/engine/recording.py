"""A compiled step with the tensors of one fit; on a GPU, replayed as a CUDA graph."""

import functools
import warnings

import torch

from sktorch.engine.randomness import LENDING
from sktorch.specs import user_level

__all__ = ["bind"]


def bind(program, fixed):
    """Return a function of what moves from step to step.

    Parameters
    ----------
    program : Program
    fixed : list of Tensor
        Its first inputs, which are the same tensors in each step, their values changing: those of
        a net and its optimizer, and the numbers.

    Returns
    -------
    step : callable
        Takes a list of tensors, those of a batch; returns loss and prediction, new tensors each
        time.
    """
    if program.recordable:
        return Recorded(program, fixed)
    return lambda moving: program.compute([*fixed, *moving, *program.draw()])


class Recorded:
    """A program whose kernels are launched all at once.

    A recording reads and writes where it did when it was made. What moves is copied to one place
    before each replay, random numbers among it, and results are copied from theirs.

    Parameters
    ----------
    program, fixed
        See ``bind``.
    """

    def __init__(self, program, fixed):
        self.program = program
        self.fixed = fixed
        self.places = None
        self.replay = None

    def __call__(self, moving):
        """Take one step."""
        moving = [*moving, *self.program.draw()]
        if self.places is None:
            # Kernels are loaded and tuned in their first run, which no recording may hold.
            self.places = [torch.empty_like(tensor) for tensor in moving]
            return self.program.compute([*self.fixed, *moving])
        torch._foreach_copy_(self.places, moving)
        if self.replay is None:
            self.replay = self._record()
        loss, y_pred = self.replay()
        return loss.clone(), y_pred.clone()

    def _record(self):
        """Return what replays the step; nothing is computed here."""

        def compute():
            return self.program.compute([*self.fixed, *self.places])

        try:
            return record(compute, self.fixed[0].device)
        except RuntimeError as error:
            # Ending the capture fails too, and says less.
            cause = error.__context__ or error
            reason = (str(cause).strip().splitlines() or [""])[0]
            warnings.warn(
                f"compile: the step could not be recorded as a CUDA graph ({reason}), and its "
                "kernels are launched one by one. The result is the same. Take out of the forward "
                "and the loss what waits for the GPU, or set compile=False.",
                UserWarning,
                stacklevel=user_level(),
            )
            return compute


def record(function, device):
    """Return a function that replays what ``function`` launches, and returns its tensors."""
    graph = torch.cuda.CUDAGraph()
    # One at a time; and meanwhile torch's generator draws for the recording alone.
    with LENDING, torch.cuda.device(device), torch.cuda.stream(_stream(device)):
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        # Other threads go on with what a capture may not do.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            outputs = function()
        finally:
            graph.capture_end()

    def replay():
        graph.replay()
        return outputs

    return replay


@functools.cache
def _stream(device):
    """Return the stream of a device to record on: torch keeps memory for each that multiplies."""
    return torch.cuda.Stream(device)
