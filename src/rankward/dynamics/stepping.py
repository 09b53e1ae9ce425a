"""One step of a run by an optimizer: its factors and the state between steps, as lists of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.optimizers import Optimizer, RateSchedule

Shape = tuple[int, ...]


def state_shapes(optimizer: Optimizer, shapes: Sequence[Shape]) -> list[Shape]:
    """Shapes of the state: each of `per_run`, then each of `per_parameter` for every factor.

    Example:
        >>> from rankward.optimizers import Adam
        >>> state_shapes(Adam(), [(2, 1), (1, 2)])
        [(), (), (2, 1), (1, 2), (2, 1), (1, 2)]
    """
    return [() for _ in optimizer.per_run] + [tuple(shape) for _ in optimizer.per_parameter for shape in shapes]


def unpacked(optimizer: Optimizer, shapes: Sequence[Shape], flat: Tensor) -> list[Tensor]:
    """The state [..., numbers] of `Progress` as arrays [..., *shape], in the order of `state_shapes`."""
    each = state_shapes(optimizer, shapes)
    parts = flat.split([math.prod(shape) for shape in each], dim=-1)
    return [part.reshape((*flat.shape[:-1], *shape)) for part, shape in zip(parts, each, strict=True)]


def step(
    optimizer: Optimizer,
    factors: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    eta: Tensor,
    iteration: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """Factors and state after one step of one run.

    Args:
        optimizer: with the run's numbers.
        factors, gradients: without a runs axis.
        state: as `state_shapes` orders it.
        eta, iteration: 0-d.
    """
    made = [
        optimizer.update(factor, gradient, given, eta, iteration)
        for factor, gradient, given in zip(factors, gradients, _by_factor(optimizer, len(factors), state), strict=True)
    ]
    after = [made[0][1][name] for name in optimizer.per_run]
    after += [each[name] for name in optimizer.per_parameter for _, each in made]
    return [factor for factor, _ in made], after


def with_noise(gradients: Sequence[Tensor], added: Tensor) -> list[Tensor]:
    """Gradients with the numbers of `added`, [..., parameters], factor by factor; all may have a runs axis."""
    runs = added[..., 0].numel()
    parts = added.split([gradient.numel() // runs for gradient in gradients], dim=-1)
    return [gradient + part.reshape(gradient.shape) for gradient, part in zip(gradients, parts, strict=True)]


def _by_factor(optimizer: Optimizer, factors: int, state: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """The state by name, for each factor."""
    shared = dict(zip(optimizer.per_run, state, strict=False))
    arrays = state[len(shared) :]
    return [
        shared | {name: arrays[number * factors + factor] for number, name in enumerate(optimizer.per_parameter)}
        for factor in range(factors)
    ]


def samples(
    optimizer: Optimizer, shapes: Sequence[Shape], seed: int, deviations: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    """Numbers to try a step with: eta, scale, the optimizer's numbers and the iteration, 0-d each; and a state.

    Before the iteration are so many standard deviations of noise.

    Those of seed 0 have the optimizer's own numbers.
    """
    random = torch.Generator().manual_seed(seed)
    numbers = [torch.tensor(number, dtype=torch.float64) for number in optimizer.numbers]
    if seed:
        numbers = [0.25 + 0.5 * torch.rand((), generator=random, dtype=torch.float64) for _ in numbers]
    rates = [0.1 + torch.rand((), generator=random, dtype=torch.float64) for _ in range(2)]
    iteration = torch.tensor((3.0, 1.0, 7.0)[seed % 3], dtype=torch.float64)
    state = [
        0.1 + torch.rand(shape, generator=random, dtype=torch.float64) for shape in state_shapes(optimizer, shapes)
    ]
    noise = [torch.rand((), generator=random, dtype=torch.float64) for _ in range(deviations)]
    return [*rates, *numbers, *noise, iteration], state


def check_update(optimizer: Optimizer, name: str, shapes: Sequence[Shape]) -> None:
    """Try one step, and refuse an update that is none of these factors.

    Args:
        optimizer: of a run.
        name: of the choice in the config group.
        shapes: of the factors.

    Raises:
        ConfigError: an update that raises, or returns something else than a factor and its state.
    """
    optimizer.check(shapes)
    repeated = [key for key in optimizer.per_run if key in optimizer.per_parameter]
    if repeated:
        allowed = f"one whose per_run and per_parameter have no name in common: {repeated[0]}"
        raise ConfigError("optimizer", name, allowed)
    (eta, _, *numbers, iteration), state = samples(optimizer, shapes, 0)
    factors = [torch.linspace(0.5, 1.5, math.prod(shape), dtype=torch.float64).reshape(shape) for shape in shapes]
    tried, shared = optimizer.with_numbers(numbers), []
    for number, given in enumerate(_by_factor(optimizer, len(factors), state)):
        factor = factors[number]
        try:
            made = tried.update(factor.clone(), (number + 1) * factor, dict(given), eta, iteration)
        except Exception as error:  # a user's own function may raise anything
            raise ConfigError("optimizer", name, f"an update that runs ({type(error).__name__}: {error})") from error
        _check_returned(name, made, factor, given)
        shared.append([made[1][key] for key in optimizer.per_run])
    for key, *values in zip(optimizer.per_run, *shared, strict=True):
        if any(not torch.equal(value.nan_to_num(), values[0].nan_to_num()) for value in values):
            allowed = f"one whose per_run state {key!r} does not depend on the factor, since all factors share it"
            raise ConfigError("optimizer", name, allowed)


def check_schedule(schedule: RateSchedule, name: str) -> None:
    """Try the first iteration, and refuse a factor that is no number.

    Args:
        schedule: of a run.
        name: of the choice in the config group.

    Raises:
        ConfigError: a factor that raises, or returns something else than a number.
    """
    first = torch.ones((), dtype=torch.float64)
    tried = schedule.with_numbers([torch.tensor(number, dtype=torch.float64) for number in schedule.numbers])
    try:
        made = tried.factor(first)
    except Exception as error:  # a user's own function may raise anything
        raise ConfigError("lr", name, f"a factor that runs ({type(error).__name__}: {error})") from error
    if not (isinstance(made, Tensor) and made.shape == first.shape and made.dtype == first.dtype):
        raise ConfigError("lr", name, "a factor that returns a tensor of float64, one number")


def _check_returned(name: str, made: object, factor: Tensor, given: Mapping[str, Tensor]) -> None:
    """Refuse all but a factor and its state, in the shapes that were given."""
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)):
        raise ConfigError("optimizer", name, "an update that returns the parameter and a mapping with the state")
    parameter, after = made
    if set(after) != set(given):
        expected = ", ".join(given) or "nothing"
        raise ConfigError("optimizer", name, f"an update that returns as state {expected}, not {', '.join(after)}")
    for key, like in {"parameter": factor, **given}.items():
        value = parameter if key == "parameter" else after[key]
        if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype:
            size = "x".join(map(str, like.shape)) or "one number"
            kind = f"{like.dtype}".removeprefix("torch.")
            raise ConfigError("optimizer", name, f"an update that returns {key!r} as a tensor of {kind}, {size}")
