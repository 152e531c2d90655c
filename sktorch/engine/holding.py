"""Whether a fit still holds the tensors that a program computes with."""

from operator import is_

__all__ = ["Holding"]


class Holding:
    """What a fit holds now; a callback may replace any of it.

    Parameters
    ----------
    state : FitState
    tensors : list of Tensor
        Those of its net and optimizer that count, as it holds them.
    """

    def __init__(self, state, tensors):
        self.slots = state.optimizer.state
        mappings = [
            mapping
            for module in state.net.modules()
            for mapping in (module._parameters, module._buffers, module._modules)
        ]
        mappings += [self.slots[parameter] for parameter in state.parameters]
        self.mappings = [(mapping, [*mapping.values()]) for mapping in mappings if mapping]
        self.pointers = [(tensor, tensor.data_ptr()) for tensor in tensors]

    def lasts(self, state):
        """Whether ``state`` still holds these tensors, and trains the parameters it did."""
        return (
            state.optimizer.state is self.slots
            and all(p.requires_grad for p in state.parameters)
            and all(
                len(mapping) == len(held) and all(map(is_, mapping.values(), held))
                for mapping, held in self.mappings
            )
            and all(tensor.data_ptr() == pointer for tensor, pointer in self.pointers)
        )
