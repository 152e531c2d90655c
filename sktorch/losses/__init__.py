"""Losses: what is minimised, and what it takes the net's output to mean."""

from sktorch.losses.lookup import find_loss
from sktorch.losses.modules import FocalLoss, SCELoss
from sktorch.losses.registry import LOSSES, Loss, check_parameters

__all__ = ["LOSSES", "FocalLoss", "Loss", "SCELoss", "check_parameters", "find_loss"]
