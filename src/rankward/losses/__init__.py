"""Losses: the price of a difference between a prediction and an observed value."""

from rankward.losses.base import Loss
from rankward.losses.huber import Huber
from rankward.losses.l1 import L1
from rankward.losses.logistic import Logistic
from rankward.losses.squared import SQUARED, Squared

__all__ = ["L1", "SQUARED", "Huber", "Logistic", "Loss", "Squared"]
