"""How much memory there is, how much a fit takes, and what becomes of it between steps."""

import functools
import os

import torch

from sktorch.data.batches import Resident
from sktorch.fields import leaves

__all__ = ["available_bytes", "bytes_of", "keep_freed_memory"]

# The largest block that the GNU C library learns from; it keeps twice as much.
_LARGE_BYTES = 31 * 2**20


def available_bytes(device):
    """Return how many bytes could be allocated on ``device``, or None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def bytes_of(state):
    """Return about how many bytes a fit holds as a member of a stack.

    Its data, and its parameters as often as they are held: as they are, gradients, two slots of the
    optimizer, the best so far and as the fit began.
    """
    held = sum(tensor.nbytes for module in state.modules for tensor in module.parameters())
    parts = [part for part in (state.train, state.valid) if isinstance(part, Resident)]
    tensors = [t for part in parts for t in (part.y, part.weight) if t is not None]
    tensors += [t for part in parts for _, t in leaves(part.x)]
    data = sum(tensor.nbytes for tensor in tensors)
    return 6 * held + data


@functools.cache
def keep_freed_memory():
    """Let the process keep what a step has freed for the next step.

    The GNU C library hands large blocks back to the system, and each step has the system clear
    them anew, which costs as much as its arithmetic. It learns from the first such block that is
    freed that there will be more; this one is never touched. Other libraries are left as they are.
    """
    torch.empty(_LARGE_BYTES, dtype=torch.uint8)
