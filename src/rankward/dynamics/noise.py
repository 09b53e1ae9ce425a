"""Random parts of a step: noise of the labels, noise of the gradients, minibatches. Numbers by counter, in torch.

Every number is a function of the run's key, a purpose, an iteration (or an epoch) and an index: a block of Threefry
makes two words of 32 bits of them. So nothing is stored between steps, and no number depends on the other runs, the
chunk or the engine. The compiled kernels (`kernels/_noise_source.py`) make the same numbers, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rankward.dynamics.kernels.functions import COSINE, LOGARITHM, SINE
from rankward.dynamics.kernels.words import PARITY, PURPOSES, ROTATIONS, ROUND_GROUPS
from rankward.dynamics.state import BATCH, GRADIENTS, LABELS, Noise

WORD = 0xFFFFFFFF


class Drawn(NamedTuple):
    """The random parts of one step, [runs, numbers] float64 each; None for what the runs do not have.

    `labels` and `gradients` are standard normal, an entry (or measurement) and a parameter each. `share` is what an
    entry's residual is multiplied by: observed entries over those of the minibatch if it is among these, else 0.
    """

    labels: Tensor | None
    gradients: Tensor | None
    share: Tensor | None


def threefry(
    keys: Int[Tensor, "runs 2"], first: Int[Tensor, "*#shape"], second: Int[Tensor, "*#shape"]
) -> tuple[Int[Tensor, "*shape"], Int[Tensor, "*shape"]]:
    """Two words of 32 bits for each pair of counters, by Threefry-2x32 with 20 rounds.

    Args:
        keys: words of 32 bits, as int64; of each run, the first axis of the counters.
        first, second: counters, words of 32 bits as int64.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Section 4.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.int64)
        >>> [hex(int(word)) for word in threefry(torch.zeros(1, 2, dtype=torch.int64), zero, zero)]
        ['0x6b200159', '0x99ba4efe']
    """
    across = (-1, *(1,) * (max(first.ndim, second.ndim) - 1))
    key = [keys[:, 0].reshape(across), keys[:, 1].reshape(across)]
    key.append(key[0] ^ key[1] ^ PARITY)
    x, y = (first + key[0]) & WORD, (second + key[1]) & WORD
    for group in range(ROUND_GROUPS):
        for turn in ROTATIONS[group % 2]:
            x = (x + y) & WORD
            y = (((y << turn) & WORD) | (y >> (32 - turn))) ^ x
        x = (x + key[(group + 1) % 3]) & WORD
        y = (y + key[(group + 2) % 3] + (group + 1)) & WORD
    return x, y


def normals(
    first: Int[Tensor, "*shape"], second: Int[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Two independent standard normal numbers from two words; float64.

    They are sqrt(-2 ln x) sin(a) and sqrt(-2 ln x) cos(a), with errors below 2e-15. x is (s + 1/2) / 2^32 + 1/2, s the
    first word read as a signed number. a is the middle of one of 2^30 equal parts of a quarter turn, which the lower 30
    bits of the second word choose; its upper two bits are the signs. No number is larger than 6.77. The same arithmetic
    in the same order as that of the kernels.

    Source: Box and Muller, "A note on the generation of random normal deviates" (Annals of Mathematical Statistics 29,
    1958).

    Example:
        >>> first, second = torch.tensor([0, 2**31]), torch.tensor([0, 2**30])
        >>> [[round(each, 9) for each in made.tolist()] for made in normals(first, second)]
        [[0.832554612, 4.782662124], [0.83255461, -4.782662117]]
    """
    x = (_signed(first) + (2.0**31 + 0.5)) * 2.0**-32
    angle = (_signed((second << 2) & WORD) + 2.0) * (math.pi * 2.0**-33)
    half, power = torch.frexp(x)
    m, k = 2 * half, (power - 1).double()
    is_upper = m >= 2**0.5
    k, f = torch.where(is_upper, k + 1, k), torch.where(is_upper, half, m) - 1
    s = f / (2 + f)
    z = s * s
    size = ((s * (f - z * _polynomial(LOGARITHM, z)) - f) - k * math.log(2)).sqrt()
    z = angle * angle
    cosine, sine = _polynomial(COSINE, z), angle * _polynomial(SINE, z)
    left, right = size * (cosine + sine), size * (cosine - sine)
    return torch.where(second >> 31 == 1, -left, left), torch.where((second >> 30) & 1 == 1, -right, right)


def _signed(words: Tensor) -> Tensor:
    """Words as signed numbers, in float64."""
    return torch.where(words >= 2**31, words - 2**32, words).double()


def _polynomial(coefficients: Sequence[float], z: Tensor) -> Tensor:
    """The lowest power first; summed from the highest."""
    value = torch.full_like(z, coefficients[-1])
    for each in coefficients[-2::-1]:
        value = value * z + each
    return value


def drawn(noise: Noise, step: Int[Tensor, " runs"], parameters: int, observed: Bool[Tensor, "runs entries"]) -> Drawn:
    """The random parts of one step of each run.

    Args:
        noise: of the runs.
        step: iterations that were made before it.
        parameters: of a run.
        observed: which entries are; all of a run's measurements.
    """
    entries = observed.shape[1]
    return Drawn(
        _normals(noise.keys, LABELS, step, entries) if LABELS in noise.kinds else None,
        _normals(noise.keys, GRADIENTS, step, parameters) if GRADIENTS in noise.kinds else None,
        _share(noise, step, observed) if BATCH in noise.kinds else None,
    )


def _counters(purpose: str, count: int, like: Tensor) -> Tensor:
    """[1, count], the second counters of a purpose's blocks."""
    return PURPOSES[purpose] + torch.arange(count, device=like.device)[None]


def _normals(keys: Tensor, purpose: str, step: Tensor, count: int) -> Tensor:
    """[runs, count]: numbers 2i and 2i + 1 are of block i."""
    words = threefry(keys, step[:, None] & WORD, _counters(purpose, -(-count // 2), step))
    return torch.stack(normals(*words), dim=-1).flatten(1)[:, :count]


def ranks(
    keys: Int[Tensor, "runs 2"], epoch: Int[Tensor, " runs"], observed: Bool[Tensor, "runs entries"]
) -> Int[Tensor, "runs entries"]:
    """The place of each observed entry in the epoch's order, from 0; -1 for entries that are not observed.

    The order is that of random keys of 39 bits, and of the index where two are equal.
    """
    count = observed.shape[1]
    first, second = threefry(keys, epoch[:, None] & WORD, _counters(BATCH, count, epoch))
    index = torch.arange(count, device=epoch.device)
    key = (((first << 7) | (second >> 25)) << 24) | index
    order = torch.where(observed, key, torch.iinfo(torch.int64).max - index.flip(0)).argsort(1)
    place = torch.empty_like(order).scatter_(1, order, index.expand_as(order))
    return torch.where(observed, place, -1)


def _share(noise: Noise, step: Tensor, observed: Tensor) -> Tensor:
    """[runs, entries] float64: see `Drawn`."""
    steps = noise.steps_an_epoch
    place = ranks(noise.keys, step // steps, observed)
    begin = (step % steps * noise.batch)[:, None]
    end = torch.minimum(begin + noise.batch[:, None], noise.observed[:, None])
    weight = noise.observed[:, None].double() / (end - begin).double()
    return torch.where((begin <= place) & (place < end), weight, torch.zeros_like(weight))


def scaled(noise: Noise, made: Drawn, deviations: Float[Tensor, "runs few"], values: Tensor) -> Drawn:
    """The random parts in the runs' dtype: noise times its standard deviation, labels and share like the values.

    Args:
        noise: of the runs.
        made: of `drawn`; its numbers are rounded to the dtype before they are multiplied.
        deviations: in the order of the kinds.
        values: [runs, *shape] observed values.
    """
    each = iter(deviations.unbind(1))
    rounded = [None if part is None else part.to(values.dtype) for part in made]
    labels, gradients, share = rounded
    labels = None if labels is None else next(each)[:, None] * labels
    gradients = None if gradients is None else next(each)[:, None] * gradients
    return Drawn(
        None if labels is None else labels.reshape(values.shape),
        gradients,
        None if share is None else share.reshape(values.shape),
    )
