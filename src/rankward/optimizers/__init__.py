"""Optimizers: how a gradient becomes a step."""

from rankward.optimizers.adam import Adam
from rankward.optimizers.adamw import AdamW
from rankward.optimizers.base import Optimizer
from rankward.optimizers.descent import Descent
from rankward.optimizers.momentum import Momentum
from rankward.optimizers.rmsprop import RMSprop
from rankward.optimizers.sign import SignDescent

__all__ = ["Adam", "AdamW", "Descent", "Momentum", "Optimizer", "RMSprop", "SignDescent"]
