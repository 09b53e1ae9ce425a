"""Pure functions over any leading axes, float64 inside; one matrix gives the same bits alone and in a batch."""

from rankward.metrics.functional.entries import (
    determinant_sign,
    product_entries,
    reconstruction_error,
    unbalancedness,
)
from rankward.metrics.functional.norms import (
    frobenius_norm,
    nuclear_norm,
    schatten_norm,
    schatten_norm_from_singular_values,
    spectral_norm,
)
from rankward.metrics.functional.ranks import (
    distance_to_infimal_rank,
    distance_to_infimal_rank_from_singular_values,
    effective_rank,
    effective_rank_from_singular_values,
    numerical_rank,
    numerical_rank_from_singular_values,
    stable_rank,
    stable_rank_from_singular_values,
)
from rankward.metrics.functional.singular_values import product_matrix, singular_values, strict_matmul

__all__ = [
    "determinant_sign",
    "distance_to_infimal_rank",
    "distance_to_infimal_rank_from_singular_values",
    "effective_rank",
    "effective_rank_from_singular_values",
    "frobenius_norm",
    "nuclear_norm",
    "numerical_rank",
    "numerical_rank_from_singular_values",
    "product_entries",
    "product_matrix",
    "reconstruction_error",
    "schatten_norm",
    "schatten_norm_from_singular_values",
    "singular_values",
    "spectral_norm",
    "stable_rank",
    "stable_rank_from_singular_values",
    "strict_matmul",
    "unbalancedness",
]
