"""Synthetic observations: the paper's 2x2 problem and its variants, and random ground truths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from rankward.observations.measurement import EntryMask, FirstPart, Sensing
from rankward.seeding import generator


def two_by_two(
    b_12: float = 1.0, b_21: float = 1.0, b_22: float = 0.0, unobserved: Sequence[int] = (0, 0)
) -> EntryMask:
    """Equation 6, perturbed and repositioned (Section 3.4): three of four entries are seen.

    `unobserved` (row and column from 0) says where the unseen entry stands; rows and columns are swapped to bring it
    there, so that b_22 stays diagonally opposite.

    Example:
        >>> two_by_two().values.tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        >>> two_by_two(b_22=0.5, unobserved=(0, 1)).mask.tolist()
        [[True, False], [True, True]]
    """
    values = np.array([[0.0, b_12], [b_21, b_22]])
    mask = np.array([[False, True], [True, True]])
    row, col = unobserved
    turn = (slice(None, None, -1 if row else 1), slice(None, None, -1 if col else 1))
    return EntryMask(mask[turn].copy(), values[turn].copy())


def dimensions(dims: Sequence[int]) -> EntryMask:
    """Appendix E: ones at (1,2), (2,1) and (i,i) for i >= 3, zeros elsewhere, all seen but (1,1).

    Example:
        >>> dimensions((3, 4)).values.tolist()
        [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    values = np.eye(dims[0], dims[1])
    values[:2, :2] = [[0.0, 1.0], [1.0, 0.0]]
    mask = np.ones(tuple(dims), dtype=bool)
    mask[0, 0] = False
    return EntryMask(mask, values)


def ground_truth(dims: Sequence[int], rank: int, seed: int, stream: str = "ground truth") -> np.ndarray:
    """A random matrix of the given rank, a product of normal factors, scaled to root-mean-square entry 1.

    `stream` names the random numbers: those of another one are independent.
    """
    draw = generator(seed, stream)
    product = draw.standard_normal((dims[0], rank)) @ draw.standard_normal((rank, dims[1]))
    return np.asarray(product / np.sqrt(np.mean(product**2)))


def tensor_ground_truth(dims: Sequence[int], rank: int, seed: int, stream: str = "ground truth") -> np.ndarray:
    """A sum of `rank` outer products of standard normal vectors, scaled to Frobenius norm 1 (Section 4.2).

    `stream` is as for `ground_truth`.
    """
    draw = generator(seed, stream)
    truth = np.zeros(tuple(dims))
    for _ in range(rank):
        truth += reduce(np.multiply.outer, [draw.standard_normal(dim) for dim in dims])
    return np.asarray(truth / np.linalg.norm(truth))


def random_matrix(dims: Sequence[int], rank: int, count: int, noise: float = 0.0, seed: int = 0) -> EntryMask:
    """`count` entries of a random rank-`rank` ground truth, drawn without replacement, with normal noise added.

    A larger `count` with the same seed sees the same entries and more.

    Example:
        >>> small, large = random_matrix((4, 5), 2, 6), random_matrix((4, 5), 2, 9)
        >>> bool((large.mask >= small.mask).all()), large.count
        (True, 9)
    """
    return _revealed(ground_truth(dims, rank, seed), count, noise, seed)


def random_tensor(dims: Sequence[int], rank: int, count: int, noise: float = 0.0, seed: int = 0) -> EntryMask:
    """`count` entries of a random tensor of Frobenius norm 1, a sum of `rank` outer products (Equation 12).

    Example:
        >>> observed = random_tensor((3, 4, 5), rank=2, count=10)
        >>> observed.count, round(float(np.linalg.norm(observed.ground_truth)), 12)
        (10, 1.0)
    """
    return _revealed(tensor_ground_truth(dims, rank, seed), count, noise, seed)


def changing(
    dims: Sequence[int],
    rank: int,
    count: int,
    schedule: Mapping[str, int],
    noise: float = 0.0,
    seed: int = 0,
) -> EntryMask:
    """`count` entries of a random matrix or tensor, and before them, at the same places, those of another one.

    They are those of `random_matrix` or `random_tensor` with the same arguments. The first ground truth, of rank
    `schedule["rank"]`, is independent of the second and has its size; it is observed in the iterations up to
    `schedule["until"]`.

    Example:
        >>> seen = changing((4, 5), rank=1, count=6, schedule={"until": 100, "rank": 3})
        >>> bool((seen.values == random_matrix((4, 5), 1, 6).values).all()), seen.first.until
        (True, 100)
        >>> int(np.linalg.matrix_rank(seen.first.ground_truth))
        3
    """
    make = ground_truth if len(dims) == 2 else tensor_ground_truth
    truth = make(dims, schedule["rank"], seed, "first ground truth")
    errors = noise * generator(seed, "first noise").standard_normal(truth.shape)
    first = FirstPart(schedule["until"], truth + errors, truth)
    return replace(_revealed(make(dims, rank, seed), count, noise, seed), first=first)


def _revealed(truth: np.ndarray, count: int, noise: float, seed: int) -> EntryMask:
    """The first `count` entries in the seed's random order."""
    places = generator(seed, "observed places").permutation(truth.size)
    errors = noise * generator(seed, "noise").standard_normal(truth.size)
    mask = np.zeros(truth.size, dtype=bool)
    mask[places[:count]] = True
    return EntryMask(mask.reshape(truth.shape), truth + errors.reshape(truth.shape), truth)


def vector_ground_truth(dims: Sequence[int], rank: int, seed: int) -> np.ndarray:
    """A random vector with `rank` entries other than zero, normal and scaled to root-mean-square entry 1."""
    draw = generator(seed, "ground truth")
    truth = np.zeros(dims[0])
    truth[draw.permutation(dims[0])[:rank]] = draw.standard_normal(rank)
    return np.asarray(truth / np.sqrt(np.mean(truth**2)))


def sensing(dims: Sequence[int], rank: int, count: int, noise: float = 0.0, seed: int = 0) -> Sensing:
    """`count` measurements of a random ground truth with normal A_i of variance 1/count, of its shape.

    The truth is a vector with `rank` entries other than zero, a matrix or a tensor of that rank, by how many `dims`
    there are; see `vector_ground_truth`, `ground_truth` and `tensor_ground_truth` for its size. With the variance
    1/count the sum of squared measurements is |truth|^2 in expectation. A variance of 1/entries, which some authors of
    tensor sensing use, is the same problem with another unit: the half sum is count/entries times as large.

    Example:
        >>> sensing((3, 2), 1, 4).matrices.shape, sensing((5,), 2, 4).matrices.shape
        ((4, 3, 2), (4, 5))
    """
    make = {1: vector_ground_truth, 2: ground_truth}.get(len(dims), tensor_ground_truth)
    truth = make(dims, rank, seed)
    axes = "abcdefghijklmopqrstuvwxyz"[: truth.ndim]
    matrices = generator(seed, "sensing matrices").standard_normal((count, *truth.shape)) / np.sqrt(count)
    errors = noise * generator(seed, "noise").standard_normal(count)
    return Sensing(matrices, np.einsum(f"n{axes},{axes}->n", matrices, truth) + errors, truth)
