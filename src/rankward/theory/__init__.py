"""Bounds that the theorems imply, as pure functions, and certificates that check runs against them."""

from rankward.theory.bounds import (
    dimensions_bound,
    distance_bound,
    effective_rank_bound,
    norm_bound,
    quasi_norm_constant,
    robustness_bound,
)
from rankward.theory.certificates import Bound, Certificate, RunContext
from rankward.theory.completion_rank import least_rank, pieces
from rankward.theory.escape import EscapeLaw, escape_law, escape_time
from rankward.theory.exact_end import ExactEnd
from rankward.theory.motion import LawOfMotion, SpeedBounds
from rankward.theory.shrinkage import Shrinkage, fixed_point
from rankward.theory.solution_set import infimal_rank
from rankward.theory.stages import Staged, Stages, stages, stages_of
from rankward.theory.statements import Conservation, Corollary1, LeastParameters, Proposition4, Theorem1, Theorem2

__all__ = [
    "Bound",
    "Certificate",
    "Conservation",
    "Corollary1",
    "EscapeLaw",
    "ExactEnd",
    "LawOfMotion",
    "LeastParameters",
    "Proposition4",
    "RunContext",
    "Shrinkage",
    "SpeedBounds",
    "Staged",
    "Stages",
    "Theorem1",
    "Theorem2",
    "dimensions_bound",
    "distance_bound",
    "effective_rank_bound",
    "escape_law",
    "escape_time",
    "fixed_point",
    "infimal_rank",
    "least_rank",
    "norm_bound",
    "pieces",
    "quasi_norm_constant",
    "robustness_bound",
    "stages",
    "stages_of",
]
