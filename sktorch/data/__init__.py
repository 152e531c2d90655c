"""How X and y become batches."""

from sktorch.data.datasets import DatasetSlice

__all__ = ["DatasetSlice"]
