"""Where a fit computes."""

import torch

__all__ = ["default_device", "resolve_device"]


def resolve_device(device):
    """Return the device meant by ``device``: "auto" is an accelerator if there is one.

    Raises
    ------
    ValueError
        If this machine or this build of torch does not have the device.
    """
    if device == "auto":
        found = torch.accelerator.is_available()
        return torch.accelerator.current_accelerator() if found else torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
        if resolved.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        usable = ["cpu"]
        if torch.accelerator.is_available():
            usable.append(torch.accelerator.current_accelerator().type)
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise ValueError(
            f'device={device!r} cannot be used here: {reason}. Usable: "auto", {", ".join(usable)}.'
        ) from error
    return resolved


def default_device():
    """Return where torch makes a tensor if nobody says; ``torch.get_default_device`` is slower."""
    return torch.empty(0).device
