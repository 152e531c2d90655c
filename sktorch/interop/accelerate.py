"""Several processes that train one net: devices and hosts are accelerate's business.

Each process holds the same data and draws the same order; of each batch it computes its part.
Gradients are averaged by torch's ``DistributedDataParallel``, and the sums behind losses and
metrics are taken over all processes, so that all end in the same place.
"""

import torch

from sktorch.specs import describe

__all__ = ["Ranks", "join"]

# Callbacks of skorch that write or print; ours say so themselves.
_WRITERS_OF_SKORCH = {
    "Checkpoint",
    "MlflowLogger",
    "NeptuneLogger",
    "PrintLog",
    "ProgressBar",
    "SacredLogger",
    "TensorBoard",
    "TrainEndCheckpoint",
    "WandbLogger",
}


def join(settings):
    """Return the processes that a fit runs in, or None where there is one.

    Parameters
    ----------
    settings : estimator
        Its ``accelerator`` and ``device`` are read.

    Raises
    ------
    ImportError
        If the package accelerate is missing.
    """
    accelerator = settings.accelerator
    if accelerator is None:
        return None
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ImportError(
            "accelerator needs the package accelerate: pip install "
            '"sktorch[distributed]", or set accelerator=None.'
        ) from error
    if isinstance(accelerator, str):
        on_cpu = str(settings.device) == "cpu" or not torch.accelerator.is_available()
        accelerator = Accelerator(cpu=on_cpu)
    elif not isinstance(accelerator, Accelerator):
        raise ValueError(
            f'accelerator must be "auto", an accelerate.Accelerator or None, got '
            f"{describe(accelerator)}."
        )
    return Ranks(accelerator) if accelerator.num_processes > 1 else None


class Ranks:
    """The processes of a fit, as one of them sees them.

    Parameters
    ----------
    accelerator : accelerate.Accelerator

    Attributes
    ----------
    index, count : int
        Number of this process, and how many there are.
    device : torch.device
        That of this process.
    """

    def __init__(self, accelerator):
        self.accelerator = accelerator
        self.index = accelerator.process_index
        self.count = accelerator.num_processes
        self.device = accelerator.device

    def first(self, value):
        """Return what the first process has for ``value``."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def any_of(self, value):
        """Return what one of the processes has for ``value``, the first that has not None."""
        from accelerate.utils import gather_object

        return next((found for found in gather_object([value]) if found is not None), None)

    def sum(self, tensor):
        """Return the sum over all processes."""
        return self.accelerator.reduce(tensor.clone(), "sum")

    def wrap(self, net):
        """Return ``net`` as it is to be called: its gradients are means over the processes."""
        return self.accelerator.prepare_model(net)

    def average(self, parameters):
        """Average the gradients of parameters that are not of the net."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def same_buffers(self, modules):
        """Take over the buffers of the first process, such as the running means of batch norm."""
        from accelerate.utils import broadcast

        for module in modules:
            for buffer in module.buffers():
                buffer.copy_(broadcast(buffer))

    def those_of(self, callbacks):
        """Return the callbacks that run in this process: the first alone writes and shows."""
        if self.index == 0:
            return callbacks
        return [callback for callback in callbacks if not _writes(callback)]


def _writes(callback):
    kind = callback if isinstance(callback, type) else type(callback)
    of_skorch = {base.__name__ for base in kind.__mro__ if base.__module__.startswith("skorch.")}
    return getattr(callback, "writes", False) or bool(of_skorch & _WRITERS_OF_SKORCH)
