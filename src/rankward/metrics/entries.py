"""Singular values, entries, determinant, balancedness and reconstruction as torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import SpectralMetric, TraceMetric, arrays, positive
from rankward.metrics.functional import conserved, entries


class SingularValues(SpectralMetric):
    """The `largest` singular values, columns `singular_value/0`, `singular_value/1`, ... in descending order."""

    def __init__(self, largest: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def measure(self, singular_values: Tensor) -> Tensor:
        return singular_values[..., : self.largest]

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"singular_value/{r}" for r in range(shape[0])]


class ChainSingularValues(SingularValues):
    """`SingularValues` of a product of matrices W_L ... W_1, left out with a note for other factors."""

    kind = "chain"


class ProductEntries(TraceMetric):
    """Entries of the product, columns `entry/<row>_<column>` from 0: all, or the top left block of at most `largest`.

    Example:
        >>> import torch
        >>> metric = ProductEntries()
        >>> metric.update(torch.tensor([[[1.0, 2.0]]]))
        >>> {name: value.tolist() for name, value in metric.columns().items()}
        {'entry/0_0': [1.0], 'entry/0_1': [2.0]}
    """

    kind = "matrix"

    def __init__(self, largest: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, product: Tensor) -> None:
        product = arrays(product, 2)
        rows, cols = product.shape[-2:]
        if rows * cols > self.largest:
            side = max(1, int(self.largest**0.5))
            rows, cols = min(rows, max(side, self.largest // cols)), min(cols, max(side, self.largest // rows))
        self.measured.append(product[..., :rows, :cols].double())

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"entry/{i}_{j}" for i in range(shape[0]) for j in range(shape[1])]


class DeterminantSign(TraceMetric):
    """1, 0 or -1, column `determinant/sign`; no column where the product is not square. See `product_sign`.

    `chain` are the factors of a product W_L ... W_1; without them the sign is read off the product. `spectral` are U,
    ln sigma and V of the product: the sign is that of U and V, and `determinant/log_abs` is ln |det|.
    """

    kind = "matrix"

    def update(
        self, product: Tensor, chain: Sequence[Tensor] | None = None, spectral: Sequence[Tensor] | None = None
    ) -> None:
        product = arrays(product, 2)
        if product.shape[-2] != product.shape[-1]:
            return
        if spectral is None:
            self.measured.append(entries.product_sign(product, chain))
        else:
            self.measured.append(torch.stack(entries.log_determinant(spectral), dim=-1))

    def names(self, shape: Sequence[int]) -> list[str]:
        return ["determinant/sign", "determinant/log_abs"] if shape else ["determinant/sign"]


class DeterminantResolution(TraceMetric):
    """Relative distance of the determinant from zero, column `determinant/resolution`. See the function of that name.

    Where it is below the square root of the layers' imbalance, the sign is no longer the theory's. No column where the
    product is not square, or larger than `largest`.
    """

    column = "determinant/resolution"
    kind = "matrix"

    def __init__(self, largest: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, product: Tensor, chain: Sequence[Tensor] | None = None) -> None:
        product = arrays(product, 2)
        if product.shape[-2] == product.shape[-1] <= self.largest:
            self.measured.append(entries.determinant_resolution(product, chain))


class Unbalancedness(TraceMetric):
    """How far the factors are from Equation 5, column `balance/unbalancedness`.

    `update` takes the factors W_1, ..., W_L, layer l [runs, ..., d_l, d_(l-1)].
    """

    column = "balance/unbalancedness"
    kind = "chain"

    def update(self, factors: Sequence[Tensor]) -> None:
        self.measured.append(entries.unbalancedness(factors))


class ConservedDrift(TraceMetric):
    """Drift of the quantities that gradient flow conserves, column `balance/drift`. See `matrix_drift`."""

    column = "balance/drift"
    kind = "chain"

    def update(self, factors: Sequence[Tensor], initial: Sequence[Tensor] | None = None) -> None:
        if initial is not None:
            self.measured.append(conserved.matrix_drift(factors, initial))


class HeldOutErrors(TraceMetric):
    """Root-mean-square errors of observed and of held-out entries, in the units of the data.

    The columns are `error/heldout_rmse`, `error/observed_rmse` and, with a ground truth, `error/unobserved_rmse`: the
    error of the entries that are neither observed nor held out, which are compared with the ground truth. A column is
    NaN where there are no such entries. There are no columns without held-out entries. A run with held-out entries has
    this metric, whatever its config lists.

    `update` takes [runs, *dims] each: the products, the values of observed and held-out entries (others are ignored),
    and masks of both. Entries that the ground truth lacks (NaN) are ignored. `unit`, [runs], is the data's own unit in
    that of the products; None: the same.

    Example:
        >>> import torch
        >>> metric, known = HeldOutErrors(), torch.tensor([[[True, False]]])
        >>> metric.update(torch.zeros(1, 1, 2), torch.tensor([[[3.0, 4.0]]]), known, ~known)
        >>> {name: value.tolist() for name, value in metric.columns().items()}
        {'error/heldout_rmse': [4.0], 'error/observed_rmse': [3.0]}
    """

    def update(
        self,
        product: Tensor,
        values: Tensor | None = None,
        observed: Tensor | None = None,
        heldout: Tensor | None = None,
        ground_truth: Tensor | None = None,
        unit: Tensor | None = None,
    ) -> None:
        if values is None or observed is None or heldout is None:
            return
        errors = [entries.masked_rmse(product, values, mask) for mask in (heldout, observed)]
        if ground_truth is not None:
            unobserved = ~(observed | heldout | ground_truth.isnan())
            errors.append(entries.masked_rmse(product, ground_truth, unobserved))
        stacked = torch.stack(errors, dim=-1)
        self.measured.append(stacked if unit is None else stacked * unit[:, None])

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"error/{kind}_rmse" for kind in ("heldout", "observed", "unobserved")[: shape[0]]]


class ReconstructionError(TraceMetric):
    """Absolute Frobenius distance from the ground truth, column `error/reconstruction`; no column where there is none.

    `update` takes matrices or tensors, [runs, *dims] both. Entries that the ground truth lacks (NaN) are ignored.
    `unit` and `truth_size`, [runs], are the data's own unit in that of the products and the norm of the ground truth in
    it; None: the units are the same.

    Args:
        relative: divide by the ground truth's norm, in column `error/reconstruction_relative`; NaN for a zero truth.

    Example:
        >>> import torch
        >>> metric = ReconstructionError(relative=True)
        >>> metric.update(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
        >>> {name: value.tolist() for name, value in metric.columns().items()}
        {'error/reconstruction_relative': [1.0]}
    """

    def __init__(self, relative: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.relative = relative

    def update(
        self,
        product: Tensor,
        ground_truth: Tensor | None = None,
        unit: Tensor | None = None,
        truth_size: Tensor | None = None,
    ) -> None:
        if ground_truth is None:
            return
        flat, truth = product.flatten(1)[:, None], ground_truth.flatten(1)[:, None]
        if unit is None:
            error = entries.reconstruction_error(flat, truth, self.relative)
        else:
            error = entries.reconstruction_error(flat, truth) * unit
            if self.relative and truth_size is not None:
                error = torch.where(truth_size > 0, error / truth_size, torch.nan)
        self.measured.append(error)

    def names(self, shape: Sequence[int]) -> list[str]:
        return ["error/reconstruction_relative" if self.relative else "error/reconstruction"]
