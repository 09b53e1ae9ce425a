"""From a factorization's `product`, written in torch for one run, to the graph of its loss and gradients.

The function and its derivative run once on sample numbers, with autograd, while every operation that torch makes is
noted. Which operations are known is `OPERATIONS` below. Views need no entry: they are read off the arrays' strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rankward.config import ConfigError
from rankward.dynamics.graph import Array, Builder, Graph, Operand, contiguous
from rankward.dynamics.kernels.blocked import padded
from rankward.dynamics.reference import loss_and_cotangent
from rankward.dynamics.state import BATCH, GRADIENTS, LABELS
from rankward.dynamics.stepping import samples, step, with_noise
from rankward.linalg import one_thread
from rankward.losses import SQUARED, Loss
from rankward.optimizers import Optimizer
from rankward.private_apis import changes_arguments, dispatch_mode, operator_name, written_arguments
from rankward.private_apis import without_dispatch_modes as untraced

SAMPLES = 3  # at which a trace is compared with autograd, all but one of them other numbers than it was made with
AGREE = 1e-9  # relative to an output's largest number, in float64
LARGE = 1e30  # above it 1 + a is a
NOISE = 1e-13  # relative to the largest number of all outputs: what is left of a gradient that is zero

Product = Callable[[Sequence[Tensor]], Tensor]
DispatchMode: Any = dispatch_mode()


class Untraceable(Exception):
    """A function that has no graph; the message is a clause that says why.

    Args:
        why: the clause.
        subject: whose function it is.
    """

    def __init__(self, why: str, subject: str = "this factorization") -> None:
        super().__init__(why)
        self.subject = subject


def trace(
    product: Product,
    shapes: Sequence[tuple[int, ...]],
    operator: tuple[int, ...],
    values: tuple[int, ...],
    dtype: str,
    optimizer: Optimizer | None = None,
    loss: Loss = SQUARED,
    noise: tuple[str, ...] = (),
) -> Graph:
    """The graph of one run's half sum (Equation 1) and its gradient in each factor, or its step by an optimizer.

    With another loss than the squared one, the sum of its values takes the place of the half sum.

    Inputs are the factors, the operator (a mask, or sensing matrices [n, *dims]) and the values. The first output is
    the half sum, the others are shaped as the factors. With an optimizer, eta, the loss over the half sum, the
    optimizer's numbers, the iteration and the state are inputs behind the values, and the outputs behind the half sum
    are the new factors, iteration and state. The random parts of a step have their standard deviations behind the
    optimizer's numbers, and one array each behind the state: see `noise.Drawn`. Each is padded to a multiple of 16.

    Args:
        product: from factors without a runs axis to the array that they stand for.
        shapes: of the factors.
        operator, values: their shapes, without a runs axis.
        dtype: of the run, `float64` or `float32`.
        optimizer: None for gradients.
        loss: of the run.
        noise: the random parts of a step.

    Raises:
        ConfigError: a product that cannot be compared with the observations, or does not depend on the factors.
        Untraceable: an operation that is not known, or a function of which one trace does not say what it computes.
    """
    if not any(map(math.prod, shapes)):
        raise ConfigError("factorization.shapes", ", ".join(map(_size, shapes)), "factors of at least one number")
    tried = [_sample(shapes, operator, values, seed, optimizer, noise) for seed in range(SAMPLES)]
    with one_thread():
        # First: errors of its own are raised.
        by_autograd = [_differentiated(product, sample, optimizer, loss, noise) for sample in tried]
        for name in dict.fromkeys(("float64", dtype)):  # what is compared is compared in float64
            try:
                graph = _traced(product, tried[0], name, optimizer, loss, noise)
            except Untraceable:
                raise
            except Exception as error:  # which autograd alone did not raise
                raise Untraceable(f"it raises {type(error).__name__} while it is traced") from error
            if name == "float64":
                for sample, expected in zip(tried, by_autograd, strict=True):
                    _compare(graph.evaluate(*(each.numpy() for each in (*sample[0], *sample[1]))), expected)
    return graph


def trace_product(product: Product, shapes: Sequence[tuple[int, ...]]) -> Graph:
    """The graph from the factors to their product alone, in float64.

    Raises:
        Untraceable: as `trace`.
    """
    tape = Tape("float64")
    factors = _sample(shapes, (), (), 0)[0]
    inputs = [tape.input(factor) for factor in factors]
    with tape, _Watch(tape):
        made = product(inputs)
    graph = tape.builder.graph([tape.array(made)])
    for seed in range(1, SAMPLES):
        factors = _sample(shapes, (), (), seed)[0]
        _compare(graph.evaluate(*(each.numpy() for each in factors)), [product(factors)])
    return graph


def trace_rate(optimizer: Optimizer, dtype: str) -> Graph:
    """The graph of the number that gradients of the half sum are multiplied by, from their squared norm.

    Inputs are eta, the loss over the half sum, the optimizer's numbers, the iteration (kernels do not count it, so the
    number must not depend on it), its state of `per_run`, and the squared norm; the first output is the number, the
    others are the state after the step.

    Args:
        optimizer: one of `state.ALONG_GRADIENT`.
        dtype: of the run.
    """
    tape, kind = Tape(dtype), getattr(torch, dtype)
    rates, state = samples(optimizer, [], 0)
    eta, scale, *numbers, iteration = (tape.input(each.to(kind)) for each in rates)
    shared = {name: tape.input(each.to(kind)) for name, each in zip(optimizer.per_run, state, strict=True)}
    square = tape.input(eta)
    with tape:
        given = square * (scale * scale)
        rate, after = optimizer.with_numbers(numbers).rate_of_run(eta, given, shared, iteration)
        made = [rate * scale, *(after[name] for name in optimizer.per_run)]
    places = range(len(rates), len(rates) + len(shared))
    return tape.builder.graph([tape.array(each) for each in made], places)


Sample = tuple[list[Tensor], list[Tensor]]  # factors; operator, values, and what a step needs more


def _sample(
    shapes: Sequence[tuple[int, ...]],
    operator: tuple[int, ...],
    values: tuple[int, ...],
    seed: int,
    optimizer: Optimizer | None = None,
    noise: tuple[str, ...] = (),
) -> Sample:
    """Numbers to trace and to compare with: every second sample is positive."""
    random = np.random.default_rng([17, seed])
    factors = [torch.from_numpy(np.asarray(random.standard_normal(shape))) for shape in shapes]
    if seed % 2:
        factors = [factor.abs() for factor in factors]
    mask = random.integers(0, 2, operator) if operator == values else random.standard_normal(operator)
    fixed = [torch.from_numpy(np.asarray(mask, float)), torch.from_numpy(np.asarray(random.random(values)))]
    rates, state = ([], []) if optimizer is None else samples(optimizer, shapes, seed, len({*noise} - {BATCH}))
    counts = {GRADIENTS: sum(map(math.prod, shapes))}
    sizes = [padded(counts.get(kind, math.prod(values))) for kind in noise]
    return factors, [*fixed, *rates, *state, *(torch.from_numpy(random.standard_normal(size)) for size in sizes)]


def _traced(
    product: Product, sample: Sample, dtype: str, optimizer: Optimizer | None, loss: Loss, noise: tuple[str, ...]
) -> Graph:
    tape, kind = Tape(dtype), getattr(torch, dtype)
    factors, others = sample
    inputs = [tape.input(factor.to(kind)).requires_grad_() for factor in factors]
    given = [tape.input(each.to(kind)) for each in others]
    with tape, _Watch(tape):
        made = _iterated(product, inputs, given, optimizer, loss, noise)
    replaced: tuple[int, ...] = ()
    if optimizer is not None:
        iteration = len(factors) + 4 + len(optimizer.numbers) + len({*noise} - {BATCH})
        replaced = (*range(len(factors)), *range(iteration, len(factors) + len(given) - len(noise)))
    return replace(tape.builder.graph([tape.array(each) for each in made], replaced), noise=noise)


def _iterated(
    product: Product,
    factors: Sequence[Tensor],
    others: Sequence[Tensor],
    optimizer: Optimizer | None,
    loss: Loss,
    noise: tuple[str, ...],
) -> list[Tensor]:
    """The half sum and its gradients, or the half sum, and the factors, the iteration and the state after a step."""
    operator, values, *rest = others
    if optimizer is None:
        half, gradients = _half_and_gradients(product, factors, operator, values, loss)
        return [half, *gradients]
    eta, scale, *rest = rest
    numbers, rest = rest[: len(optimizer.numbers)], rest[len(optimizer.numbers) :]
    deviations = dict(zip([kind for kind in noise if kind != BATCH], rest, strict=False))
    iteration, *rest = rest[len(deviations) :]
    state, drawn = rest[: len(rest) - len(noise)], dict(zip(noise, rest[len(rest) - len(noise) :], strict=True))
    labels, share = (
        None if kind not in drawn else drawn[kind][: values.numel()].reshape(values.shape) for kind in (LABELS, BATCH)
    )
    labels = None if labels is None else deviations[LABELS] * labels
    half, gradients = _half_and_gradients(product, factors, operator, values, loss, scale, labels, share)
    with torch.no_grad():
        if GRADIENTS in noise:
            added = drawn[GRADIENTS][: sum(factor.numel() for factor in factors)]
            gradients = with_noise(gradients, deviations[GRADIENTS] * added)
        iteration, square = iteration + 1, eta
        if optimizer.uses_square:
            entries = torch.cat([gradient.flatten() for gradient in reversed(gradients)])
            square = (entries * entries).sum()
        moved, after = step(optimizer.with_numbers(numbers), factors, gradients, square, state, eta, iteration)
    return [half, *moved, iteration, *after]


def _half_and_gradients(
    product: Product,
    factors: Sequence[Tensor],
    operator: Tensor,
    values: Tensor,
    loss: Loss,
    scale: Tensor | None = None,
    *noise: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """The half sum and its gradient, times `scale`: the residual, propagated back through the product.

    `noise` is as in `loss_and_cotangent`, for the gradient alone.
    """
    made = product(factors)
    _check_product(made, values.shape if operator.shape == values.shape else operator.shape[1:])
    with torch.no_grad():
        half, cotangent = loss_and_cotangent(made, operator, values, loss, *noise)
        cotangent = cotangent if scale is None else cotangent * scale
    # With a graph of the derivative, autograd adds out of place. A sum needs no import of torch's symbolic shapes.
    weighted = (made * cotangent).sum()
    gradients = torch.autograd.grad(weighted, factors, create_graph=True, allow_unused=True, materialize_grads=True)
    return half, list(gradients)


def _check_product(made: Tensor, dims: Sequence[int]) -> None:
    """Refuse what is no array of the observations' shape that depends on factors."""
    if tuple(made.shape) != tuple(dims):
        raise ConfigError("factorization.product", _size(made.shape), f"{_size(dims)}, the shape of the observations")
    if not made.dtype.is_floating_point:
        raise ConfigError("factorization.product", f"{made.dtype}".removeprefix("torch."), "real numbers")
    if not made.requires_grad:
        raise ConfigError("factorization.product", "a constant", "an array that depends on the factors")


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _differentiated(
    product: Product, sample: Sample, optimizer: Optimizer | None, loss: Loss, noise: tuple[str, ...]
) -> list[Tensor]:
    """The half sum and the gradients, or what follows from them, by autograd and torch alone."""
    factors = [factor.clone().requires_grad_() for factor in sample[0]]
    return _iterated(product, factors, sample[1], optimizer, loss, noise)


def _compare(ours: Sequence[np.ndarray], theirs: Sequence[Tensor]) -> None:
    expected = [each.detach().numpy() for each in theirs]
    scales = [np.abs(each[np.isfinite(each)]).max(initial=0.0) for each in expected]
    for mine, other, scale in zip(ours, expected, scales, strict=True):
        least = AGREE * scale + NOISE * max(scales)
        if not np.allclose(mine.reshape(other.shape), other, rtol=AGREE, atol=least, equal_nan=True):
            raise Untraceable("what it computes depends on the factors in a way that one trace does not show")


READS = (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__)  # by which numbers leave torch


class _Watch(TorchFunctionMode):
    """Refuses what the tape cannot see: numbers that leave torch.

    Args:
        tape: that knows which tensors depend on the inputs.
    """

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS and self.tape.is_known(args[0]):
            raise Untraceable(f"it looks at an array's numbers while it runs (Tensor.{func.__name__})")
        return func(*args, **(kwargs or {}))


VIEWS = ("squeeze_", "unsqueeze_", "t_", "transpose_", "as_strided_", "detach_")  # of a tensor itself


class Tape(DispatchMode):  # type: ignore[misc] # torch's class has no public name
    """Notes what torch does with inputs.

    Args:
        dtype: of the run.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.builder = Builder(dtype)
        self.kind = getattr(torch, dtype)
        self.storages: dict[int, Array] = {}  # by address; each as one axis
        self.kept: list[Tensor] = []  # alive, so that no address is used twice
        self.given: set[int] = set()  # addresses of the inputs

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Without torch's other compiler, whose import takes most of a second."""
        return False

    def input(self, sample: Tensor) -> Tensor:
        """A new input; the tensor to compute with."""
        sample = sample.detach().clone(memory_format=torch.contiguous_format)
        self._put(sample, self.builder.input(tuple(sample.shape)))
        self.given.add(_address(sample))
        return sample

    def _put(self, tensor: Tensor, array: Array) -> None:
        """A tensor's numbers, all of its storage, are those of an array."""
        self.storages[_address(tensor)] = self.builder.packed(array).flat()
        self.kept.append(tensor)

    def is_known(self, value: Any) -> bool:
        """Whether a tensor depends on the inputs."""
        return isinstance(value, Tensor) and _address(value) in self.storages

    def array(self, tensor: Tensor) -> Array:
        """A tensor as an array of the graph; one that does not depend on inputs is a constant."""
        base = self.storages.get(_address(tensor))
        if base is None:
            with untraced():
                return self.builder.constant(tensor.detach().cpu().to(self.kind).numpy())
        offset = base.offset + int(tensor.storage_offset())
        return Array(base.block, tuple(tensor.shape), tuple(tensor.stride()), offset)

    def operand(self, value: Any) -> Operand:
        """An operand of an elementwise function: an array, or one number for all elements."""
        if not isinstance(value, Tensor):
            return float(value)
        return self.builder.number(self.array(value))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = operator_name(func).removeprefix("aten::")
        given = [each for each in _leaves((args, kwargs)) if self.is_known(each)]
        changes = changes_arguments(func)
        if given and name in ("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "item"):
            raise Untraceable(f"it looks at an array's numbers while it runs (aten.{name}), as a branch on them does")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Untraceable(f"it draws random numbers (aten.{name})")
        if given and changes and name not in VIEWS:
            self._begin_changes(func, args, kwargs)
        out = func(*args, **kwargs)
        if not given:
            return out
        views = out if isinstance(out, list | tuple) else [out]
        if all(map(self.is_known, views)) and (not changes or name in VIEWS):
            if any(view.dtype != given[0].dtype for view in views):
                raise Untraceable(f"aten.{name} reads numbers as others of type {views[0].dtype}".replace("torch.", ""))
            return out
        operation = OPERATIONS.get(name.removesuffix("_")) or OPERATIONS.get(name)
        if isinstance(out, Tensor):
            counts = out.dtype == torch.int64 and name == "sum"
            if out.dtype not in (self.kind, torch.bool) and not counts:
                made_of = f"numbers of type {out.dtype} in a run of {self.kind}".replace("torch.", "")
                raise Untraceable(f"aten.{name} makes {made_of}")
        if operation is None or not isinstance(out, Tensor):
            raise Untraceable(f"aten.{name} is not an operation that can be compiled")
        try:
            made = operation(self, out, *args, **kwargs)
        except Untraceable:
            raise
        except Exception as error:
            raise Untraceable(f"aten.{name} as it is used is not an operation that can be compiled") from error
        if changes:
            self._assign(out, made)
            return out
        with untraced():
            out = out.contiguous().clone() if self.is_known(out) or not out.is_contiguous() else out
        self._put(out, made)
        return out

    def _begin_changes(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Before tensors are changed in place: those that are constants so far are noted as they are."""
        for number, argument in written_arguments(func):
            value = args[number] if number < len(args) else kwargs.get(argument)
            if not isinstance(value, Tensor):
                continue
            if _address(value) in self.given:
                raise Untraceable("it changes a factor in place")
            if not self.is_known(value):
                storage = self._storage_of(value)
                self._put(storage, self.array(storage))

    @staticmethod
    def _storage_of(tensor: Tensor) -> Tensor:
        """All numbers of a tensor's storage."""
        with untraced():
            empty = torch.empty(0, dtype=tensor.dtype)
            return empty.set_(tensor.untyped_storage())  # type: ignore[call-overload, no-any-return]

    def _assign(self, target: Tensor, values: Array) -> None:
        """An operation has changed a tensor in place, and with it what else shares its storage."""
        storage = self._storage_of(target)
        before = self.array(storage)
        places = Array(0, tuple(target.shape), tuple(target.stride()), int(target.storage_offset())).places
        table = np.arange(1, before.size + 1)
        table[places] = before.size + np.arange(1, values.size + 1)
        self._put(storage, self.builder.gather([before, values], table, (before.size,)))
        self.kept.append(target)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


Operation = Callable[..., Array]
OPERATIONS: dict[str, Operation] = {}  # from the tape, torch's result and arguments to the result's array


def _known(*names: str) -> Callable[[Operation], Operation]:
    def keep(operation: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, operation))
        return operation

    return keep


# Elementwise functions. True and false are 1 and 0.


class _Elements:
    """Elementwise arithmetic on operands of one shape."""

    def __init__(self, tape: Tape, shape: Sequence[int]) -> None:
        self.tape, self.shape = tape, tuple(shape)

    def __call__(self, function: str, *operands: Operand) -> Operand:
        return self.tape.builder.elementwise(function, self.shape, *operands)

    def array(self, operand: Operand) -> Array:
        """An operand as an array of the shape."""
        if isinstance(operand, Array):
            return operand if operand.shape == self.shape else operand.expanded(self.shape)
        return self.tape.builder.constant(np.array(operand)).expanded(self.shape)

    def negative(self, a: Operand) -> Operand:
        return self("multiply", a, -1.0)

    def at_most(self, a: Operand, b: Operand) -> Operand:
        return self("choose", a, b, 1.0, 0.0)

    def below(self, a: Operand, b: Operand) -> Operand:
        return self("choose", b, a, 0.0, self.at_most(a, b))

    def equal(self, a: Operand, b: Operand) -> Operand:
        return self("multiply", self.at_most(a, b), self.at_most(b, a))

    def truth(self, a: Operand) -> Operand:
        """1 where it is not zero."""
        return self.opposite(self.equal(a, 0.0))

    def opposite(self, a: Operand) -> Operand:
        return self("subtract", 1.0, a)

    def where(self, condition: Operand, then: Operand, otherwise: Operand) -> Operand:
        return self("choose", condition, 0.5, otherwise, then)

    def largest(self, a: Operand, b: Operand) -> Operand:
        """The larger one; NaN where one is."""
        return self("choose", a, b, b, self("choose", b, a, a, self("add", a, b)))

    def smallest(self, a: Operand, b: Operand) -> Operand:
        return self("choose", a, b, a, self("choose", b, a, b, self("add", a, b)))

    def size(self, a: Operand) -> Operand:
        return self("choose", a, 0.0, self("subtract", 0.0, a), a)

    def log1p(self, a: Operand) -> Operand:
        """ln(1 + a); what rounding took from 1 + a is in the factor a / ((1 + a) - 1), so that tiny a keep all digits.

        Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), Problem 1.5.
        """
        above = self("add", 1.0, a)
        logarithm, kept = self("logarithm", above), self("subtract", above, 1.0)
        rounded = self.where(self.equal(kept, 0.0), a, self("multiply", logarithm, self("divide", a, kept)))
        return self.where(self.at_most(a, LARGE), rounded, logarithm)

    def sign(self, a: Operand) -> Operand:
        return self("subtract", self.below(0.0, a), self.below(a, 0.0))

    def power(self, a: Operand, exponent: float) -> Operand:
        if exponent == 0.5:
            return self("root", a)
        if exponent.is_integer() and abs(exponent) <= 64:
            result: Operand = 1.0
            for _ in range(abs(int(exponent))):
                result = a if result == 1.0 else self("multiply", result, a)
            return result if exponent >= 0 else self("divide", 1.0, result)
        return self("exponential", self("multiply", self("logarithm", a), exponent))


def _elementwise(*names: str) -> Callable[[Callable[..., Operand]], Callable[..., Operand]]:
    """Names of torch for a function of elementwise arithmetic and operands."""

    def keep(function: Callable[..., Operand]) -> Callable[..., Operand]:
        def operation(tape: Tape, out: Tensor, *given: Any, **more: Any) -> Array:
            elements = _Elements(tape, out.shape)
            operands = [tape.operand(each) if isinstance(each, Tensor | int | float) else each for each in given]
            more = {key: each for key, each in more.items() if key in ("alpha", "rounding_mode", "value")}
            return elements.array(function(elements, *operands, **more))

        OPERATIONS.update(dict.fromkeys(names, operation))
        return function

    return keep


@_elementwise("add")
def _add(e: _Elements, a: Operand, b: Operand, *, alpha: float = 1) -> Operand:
    return e("add", a, b if alpha == 1 else e("multiply", b, float(alpha)))


@_elementwise("sub", "subtract")
def _sub(e: _Elements, a: Operand, b: Operand, *, alpha: float = 1) -> Operand:
    return e("subtract", a, b if alpha == 1 else e("multiply", b, float(alpha)))


@_elementwise("rsub")
def _rsub(e: _Elements, a: Operand, b: Operand, alpha: float = 1.0) -> Operand:
    return e("subtract", b, a if alpha == 1 else e("multiply", a, float(alpha)))


@_elementwise("div", "divide")
def _div(e: _Elements, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Operand:
    if rounding_mode is not None:
        raise Untraceable("aten.div with rounding is not an operation that can be compiled")
    return e("divide", a, b)


_elementwise("mul", "multiply", "bitwise_and")(lambda e, a, b: e("multiply", a, b))
_elementwise("neg")(lambda e, a: e.negative(a))
_elementwise("reciprocal")(lambda e, a: e("divide", 1.0, a))
_elementwise("square")(lambda e, a: e("multiply", a, a))
_elementwise("sqrt")(lambda e, a: e("root", a))
_elementwise("rsqrt")(lambda e, a: e("divide", 1.0, e("root", a)))
_elementwise("exp")(lambda e, a: e("exponential", a))
_elementwise("log")(lambda e, a: e("logarithm", a))
_elementwise("log1p")(lambda e, a: e.log1p(a))
_elementwise("tanh")(lambda e, a: e("tangent", a))
_elementwise("sigmoid")(lambda e, a: e("logistic", a))
_elementwise("relu")(lambda e, a: e("choose", a, 0.0, 0.0, a))
_elementwise("abs")(lambda e, a: e.size(a))
_elementwise("sign", "sgn")(lambda e, a: e.sign(a))
_elementwise("maximum")(lambda e, a, b: e.largest(a, b))
_elementwise("minimum")(lambda e, a, b: e.smallest(a, b))
_elementwise("fmax")(lambda e, a, b: e("choose", a, b, b, e("choose", a, a, a, b)))
_elementwise("fmin")(lambda e, a, b: e("choose", b, a, b, e("choose", a, a, a, b)))
_elementwise("le")(lambda e, a, b: e.at_most(a, b))
_elementwise("ge")(lambda e, a, b: e.at_most(b, a))
_elementwise("lt")(lambda e, a, b: e.below(a, b))
_elementwise("gt")(lambda e, a, b: e.below(b, a))
_elementwise("eq")(lambda e, a, b: e.equal(a, b))
_elementwise("isnan")(lambda e, a: e.opposite(e.at_most(a, a)))
_elementwise("ne")(lambda e, a, b: e.opposite(e.equal(a, b)))
_elementwise("bitwise_not")(lambda e, a: e.opposite(a))
_elementwise("bitwise_or")(lambda e, a, b: e.largest(a, b))
_elementwise("logical_not")(lambda e, a: e.equal(a, 0.0))
_elementwise("where")(lambda e, condition, then, otherwise: e.where(condition, then, otherwise))
_elementwise("masked_fill")(lambda e, a, condition, value: e.where(condition, value, a))
_elementwise("clone", "lift_fresh_copy")(lambda e, a: a)
_elementwise("zeros_like", "zero")(lambda e, a, *_: 0.0)
_elementwise("ones_like")(lambda e, a, *_: 1.0)
_elementwise("full_like", "fill")(lambda e, a, value, *_: value)
_elementwise("new_zeros", "new_empty", "new_empty_strided", "empty_like")(lambda e, *_: 0.0)
_elementwise("new_ones")(lambda e, *_: 1.0)
_elementwise("new_full")(lambda e, a, size, value, *_: value)
_elementwise("tanh_backward")(lambda e, g, y: e("multiply", g, e("subtract", 1.0, e("multiply", y, y))))
_elementwise("sigmoid_backward")(lambda e, g, y: e("multiply", e("multiply", g, e("subtract", 1.0, y)), y))
_elementwise("threshold_backward")(lambda e, g, x, limit: e("choose", x, limit, 0.0, g))


@_elementwise("addcmul")
def _addcmul(e: _Elements, a: Operand, b: Operand, c: Operand, *, value: float = 1) -> Operand:
    return e("add", a, e("multiply", b if value == 1 else e("multiply", b, float(value)), c))


@_known("pow")
def _pow(tape: Tape, out: Tensor, base: Any, exponent: Any) -> Array:
    e, below = _Elements(tape, out.shape), tape.operand(base)
    if not tape.is_known(exponent):
        with untraced():
            powers = torch.as_tensor(exponent, dtype=torch.float64)
            each = [(power, tape.operand((powers == power).to(tape.kind))) for power in powers.unique().tolist()]
        result = e.power(below, each[0][0])
        for power, here in each[1:]:
            result = e.where(here, e.power(below, power), result)
        return e.array(result)
    if isinstance(below, float) and below <= 0:
        raise Untraceable("aten.pow of a number that is not positive is not an operation that can be compiled")
    logarithm = math.log(below) if isinstance(below, float) else e("logarithm", below)
    return e.array(e("exponential", e("multiply", tape.operand(exponent), logarithm)))


def _truth(tape: Tape, out: Tensor, given: Tensor) -> Operand:
    """1 where it is true or not zero."""
    known = tape.operand(given)
    return known if given.dtype == torch.bool else _Elements(tape, out.shape).truth(known)


@_known("logical_and")
def _and(tape: Tape, out: Tensor, a: Tensor, b: Tensor) -> Array:
    e = _Elements(tape, out.shape)
    return e.array(e("multiply", _truth(tape, out, a), _truth(tape, out, b)))


@_known("logical_or")
def _or(tape: Tape, out: Tensor, a: Tensor, b: Tensor) -> Array:
    e = _Elements(tape, out.shape)
    return e.array(e.largest(_truth(tape, out, a), _truth(tape, out, b)))


@_known("_to_copy")
def _to_copy(tape: Tape, out: Tensor, source: Tensor, **_: Any) -> Array:
    given = _truth(tape, out, source) if out.dtype == torch.bool else tape.operand(source)
    return _Elements(tape, out.shape).array(given)


@_known("copy")
def _copy(tape: Tape, out: Tensor, target: Tensor, source: Tensor, *_: Any) -> Array:
    return _to_copy(tape, out, source)


@_known("clamp", "clamp_min", "hardtanh")
def _clamp(tape: Tape, out: Tensor, a: Tensor, least: Any = None, most: Any = None, **more: Any) -> Array:
    elements = _Elements(tape, out.shape)
    least, most = more.get("min", least), more.get("max", most)
    result = tape.operand(a)
    if least is not None:
        result = elements.largest(result, tape.operand(least))
    return elements.array(result if most is None else elements.smallest(result, tape.operand(most)))


@_elementwise("hardtanh_backward")
def _hardtanh_backward(e: _Elements, gradient: Operand, x: Operand, least: Operand, most: Operand) -> Operand:
    return e("choose", x, least, 0.0, e("choose", most, x, 0.0, gradient))


OPERATIONS["clamp_max"] = lambda tape, out, a, most: _clamp(tape, out, a, None, most)


# Sums, means and extremes.


def _axes(array: Array, axes: Any) -> list[int]:
    """Axes as torch takes them: none is all of them."""
    rank = max(1, len(array.shape))
    chosen = range(len(array.shape)) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    return sorted({axis % rank for axis in chosen})


def _keep_axes(array: Array, source: Array, axes: Sequence[int], keep: bool) -> Array:
    """The result with the reduced axes as axes of size 1, where torch keeps them."""
    if not keep:
        return array
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape))
    return Array(array.block, shape, contiguous(shape), array.offset)


def _total(tape: Tape, array: Array, axes: Sequence[int], keep: bool) -> Array:
    """The sum along axes."""
    return _keep_axes(tape.builder.packed(tape.builder.total(array, axes)), array, axes, keep)


@_known("sum")
def _sum(tape: Tape, out: Tensor, a: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Array:
    array = tape.array(a)
    return _total(tape, array, _axes(array, dim), keepdim)


@_known("mean")
def _mean(tape: Tape, out: Tensor, a: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Array:
    total = _sum(tape, out, a, dim, keepdim)
    count = a.numel() / max(1, out.numel())
    return tape.builder.elementwise("divide", total.shape, total, float(count))


def _folded(tape: Tape, array: Array, axes: Sequence[int], keep: bool, name: str) -> Array:
    """The largest or smallest number along axes, one comparison after the other."""
    remaining = [axis for axis in range(len(array.shape)) if axis not in axes]
    shape = tuple(array.shape[axis] for axis in remaining)
    ordered = array.permuted([*axes, *remaining])
    result: Array | None = None
    for index in np.ndindex(*ordered.shape[: len(axes)]):
        at = ordered.offset + sum(i * stride for i, stride in zip(index, ordered.strides, strict=False))
        part = Array(ordered.block, shape, ordered.strides[len(axes) :], at)
        elements = _Elements(tape, shape)
        result = part if result is None else elements.array(getattr(elements, name)(result, part))
    assert result is not None
    return _keep_axes(tape.builder.packed(result), array, axes, keep)


@_known("amax", "max")
def _amax(tape: Tape, out: Tensor, a: Tensor, dim: Any = None, keepdim: bool = False) -> Array:
    array = tape.array(a)
    return _folded(tape, array, _axes(array, dim), keepdim, "largest")


@_known("amin", "min")
def _amin(tape: Tape, out: Tensor, a: Tensor, dim: Any = None, keepdim: bool = False) -> Array:
    array = tape.array(a)
    return _folded(tape, array, _axes(array, dim), keepdim, "smallest")


@_known("linalg_vector_norm")
def _vector_norm(tape: Tape, out: Tensor, a: Tensor, order: float = 2, dim: Any = None, keepdim: bool = False) -> Array:
    if order not in (1, 2):
        raise Untraceable(f"a norm of order {order} is not an operation that can be compiled")
    array = tape.array(a)
    elements = _Elements(tape, array.shape)
    each = elements("multiply", array, array) if order == 2 else elements.size(array)
    total = _total(tape, elements.array(each), _axes(array, dim), keepdim)
    return tape.builder.elementwise("root", total.shape, total) if order == 2 else total


@_known("_softmax")
def _softmax(tape: Tape, out: Tensor, a: Tensor, dim: int, *_: Any) -> Array:
    array = tape.array(a)
    axes, elements = _axes(array, dim), _Elements(tape, array.shape)
    if not array.size:
        return array
    largest = _folded(tape, array, axes, True, "largest")
    each = elements.array(elements("exponential", elements("subtract", array, largest)))
    total = _total(tape, each, axes, True)
    return elements.array(elements("divide", each, total))


@_known("_softmax_backward_data")
def _softmax_backward(tape: Tape, out: Tensor, gradient: Tensor, made: Tensor, dim: int, *_: Any) -> Array:
    array, result = tape.array(gradient), tape.array(made)
    axes, elements = _axes(array, dim), _Elements(tape, array.shape)
    both = elements.array(elements("multiply", array, result))
    total = _total(tape, both, axes, True)
    return elements.array(elements("multiply", elements("subtract", array, total), result))


# Matrix products.


def _matrices(tape: Tape, left: Array, right: Array, shape: Sequence[int]) -> Array:
    made = tape.builder.product(left, right)
    return Array(made.block, tuple(shape), contiguous(shape), made.offset)


def _with_axis(array: Array, axis: int) -> Array:
    """An axis of size 1 more."""
    shape, strides = list(array.shape), list(array.strides)
    shape.insert(axis, 1)
    strides.insert(axis, 0)
    return Array(array.block, tuple(shape), tuple(strides), array.offset)


@_known("mm")
def _mm(tape: Tape, out: Tensor, a: Tensor, b: Tensor) -> Array:
    return _matrices(tape, _with_axis(tape.array(a), 0), _with_axis(tape.array(b), 0), out.shape)


@_known("bmm")
def _bmm(tape: Tape, out: Tensor, a: Tensor, b: Tensor) -> Array:
    return _matrices(tape, tape.array(a), tape.array(b), out.shape)


@_known("mv")
def _mv(tape: Tape, out: Tensor, a: Tensor, b: Tensor) -> Array:
    return _matrices(tape, _with_axis(tape.array(a), 0), _with_axis(_with_axis(tape.array(b), 1), 0), out.shape)


@_known("dot", "vdot")
def _dot(tape: Tape, out: Tensor, a: Tensor, b: Tensor) -> Array:
    rows = _with_axis(_with_axis(tape.array(a), 0), 0)
    return _matrices(tape, rows, _with_axis(_with_axis(tape.array(b), 1), 0), out.shape)


@_known("addmm", "baddbmm")
def _addmm(tape: Tape, out: Tensor, more: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Array:
    elements = _Elements(tape, out.shape)
    made: Operand = (_mm if a.ndim == 2 else _bmm)(tape, out, a, b)
    made = made if alpha == 1 else elements("multiply", made, float(alpha))
    given = tape.operand(more)
    given = given if beta == 1 else elements("multiply", given, float(beta))
    return elements.array(elements("add", given, made))


# Operations that put numbers elsewhere, or zeros between them. Torch itself says where: it moves their indices.

MOVES = (
    "cat", "stack", "index", "index_select", "gather", "flip", "roll", "repeat", "triu", "tril", "select_backward",
    "slice_backward", "diagonal_backward", "diag_embed", "take", "rot90", "permute_copy", "diagonal_copy", "view_copy",
    "expand_copy", "slice_scatter", "select_scatter", "diagonal_scatter",
)  # fmt: skip


INDICES = {"index": 1, "index_select": 2, "gather": 2, "take": 1}  # the argument that says where


def _fixed(tape: Tape, places: Any) -> None:
    """Refuse places that depend on factors."""
    if any(map(tape.is_known, _leaves(places))):
        raise Untraceable("where it takes or puts numbers depends on the factors' numbers")


def _move(name: str) -> Operation:
    def operation(tape: Tape, out: Tensor, *given: Any, **more: Any) -> Array:
        sources: list[Array] = []
        count = 0

        def numbered(value: Any) -> Any:
            nonlocal count
            if isinstance(value, list | tuple):
                return [numbered(each) for each in value]
            if not isinstance(value, Tensor):
                return value
            array = tape.array(value)
            sources.append(array)
            count += array.size
            return torch.arange(count - array.size + 1, count + 1).reshape(value.shape)

        which = INDICES.get(name)
        if which is not None:
            _fixed(tape, given[which])
        with untraced():
            arguments = [value if number == which else numbered(value) for number, value in enumerate(given)]
            table = getattr(torch.ops.aten, name)(*arguments, **more)
        return tape.builder.gather(sources, table.reshape(-1).numpy(), out.shape)

    return operation


for _name in MOVES:
    OPERATIONS[_name] = _move(_name)


@_known("constant_pad_nd")
def _pad(tape: Tape, out: Tensor, a: Tensor, pad: Sequence[int], value: float = 0) -> Array:
    array = tape.array(a)
    with untraced():
        numbers = torch.arange(1, array.size + 1).reshape(array.shape)
        table = torch.ops.aten.constant_pad_nd(numbers, pad, array.size + 1)
    around = tape.builder.constant(np.array([float(value)]))
    return tape.builder.gather([array, around], table.reshape(-1).numpy(), out.shape)


def _added(tape: Tape, target: Operand, shape: Sequence[int], places: Tensor, values: Array) -> Array:
    """Values added to elements of a target of that shape, in order, of which several may go to one place."""
    elements = _Elements(tape, shape)
    size, at = math.prod(shape), places.reshape(-1).numpy()
    result = target
    seen = np.zeros(size, np.int64)
    turn = np.zeros(at.size, np.int64)
    for number, index in enumerate(at):
        turn[number] = seen[index]
        seen[index] += 1
    for which in range(int(turn.max(initial=-1)) + 1):
        table = np.zeros(size, np.int64)
        chosen = turn == which
        table[at[chosen]] = np.flatnonzero(chosen) + 1
        part = tape.builder.gather([values], table, shape)
        result = part if result == 0.0 else elements("add", result, part)
    return elements.array(result)


def _numbers(tensor: Tensor) -> Tensor:
    """Each element's place in row-major order."""
    return torch.arange(tensor.numel()).reshape(tensor.shape)


@_known("index_put", "_index_put_impl", "_unsafe_index_put")
def _index_put(
    tape: Tape, out: Tensor, target: Tensor, indices: Any, values: Tensor, accumulate: bool = False, *_: Any
) -> Array:
    _fixed(tape, indices)
    with untraced():
        places = torch.ops.aten.index(_numbers(target), list(indices))
    moved = tape.builder.packed(tape.array(values).expanded(tuple(places.shape)))
    return _placed(tape, target, places, moved, accumulate)


@_known("put")
def _put(tape: Tape, out: Tensor, target: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Array:
    _fixed(tape, index)
    with untraced():
        places = _numbers(target).reshape(-1)[index]
    return _placed(tape, target, places, tape.array(source), accumulate)


def _placed(tape: Tape, target: Tensor, places: Tensor, values: Array, accumulate: bool) -> Array:
    """A target where values are at these places, or are added there."""
    if accumulate:
        return _added(tape, tape.operand(target), target.shape, places, values)
    before = tape.builder.packed(tape.array(target))
    table = np.arange(1, before.size + 1)
    table[places.reshape(-1).numpy()] = before.size + np.arange(1, values.size + 1)
    return tape.builder.gather([before, values], table, target.shape)


@_known("index_add")
def _index_add(
    tape: Tape, out: Tensor, target: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Array:
    _fixed(tape, index)
    with untraced():
        places = _numbers(target).index_select(dim, index)
    values = tape.array(source)
    if alpha != 1:
        values = tape.builder.elementwise("multiply", values.shape, values, float(alpha))
    return _added(tape, tape.operand(target), target.shape, places, values)


@_known("scatter_add")
def _scatter_add(tape: Tape, out: Tensor, target: Tensor, dim: int, index: Tensor, source: Tensor) -> Array:
    _fixed(tape, index)
    with untraced():
        places = _numbers(target).gather(dim, index)
    return _added(tape, tape.operand(target), target.shape, places, tape.array(source))


@_known("unfold_backward")
def _unfold_backward(tape: Tape, out: Tensor, gradient: Tensor, sizes: Any, dim: int, size: int, step: int) -> Array:
    with untraced():
        places = _numbers(out).unfold(dim, size, step)
    return _added(tape, 0.0, out.shape, places, tape.array(gradient))
