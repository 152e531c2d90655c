"""The errors that have a class of their own."""

__all__ = ["DamagedModelError", "DeviceMemoryError", "FitDivergedError"]


class FitDivergedError(ValueError):
    """The loss or the weights stopped being finite during a fit.

    A ``ValueError``, so that scikit-learn's searches turn it into
    ``error_score`` like any other fit that cannot be completed.
    """


class DamagedModelError(ValueError):
    """A stored model does not hold the numbers it was stored with."""


class DeviceMemoryError(MemoryError):
    """The memory of a device does not suffice; the message says what would fit."""
