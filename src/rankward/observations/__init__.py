"""Observed entries or other linear measurements, and their values."""

from rankward.observations.files import from_array, from_file, from_matrix
from rankward.observations.heldout import hold_out
from rankward.observations.hierarchical import hierarchical_truth
from rankward.observations.ids import Ids
from rankward.observations.images import digits, from_images
from rankward.observations.indexed import IndexedEntries, Measurement
from rankward.observations.measurement import EntryMask, FirstPart, Sensing, Units, entry_mask
from rankward.observations.patterns import blocks, diagonal, pattern
from rankward.observations.ratings import from_ratings
from rankward.observations.synthetic import changing, dimensions, random_matrix, random_tensor, sensing, two_by_two
from rankward.observations.tensors import from_tensorly
from rankward.observations.units import in_units

__all__ = [
    "EntryMask",
    "FirstPart",
    "Ids",
    "IndexedEntries",
    "Measurement",
    "Sensing",
    "Units",
    "blocks",
    "changing",
    "diagonal",
    "digits",
    "dimensions",
    "entry_mask",
    "from_array",
    "from_file",
    "from_images",
    "from_matrix",
    "from_ratings",
    "from_tensorly",
    "hierarchical_truth",
    "hold_out",
    "in_units",
    "pattern",
    "random_matrix",
    "random_tensor",
    "sensing",
    "two_by_two",
]
