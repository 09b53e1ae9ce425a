"""One step of a run by an optimizer: its factors and the state between steps, as lists of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

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
    square: Tensor,
    state: Sequence[Tensor],
    eta: Tensor,
    iteration: Tensor,
    scale: Tensor | None = None,
    update: Callable[..., tuple[Tensor, Mapping[str, Tensor]]] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Factors and state after one step of one run.

    Args:
        optimizer: with the run's numbers.
        factors, gradients: without a runs axis.
        square: the squared norm of all gradients, 0-d; see `Optimizer.uses_square`.
        state: as `state_shapes` orders it.
        eta, iteration: 0-d.
        scale: 0-d, of gradients that are those of the loss divided by it, of `state.ALONG_GRADIENT`; None: no others.
        update: the optimizer's own in another form; None: that of the optimizer.
    """
    update = optimizer.update if update is None else update
    shared = dict(zip(optimizer.per_run, state, strict=False))
    rate, shared_after = optimizer.rate_of_run(eta, square, shared, iteration)
    rate = rate if scale is None else rate * scale  # one multiplication a run, not one an entry
    arrays = _by_factor(optimizer, len(factors), state)
    made = [
        update(factor, gradient, {**shared, **shared_after, **given}, rate, iteration)
        for factor, gradient, given in zip(factors, gradients, arrays, strict=True)
    ]
    after = [shared_after[name] if name in shared_after else made[0][1][name] for name in optimizer.per_run]
    after += [each[name] for name in optimizer.per_parameter for _, each in made]
    return [factor for factor, _ in made], after


def with_noise(gradients: Sequence[Tensor], added: Tensor) -> list[Tensor]:
    """Gradients with the numbers of `added`, [..., parameters], factor by factor; all may have a runs axis."""
    runs = added[..., 0].numel()
    parts = added.split([gradient.numel() // runs for gradient in gradients], dim=-1)
    return [gradient + part.reshape(gradient.shape) for gradient, part in zip(gradients, parts, strict=True)]


def _by_factor(optimizer: Optimizer, factors: int, state: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """The arrays of the state by name, for each factor."""
    arrays = state[len(optimizer.per_run) :]
    return [
        {name: arrays[number * factors + factor] for number, name in enumerate(optimizer.per_parameter)}
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
    tried, returned = optimizer.with_numbers(numbers), []
    shared = dict(zip(optimizer.per_run, state, strict=False))
    eta, shared_after = _tried_rate(tried, name, eta, shared, iteration)
    left = {key: value for key, value in shared.items() if key not in shared_after}
    for number, arrays in enumerate(_by_factor(optimizer, len(factors), state)):
        factor = factors[number]
        given = {**shared, **shared_after, **arrays}
        try:
            made = tried.update(factor.clone(), (number + 1) * factor, given, eta, iteration)
        except Exception as error:  # a user's own function may raise anything
            raise ConfigError("optimizer", name, f"an update that runs ({type(error).__name__}: {error})") from error
        _check_returned(name, made, factor, left | arrays)
        returned.append([made[1][key] for key in left])
    for key, *values in zip(left, *returned, strict=True):
        if any(not torch.equal(value.nan_to_num(), values[0].nan_to_num()) for value in values):
            allowed = f"one whose per_run state {key!r} does not depend on the factor, since all factors share it"
            raise ConfigError("optimizer", name, allowed)


def _tried_rate(
    optimizer: Optimizer, name: str, eta: Tensor, shared: Mapping[str, Tensor], iteration: Tensor
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The rate of a run and the state with it, from one step; refuse all but 0-d tensors of names in `per_run`."""
    try:
        made = optimizer.rate_of_run(eta, 2 * eta, dict(shared), iteration)
    except Exception as error:  # a user's own function may raise anything
        allowed = f"a rate_of_run that runs ({type(error).__name__}: {error})"
        raise ConfigError("optimizer", name, allowed) from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)):
        raise ConfigError("optimizer", name, "a rate_of_run that returns the rate and a mapping with the state")
    if others := [key for key in made[1] if key not in shared]:
        raise ConfigError("optimizer", name, f"a rate_of_run that returns no other state than per_run: {others[0]}")
    for key, value in {"eta": made[0], **made[1]}.items():
        if not isinstance(value, Tensor) or value.shape != eta.shape or value.dtype != eta.dtype:
            raise ConfigError("optimizer", name, f"a rate_of_run that returns {key!r} as a tensor of float64, 0-d")
    return made


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
