"""Pure functions over any leading axes, float64 inside; one matrix gives the same bits alone and in a batch."""

from rankward.linalg import product_matrix, strict_matmul
from rankward.metrics.functional.alignment import gradient_alignment
from rankward.metrics.functional.cp_ranks import CPRank, cp_lower, cp_rank
from rankward.metrics.functional.curvature import sharpness
from rankward.metrics.functional.entries import determinant_sign, masked_rmse, reconstruction_error, unbalancedness
from rankward.metrics.functional.local_components import local_component_norms
from rankward.metrics.functional.matricizations import (
    cp_weights,
    effective_ranks,
    matricization,
    matricization_singular_values,
    mode_groups,
    multilinear_rank,
)
from rankward.metrics.functional.motion import (
    Motion,
    component_motion,
    local_component_motion,
    singular_value_motion,
    speed_bounds,
)
from rankward.metrics.functional.norms import (
    frobenius_norm,
    nuclear_norm,
    parameter_norm,
    schatten_norm,
    spectral_norm,
)
from rankward.metrics.functional.ranks import distance_to_infimal_rank, effective_rank, numerical_rank, stable_rank
from rankward.metrics.functional.singular_values import singular_values

__all__ = [
    "CPRank",
    "Motion",
    "component_motion",
    "cp_lower",
    "cp_rank",
    "cp_weights",
    "determinant_sign",
    "distance_to_infimal_rank",
    "effective_rank",
    "effective_ranks",
    "frobenius_norm",
    "gradient_alignment",
    "local_component_motion",
    "local_component_norms",
    "masked_rmse",
    "matricization",
    "matricization_singular_values",
    "mode_groups",
    "multilinear_rank",
    "nuclear_norm",
    "numerical_rank",
    "parameter_norm",
    "product_matrix",
    "reconstruction_error",
    "schatten_norm",
    "sharpness",
    "singular_value_motion",
    "singular_values",
    "spectral_norm",
    "speed_bounds",
    "stable_rank",
    "strict_matmul",
    "unbalancedness",
]
