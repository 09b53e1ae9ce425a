"""Observed entries or other linear measurements, and their values."""

from rankward.observations.files import from_file
from rankward.observations.heldout import hold_out
from rankward.observations.hierarchical import hierarchical_truth
from rankward.observations.measurement import EntryMask, Measurement, Sensing, entry_mask
from rankward.observations.synthetic import dimensions, random_matrix, random_tensor, sensing, two_by_two

__all__ = [
    "EntryMask",
    "Measurement",
    "Sensing",
    "dimensions",
    "entry_mask",
    "from_file",
    "hierarchical_truth",
    "hold_out",
    "random_matrix",
    "random_tensor",
    "sensing",
    "two_by_two",
]
