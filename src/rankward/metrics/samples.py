"""Errors of entries that are samples, such as images, as they are published for tensors of natural data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.entries import HeldOutErrors
from rankward.metrics.functional.entries import masked_mse

NAMES = ("error/heldout_scaled_mse", "error/observed_scaled_mse")


class SampleErrors(HeldOutErrors):
    """`HeldOutErrors`, and mean squared errors of observed and of held-out entries, divided by `scale`.

    The further columns are `error/observed_scaled_mse` and `error/heldout_scaled_mse`, in the units of the data. A
    product of many factors can be far off at a few held-out entries: the squared error of each of these counts as at
    most `clamp`. It is NaN where the product is NaN, and `clamp` where it is infinite.

    Args:
        scale: positive; for two target values the square of their difference.
        clamp: positive, before the division; None: no clamp.

    Raises:
        ValueError: a scale or clamp that is not positive.

    Source: Razin, Maman and Cohen, "Implicit regularization in tensor factorization" (ICML 2021), Section 5.

    Example:
        >>> import torch
        >>> metric, known = SampleErrors(), torch.tensor([[[True, False]]])
        >>> metric.update(torch.tensor([[[2.0, 9.0]]]), torch.tensor([[[0.0, 2.0]]]), known, ~known)
        >>> {name: value.tolist() for name, value in metric.columns().items() if "scaled" in name}
        {'error/heldout_scaled_mse': [1.0], 'error/observed_scaled_mse': [1.0]}
    """

    def __init__(self, scale: float = 4.0, clamp: float | None = 4.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("scale", scale), ("clamp", 1.0 if clamp is None else clamp)):
            if not value > 0:
                raise ValueError(f"{name}: {value} is not allowed; expected a positive number")
        self.scale, self.clamp = scale, clamp

    def update(
        self,
        product: Tensor,
        values: Tensor | None = None,
        observed: Tensor | None = None,
        heldout: Tensor | None = None,
        ground_truth: Tensor | None = None,
        unit: Tensor | None = None,
    ) -> None:
        super().update(product, values, observed, heldout, ground_truth, unit)
        if values is None or observed is None or heldout is None:
            return
        by = 1.0 if unit is None else unit.double().reshape(-1, *[1] * (product.ndim - 1))
        pairs = ((heldout, self.clamp), (observed, None))
        errors = [masked_mse(by * product, by * values, mask, clamp) / self.scale for mask, clamp in pairs]
        self.measured[-1] = torch.cat([self.measured[-1], torch.stack(errors, dim=-1)], dim=-1)

    def names(self, shape: Sequence[int]) -> list[str]:
        return [*super().names([shape[0] - len(NAMES)]), *NAMES]
