"""Optimizers: how a gradient becomes a step; and schedules: how the learning rate changes with the iteration."""

from rankward.optimizers.adam import Adam
from rankward.optimizers.adamw import AdamW
from rankward.optimizers.adaptive import AdaptiveDescent
from rankward.optimizers.base import Optimizer
from rankward.optimizers.cosine import Cosine
from rankward.optimizers.descent import Descent
from rankward.optimizers.momentum import Momentum
from rankward.optimizers.parameters import Parameters
from rankward.optimizers.rmsprop import RMSprop
from rankward.optimizers.schedule import RateSchedule, Scheduled
from rankward.optimizers.sign import SignDescent
from rankward.optimizers.spectral import Spectral

__all__ = [
    "Adam",
    "AdamW",
    "AdaptiveDescent",
    "Cosine",
    "Descent",
    "Momentum",
    "Optimizer",
    "Parameters",
    "RMSprop",
    "RateSchedule",
    "Scheduled",
    "SignDescent",
    "Spectral",
]
