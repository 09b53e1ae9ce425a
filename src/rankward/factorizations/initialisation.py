"""Initialisations of the factors of a matrix factorization (Proposition 3, Equation 5, Proposition 4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np
import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.seeding import generator

ATTEMPTS = 1000  # a fair sign fails so often with probability 2^-1000


class Initialisation(ABC):
    """Initial factors, redrawn until the product's determinant has the required sign.

    Args:
        scale: see each scheme; positive.
        determinant: `any`, `positive` or `negative`.

    Raises:
        ConfigError: a sign asked of a product that has no determinant, or whose determinant is always zero, or that
            the scheme cannot give.
    """

    def __init__(self, scale: float, determinant: str = "any") -> None:
        self.scale = scale
        self.determinant = determinant

    @abstractmethod
    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        """One draw, or many; factor l is [*draws, d_l, d_(l-1)]."""

    def draw(self, sizes: Sequence[int], seed: int) -> list[Tensor]:
        """Initial factors, W_1 first, float64, for sizes d_0, d_1, ..., d_L; they depend on the seed alone."""
        if self.determinant != "any":
            self._check_sign(sizes)
        random = generator(seed, "initial factors")
        for _ in range(ATTEMPTS):
            factors = self.factors(sizes, random)
            if self.determinant == "any" or signs(factors) == (1 if self.determinant == "positive" else -1):
                return [torch.from_numpy(np.array(factor, dtype=np.float64)) for factor in factors]
        raise ConfigError("init.determinant", self.determinant, f"another sign: {ATTEMPTS} draws gave none like it")

    def each(self, shapes: Sequence[tuple[int, ...]], seed: int) -> list[Tensor]:
        """Initial factors of any shapes, float64, drawn independently; they depend on the seed alone.

        `scale` is then that of each factor, not of the product: see `alone` of each scheme.

        Raises:
            ConfigError: a sign of the determinant, or a scheme that has no meaning for a single factor of that shape.

        Example:
            >>> Gaussian(scale=0.1).each([(3,), (2, 2, 2)], seed=0)[1].shape
            torch.Size([2, 2, 2])
        """
        if self.determinant != "any":
            raise ConfigError(
                "init.determinant", self.determinant, "any: only factorization=matrix is drawn again for a sign"
            )
        random = generator(seed, "initial factors")
        return [torch.from_numpy(np.array(self.alone(shape, random), dtype=np.float64)) for shape in shapes]

    def alone(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        """One factor that does not depend on the others."""
        more = ", around_one, identity or orthogonal" if len(shape) == 2 else " or around_one"
        allowed = f"gaussian, constant{more}"
        raise ConfigError("init", type(self).__name__.lower(), f"{allowed}, to start each factor by itself")

    def _check_sign(self, sizes: Sequence[int]) -> None:
        rows, cols = sizes[-1], sizes[0]
        if rows != cols:
            raise ConfigError("init.determinant", self.determinant, f"any: a {rows}x{cols} product has no determinant")
        if min(sizes) < rows:
            raise ConfigError(
                "init.determinant",
                self.determinant,
                f"any: hidden size {min(sizes)} < {rows} makes the determinant zero",
            )


class Gaussian(Initialisation):
    """Layer-wise independent normal entries; `scale` is the standard deviation of the product's entries.

    Each layer gets (scale / prod_{l<L} sqrt(d_l))^(1/L): an entry of the product sums prod d_l products. Factors that
    are not of a chain have entries of standard deviation `scale` themselves.

    Example:
        >>> W_1, W_2 = Gaussian(scale=0.1).draw((2, 2, 2), seed=0)
        >>> W_1.shape
        torch.Size([2, 2])
    """

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        layers = len(sizes) - 1
        each = (self.scale / prod(size**0.5 for size in sizes[1:-1])) ** (1 / layers)
        return [each * random.standard_normal((*draws, sizes[i + 1], sizes[i])) for i in range(layers)]

    def alone(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        return self.scale * random.standard_normal(shape)


class Around(Initialisation):
    """Independent normal entries of mean `mean` and standard deviation `scale` in each factor.

    Around 1, the entries of a tensor of any order start near the number of its components: with a mean of zero they
    start at products of as many small numbers as the tensor has axes. A chain of matrices has no such start.

    Source: Razin, Maman and Cohen, "Implicit regularization in tensor factorization" (ICML 2021), Section 5.

    Example:
        >>> factor = Around(scale=1e-3, mean=1.0).each([(2, 3)], seed=0)[0]
        >>> bool(((factor - 1).abs() < 1e-2).all())
        True
    """

    def __init__(self, scale: float, mean: float, determinant: str = "any") -> None:
        super().__init__(scale, determinant)
        self.mean = mean

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        allowed = "another one for a chain of matrices: this one starts each factor by itself (factorization=tensor)"
        raise ConfigError("init", "around_one", allowed)

    def alone(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        return self.mean + self.scale * random.standard_normal(shape)


class Constant(Initialisation):
    """All entries of a factor are equal: of the product of a chain they are `scale`, else those of each factor.

    A chain's product starts with rank one.

    Example:
        >>> Constant(scale=0.1).each([(2,)], seed=0)[0].tolist()
        [0.1, 0.1]
    """

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        layers = len(sizes) - 1
        each = (self.scale / prod(sizes[1:-1])) ** (1 / layers)
        return [np.full((*draws, sizes[i + 1], sizes[i]), each) for i in range(layers)]

    def alone(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.scale)


class Balanced(Initialisation):
    """A normal product with entries of standard deviation `scale`, split by its SVD so that Equation 5 holds.

    Raises:
        ConfigError: a hidden size too small to hold the product.
    """

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        layers = len(sizes) - 1
        rank = min(sizes[0], sizes[-1])
        if min(sizes) < rank:
            raise ConfigError("init", "balanced", f"hidden sizes of at least {rank}, which hold a product of full rank")
        left, values, right = np.linalg.svd(
            self.scale * random.standard_normal((*draws, sizes[-1], sizes[0])), full_matrices=False
        )
        root = values[..., None] ** (1 / layers) * np.eye(rank)
        if layers == 1:
            return [left @ root @ right]
        factors = [np.zeros((*draws, sizes[i + 1], sizes[i])) for i in range(layers)]
        for factor in factors:
            factor[..., :rank, :rank] = root
        factors[0][..., :rank, :] = root @ right
        factors[-1][..., :rank] = left @ root
        return factors


class Between(Initialisation):
    """A balanced start to which `unbalance` times a layer-wise independent normal one is added, layer by layer.

    `scale` is the standard deviation of the entries of the balanced part's product; those of the sum are larger (1.9,
    2.6 and 3.6 times at depths 2, 3 and 4 and an unbalance of 1).
    """

    def __init__(self, scale: float, unbalance: float, determinant: str = "any") -> None:
        super().__init__(scale, determinant)
        self.unbalance = unbalance

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        balanced = Balanced(self.scale).factors(sizes, random, draws)
        other = Gaussian(self.scale).factors(sizes, random, draws)
        return [factor + self.unbalance * more for factor, more in zip(balanced, other, strict=True)]


class Identity(Initialisation):
    """The product is `scale` times the identity, each factor its L-th root (Proposition 4 for depth 2)."""

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        layers = len(sizes) - 1
        each = [self.scale ** (1 / layers) * np.eye(sizes[i + 1], sizes[i]) for i in range(layers)]
        return [np.broadcast_to(factor, (*draws, *factor.shape)) for factor in each]

    def alone(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        return self.scale * np.eye(*shape) if len(shape) == 2 else super().alone(shape, random)


class Orthogonal(Initialisation):
    """Each factor is scale^(1/L) times a uniformly random (semi-)orthogonal matrix.

    All singular values of the product are `scale` where the factors are square. Hidden layers wider than both ends make
    them smaller and different from each other.
    """

    def factors(
        self, sizes: Sequence[int], random: np.random.Generator, draws: tuple[int, ...] = ()
    ) -> list[np.ndarray]:
        each = self.scale ** (1 / (len(sizes) - 1))
        return [each * _semi_orthogonal((*draws, sizes[i + 1], sizes[i]), random) for i in range(len(sizes) - 1)]

    def alone(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        return self.scale * _semi_orthogonal(shape, random) if len(shape) == 2 else super().alone(shape, random)


def signs(factors: Sequence[np.ndarray]) -> np.ndarray:
    """Sign of the product's determinant, of the factors one by one where all are square: no rounding in between.

    Args:
        factors: W_1, ..., W_L, layer l [..., d_l, d_(l-1)].
    """
    if all(factor.shape[-2] == factor.shape[-1] for factor in factors):
        return np.asarray(prod(np.linalg.slogdet(factor)[0] for factor in factors))
    return np.asarray(np.linalg.slogdet(reduce(np.matmul, reversed(factors)))[0])


def _semi_orthogonal(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    *draws, rows, cols = shape
    orthogonal, triangular = np.linalg.qr(random.standard_normal((*draws, max(rows, cols), min(rows, cols))))
    # Uniform: without the signs QR prefers some directions.
    orthogonal = orthogonal * np.sign(np.diagonal(triangular, axis1=-2, axis2=-1))[..., None, :]
    return orthogonal if rows >= cols else np.swapaxes(orthogonal, -2, -1)
