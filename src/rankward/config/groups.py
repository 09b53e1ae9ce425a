"""The dataclasses of the config groups' choices; each checks itself when it is made. This imports nothing heavy.

The YAML of a user may name no schema. Its node is then a mapping, and `typed`, `as_rate` or `own` makes one of these
dataclasses of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, TypeVar

from omegaconf import MISSING

from rankward.config.checks import (
    array_dims,
    at_least,
    enough_components,
    finite,
    fits_memory,
    level_widths,
    matrix_dims,
    not_negative,
    one_of,
    positive,
    tensor_dims,
    too_much,
    tree_keys,
    tree_numbers,
    tree_of,
)
from rankward.config.choices import HOLDOUT, NOISE, RESERVED, SEPARATORS, UNITS
from rankward.config.errors import ConfigError, InputError, nearest

ACCELERATORS = ("cpu", "gpu", "auto")
FLOAT32_COUNTS = 2**24  # the first integer whose successor float32 does not have
COORDINATES = ("factors", "singular")  # in which a flow is integrated
SINGULAR_NUMBERS = 1_200  # of U, ln sigma and V: a step factorizes a matrix of that size
FIRST_ITERATIONS = 2**31  # at most, of the first part of observations that change
LAYERS = 10_000  # at most: a run of so many 2x2 layers takes half a minute before its first step
PRODUCT_OF_OTHERS = "the product of all dimensions but the largest"
ACTIVATIONS = ("tanh", "relu")
CENTERS = ("mean", "rows", "columns")
DETERMINANTS = ("any", "positive", "negative")
REDUCTIONS = ("half_sum", "mean")
FACTOR_BYTES = 128  # of a parameter: 8, times the number of its copies in memory
MOST_COMPONENTS = 2**40  # that the default number of components may be, before memory is looked at
NODE_BYTES = 24  # of a number of a tensor below a tree's root: 8 each for itself, its gradient, and their sum
DESCENT = "rankward.optimizers.Descent"
MATRIX, SQUARED = "rankward.factorizations.MatrixFactorization", "rankward.losses.Squared"

TENSORLY = {"il2": [13, 4, 12, 8], "covid19": [438, 6, 11], "kinetic": [64, 12, 10, 60]}  # sizes of its data sets

T = TypeVar("T")

# ---------------------------------------------------------------- all groups


@dataclass
class Choice:
    """A choice whose `_target_` is called with its other keys."""

    name: str = MISSING
    _target_: str = MISSING

    def arguments(self) -> dict[str, Any]:
        """The arguments of the `_target_`."""
        return {key: value for key, value in asdict(self).items() if key not in RESERVED}


@dataclass
class Own(Choice):
    """A choice of a user's YAML that names no schema: `keys` are all but its name and its `_target_`."""

    keys: dict[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        return dict(self.keys)


OwnT = TypeVar("OwnT", bound=Own)


def own(kind: type[OwnT], group: str, node: Any) -> Any:
    """A choice of a YAML that names no schema as a `kind`; any dataclass as it is.

    Raises:
        ConfigError: a node that is no mapping.
    """
    if not isinstance(node, Mapping):
        return _dataclass(group, node)
    keys = {str(key): value for key, value in node.items() if key not in RESERVED}
    return kind(name=str(node.get("name")), _target_=str(node.get("_target_", MISSING)), keys=keys)


def typed(kind: type[T], group: str, node: Any) -> Any:
    """A choice of a YAML that names no schema as a `kind`; any dataclass as it is.

    Raises:
        ConfigError: a node that is no mapping, a key that the `kind` does not have.
        InputError: a key that is missing.
    """
    if not isinstance(node, Mapping):
        return _dataclass(group, node)
    known = {each.name: each.default for each in fields(kind)}  # type: ignore[arg-type]
    shown = [name for name in known if name not in RESERVED]
    for key, value in node.items():
        if key not in known:
            raise ConfigError(f"{group}.{key}", value, f"one of {', '.join(shown)}", nearest(str(key), shown))
    for key in shown:
        if known[key] == MISSING and key not in node:
            raise InputError(f"{group}.{key} is not set")
    return kind(**node)


def _dataclass(group: str, node: Any) -> Any:
    if not is_dataclass(node):
        raise ConfigError(group, node, "a mapping")
    return node


# ---------------------------------------------------------------- factorization and depth


@dataclass
class Factorization(Choice):
    """A map from factors to the product that is trained."""

    def check_layers(self, layers: int) -> None:
        """Refuse sizes that do not fit to the number of layers.

        Raises:
            ConfigError: the key.
        """

    def check_memory(self, dims: Sequence[int], layers: int) -> None:
        """Refuse factors that this machine cannot hold, before any is drawn.

        Args:
            dims: sizes of the product. Those of a file are known when it has been read.
            layers: the number of layers.

        Raises:
            InputError: the key that makes them large, the GiB that they need, and those of the machine.
        """


@dataclass
class OwnFactorization(Own, Factorization):
    """A factorization of a user's YAML that names no schema."""


@dataclass
class MatrixFactorization(Factorization):
    """Equation 3: W = W_L ... W_1. `hidden` is one size for all hidden layers, a list of L-1, or null: min(d, d')."""

    hidden: Any = None

    def __post_init__(self) -> None:
        _sizes("factorization.hidden", self.hidden)

    def check_layers(self, layers: int) -> None:
        if isinstance(self.hidden, list) and len(self.hidden) != layers - 1:
            raise ConfigError(
                "factorization.hidden", self.hidden, f"{layers - 1} sizes, one less than depth.layers={layers}"
            )

    def check_memory(self, dims: Sequence[int], layers: int) -> None:
        if len(dims) != 2:
            return
        inner = self.hidden if isinstance(self.hidden, list) else [self.hidden or min(dims)] * (layers - 1)
        factors = sum(below * above for below, above in pairwise([dims[1], *inner, dims[0]]))
        key, value = ("depth.layers", layers) if self.hidden is None else ("factorization.hidden", self.hidden)
        fits_memory(key, value, FACTOR_BYTES * factors)


@dataclass
class TensorFactorization(Factorization):
    """Equation 12: a sum of `components` outer products; null: the product of all dimensions but the largest."""

    components: int | None = None

    def __post_init__(self) -> None:
        if self.components is not None:
            at_least("factorization.components", self.components, 1)

    def check_memory(self, dims: Sequence[int], layers: int) -> None:
        components = self.components or enough_components(dims)
        if self.components is None and components > MOST_COMPONENTS:
            allowed = f"an integer: a tensor of order {len(dims)} may need 10^{math.log10(components):.0f} components"
            raise ConfigError("factorization.components", None, allowed)
        fits_memory("factorization.components", components, FACTOR_BYTES * components * sum(dims))


@dataclass
class SymmetricFactorization(Factorization):
    """W = U U^T - V V^T; `width` is the number of columns of U and of V, null: that of W."""

    width: int | None = None

    def __post_init__(self) -> None:
        if self.width is not None:
            at_least("factorization.width", self.width, 1)


@dataclass
class TuckerFactorization(Factorization):
    """A core and a matrix for each mode. `ranks` is one size of the core, a list, or null: the dimensions."""

    ranks: Any = None

    def __post_init__(self) -> None:
        _sizes("factorization.ranks", self.ranks)


@dataclass
class HierarchicalFactorization(Factorization):
    """Matrices at the nodes of a mode tree, a vector at its root.

    `widths` is one number for all levels of inner nodes, a list from the bottom up, or null: the product of all
    dimensions but the largest. `tree` and `arity` as for `rankward.mode_tree`.
    """

    tree: Any = "neighbours"
    arity: int | None = None
    widths: Any = None

    def __post_init__(self) -> None:
        tree_keys("factorization", self.tree, self.arity)
        _sizes("factorization.widths", self.widths)

    def check_memory(self, dims: Sequence[int], layers: int) -> None:
        if len(dims) < 2:
            return
        tree = tree_of("factorization", self.tree, self.arity, len(dims))
        widths = level_widths("factorization.widths", self.widths or enough_components(dims), tree)
        parameters, below = tree_numbers(tree, dims, widths)
        shown = f"null, {widths[0]} at each level," if self.widths is None else str(self.widths)
        if why := too_much(FACTOR_BYTES * parameters + NODE_BYTES * below):
            raise InputError(f"factorization.widths: {shown} does not fit into memory: {why}")


@dataclass
class NonlinearFactorization(MatrixFactorization):
    """W = W_L φ(W_(L-1) ... φ(W_1)), φ the `activation`; `hidden` as for a matrix factorization."""

    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("factorization.activation", self.activation, ACTIVATIONS)


def _sizes(key: str, value: Any) -> None:
    """Refuse all but null, a size, and a list of sizes."""
    sizes = value if isinstance(value, list) else [] if value is None else [value]
    if value == [] or any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
        raise ConfigError(key, value, "null, an integer of at least 1, or a list of them")


@dataclass
class Depth:
    """Number of factors L of Equation 3; for a diagonal factorization the power."""

    name: Any = MISSING
    layers: Any = 1  # an integer; with `lr.coordinates=singular` any real number

    def __post_init__(self) -> None:
        self.layers = _depth(self.layers)
        at_least("depth.layers", self.layers, 1)
        if self.layers > LAYERS:
            raise ConfigError("depth.layers", self.layers, f"at most {LAYERS:,} layers: more take minutes to start")


def _depth(value: Any) -> Any:
    """A depth as an integer where it is one."""
    with contextlib.suppress(ValueError):
        value = int(value) if isinstance(value, str) else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError("depth.layers", value, "a value" if value is None else "an integer")
    return int(value) if value == int(value) else value


# ---------------------------------------------------------------- learning rate


@dataclass
class ConstantRate:
    """Gradient descent with a fixed step (Equation 4, discretised)."""

    dynamics: ClassVar[str] = "descent"
    name: str = MISSING
    eta: float = MISSING

    def __post_init__(self) -> None:
        positive("lr.eta", self.eta)


@dataclass
class AdaptiveRate(ConstantRate):
    """Steps of eta / (sqrt(gamma) + eps), gamma the bias-corrected running mean of the gradient's square norm."""

    dynamics: ClassVar[str] = "adaptive"
    beta: float = MISSING
    eps: float = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < 1:
            raise ConfigError("lr.beta", self.beta, "a number from 0 to below 1")
        positive("lr.eps", self.eps)


@dataclass
class FlowRate:
    """Gradient flow (Equation 4), with the relative and absolute tolerances of its integration.

    `coordinates` are the factors, or `singular`: singular values and vectors of the product of balanced layers.
    """

    dynamics: ClassVar[str] = "flow"
    name: str = MISSING
    rtol: float = MISSING
    atol: float = MISSING
    max_time: float | None = None
    coordinates: str = "factors"

    def __post_init__(self) -> None:
        one_of("lr.coordinates", self.coordinates, COORDINATES)
        if not 1e-14 <= self.rtol < 1:
            raise ConfigError("lr.rtol", self.rtol, "a number from 1e-14 to below 1")
        positive("lr.atol", self.atol)
        if self.max_time is not None:
            positive("lr.max_time", self.max_time)


@dataclass
class ScheduledRate(Choice):
    """A learning rate of `eta` times the factor of a schedule, its `_target_`, which is called with the other keys."""

    dynamics: ClassVar[str] = "scheduled"
    eta: float = MISSING

    def __post_init__(self) -> None:
        positive("lr.eta", self.eta)

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key != "eta"}

    def check_steps(self, max_iterations: int | None, dtype: str) -> None:
        """Refuse iterations that do not fit to those of the run.

        Args:
            max_iterations, dtype: of the run.

        Raises:
            ConfigError: the key.
        """


@dataclass
class CosineRate(ScheduledRate):
    """A linear warm-up, then a cosine; `decay_steps` counts both, null: `max_iterations`."""

    warmup_steps: int = 0
    decay_steps: int | None = None
    start_factor: float = 0.0
    end_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("lr.warmup_steps", self.warmup_steps, 0)
        if self.decay_steps is not None:
            at_least("lr.decay_steps", self.decay_steps, 1)
            self._check_warmup("lr.decay_steps", self.decay_steps)
        for key in ("start_factor", "end_factor"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"lr.{key}", getattr(self, key), "a number from 0 to 1")
        if self.start_factor and not self.warmup_steps:
            raise ConfigError("lr.start_factor", self.start_factor, "0, as lr.warmup_steps is 0")

    def check_steps(self, max_iterations: int | None, dtype: str) -> None:
        if self.decay_steps is None and max_iterations is not None:
            self._check_warmup("max_iterations", max_iterations)
        steps = self.decay_steps or max_iterations or 0
        if dtype == "float32" and steps > FLOAT32_COUNTS:
            key = "lr.decay_steps" if self.decay_steps else "max_iterations"
            raise ConfigError(key, steps, f"at most {FLOAT32_COUNTS}, to which float32 counts")

    def _check_warmup(self, key: str, steps: int) -> None:
        if self.warmup_steps >= steps:
            raise ConfigError("lr.warmup_steps", self.warmup_steps, f"an integer below {key}={steps}")


@dataclass
class OwnRate(Own, ScheduledRate):
    """A schedule of a user's YAML that names no schema: `keys` are all but its name, its `_target_` and `eta`."""


def as_rate(node: Any) -> Any:
    """A learning rate of a YAML that names no schema, as the one whose keys it has; any dataclass as it is.

    A `_target_` makes it a schedule of the user's own.

    Raises:
        ConfigError: a key that this rate does not have.
        InputError: a key that is missing.
    """
    if isinstance(node, Mapping) and "_target_" in node:
        if "eta" not in node:
            raise InputError("lr.eta is not set")
        own_keys = {str(key): value for key, value in node.items() if key not in (*RESERVED, "eta")}
        return OwnRate(name=str(node.get("name")), _target_=str(node["_target_"]), eta=node["eta"], keys=own_keys)
    kinds: dict[Any, type[ConstantRate] | type[FlowRate]]
    kinds = {
        "rtol": FlowRate,
        "atol": FlowRate,
        "max_time": FlowRate,
        "coordinates": FlowRate,
        "beta": AdaptiveRate,
        "eps": AdaptiveRate,
    }
    keys = node if isinstance(node, Mapping) else ()
    return typed(next((kinds[key] for key in keys if key in kinds), ConstantRate), "lr", node)


# ---------------------------------------------------------------- optimizer


@dataclass
class Optimizer(Choice):
    """A rule for the step from a gradient; the learning rate is that of the group `lr`."""

    weight_decay: float = 0.0
    label_noise: float = 0.0
    gradient_noise: float = 0.0
    batch: int | None = None

    def __post_init__(self) -> None:
        not_negative("optimizer.weight_decay", self.weight_decay)
        _check_noise(self)

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key not in NOISE}

    @property
    def noise(self) -> dict[str, Any]:
        """The keys of the random parts of a step that are not off, with their values."""
        return _noise_of(self)

    @property
    def is_plain(self) -> bool:
        """Whether this is gradient descent without weight decay or noise, which kernels have a loop for."""
        return self._target_ == DESCENT and self.weight_decay == 0 and not self.noise

    @property
    def is_decaying_descent(self) -> bool:
        """Whether this is gradient descent with weight decay, which a flow has, too: dW/dt = -gradient - decay W."""
        return self._target_ == DESCENT and self.weight_decay > 0 and not self.noise


@dataclass
class OwnOptimizer(Own):
    """An optimizer of a user's YAML that names no schema; the keys of `NOISE` are not its own."""

    is_plain: ClassVar[bool] = False
    label_noise: float = 0.0
    gradient_noise: float = 0.0
    batch: int | None = None

    def __post_init__(self) -> None:
        for key, off in NOISE.items():
            setattr(self, key, self.keys.pop(key, off))
        _check_noise(self)

    @property
    def noise(self) -> dict[str, Any]:
        """As `Optimizer.noise`."""
        return _noise_of(self)


def _noise_of(choice: Optimizer | OwnOptimizer) -> dict[str, Any]:
    return {key: getattr(choice, key) for key, off in NOISE.items() if getattr(choice, key) != off}


def _check_noise(choice: Optimizer | OwnOptimizer) -> None:
    """Refuse standard deviations below zero, and minibatches of no entry."""
    for key in ("label_noise", "gradient_noise"):
        not_negative(f"optimizer.{key}", getattr(choice, key))
    if choice.batch is not None:
        if not isinstance(choice.batch, int) or isinstance(choice.batch, bool):
            raise ConfigError("optimizer.batch", choice.batch, "null, or an integer of at least 1")
        at_least("optimizer.batch", choice.batch, 1)


@dataclass
class Momentum(Optimizer):
    """Gradient descent with momentum, as `torch.optim.SGD`."""

    momentum: float = MISSING
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_one("optimizer.momentum", self.momentum)
        if not 0 <= self.dampening <= 1:
            raise ConfigError("optimizer.dampening", self.dampening, "a number from 0 to 1")
        if self.nesterov and not (self.momentum > 0 and self.dampening == 0):
            allowed = "false, or true with optimizer.momentum above 0 and optimizer.dampening=0"
            raise ConfigError("optimizer.nesterov", self.nesterov, allowed)


@dataclass
class Adam(Optimizer):
    """Adam and AdamW, as in torch."""

    betas: list[float] = MISSING
    eps: float = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("optimizer.betas", list(self.betas), "two numbers from 0 to below 1")
        positive("optimizer.eps", self.eps)


@dataclass
class RMSprop(Optimizer):
    """RMSprop, as in torch."""

    alpha: float = MISSING
    eps: float = MISSING
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_one("optimizer.alpha", self.alpha)
        _below_one("optimizer.momentum", self.momentum)
        positive("optimizer.eps", self.eps)


@dataclass
class SignDescent(Optimizer):
    """Sign descent, with momentum Signum."""

    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_one("optimizer.momentum", self.momentum)


@dataclass
class Spectral(Optimizer):
    """Spectral descent, as Muon; `ns_steps` null: the exact orthogonal factor."""

    momentum: float = MISSING
    nesterov: bool = True
    ns_steps: int | None = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_one("optimizer.momentum", self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("optimizer.nesterov", self.nesterov, "false, or true with optimizer.momentum above 0")
        if self.ns_steps is not None and not 1 <= self.ns_steps <= 100:
            raise ConfigError("optimizer.ns_steps", self.ns_steps, "an integer from 1 to 100, or null")


def _below_one(key: str, value: float) -> None:
    """Refuse the weight of a running mean that is not from 0 to below 1."""
    if not 0 <= value < 1:
        raise ConfigError(key, value, "a number from 0 to below 1")


# ---------------------------------------------------------------- loss


@dataclass
class Loss(Choice):
    """A value at each observed entry, and how a run's loss follows from all values.

    `reduction` is `half_sum`, `mean`, or null: the factorization's; see `rankward.losses.Loss`.
    """

    reduction: str | None = None

    def __post_init__(self) -> None:
        if self.reduction is not None:
            one_of("loss.reduction", self.reduction, REDUCTIONS)

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key != "reduction"}


@dataclass
class Huber(Loss):
    """Huber's loss, linear from a residual of size `delta` on."""

    delta: float = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("loss.delta", self.delta)


@dataclass
class OwnLoss(Own):
    """A loss of a user's YAML that names no schema."""

    def __post_init__(self) -> None:
        if self.reduction is not None:
            one_of("loss.reduction", self.reduction, REDUCTIONS)

    @property
    def reduction(self) -> Any:
        """`half_sum`, `mean`, or None where the YAML has no such key."""
        return self.keys.get("reduction")

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in self.keys.items() if key != "reduction"}


# ---------------------------------------------------------------- initialisation


@dataclass
class Init(Choice):
    """The initial factors. Each choice in `conf/init/` explains its `scale` and `determinant`."""

    scale: float = MISSING
    determinant: str = "any"

    def __post_init__(self) -> None:
        positive("init.scale", self.scale)
        one_of("init.determinant", self.determinant, DETERMINANTS)


@dataclass
class OwnInit(Own):
    """An initialisation of a user's YAML that names no schema."""

    @property
    def determinant(self) -> str:
        """The sign of the initial product's determinant; `any` where the YAML has no such key."""
        return str(self.keys.get("determinant", "any"))


@dataclass
class Between(Init):
    """A balanced initialisation plus `unbalance` times an independent one."""

    unbalance: float = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("init.unbalance", self.unbalance)


@dataclass
class Around(Init):
    """Independent normal entries around `mean`."""

    mean: float = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("init.mean", self.mean)


# ---------------------------------------------------------------- observations


@dataclass
class Observations(Choice):
    """Which entries are observed, and their values.

    `holdout` takes some of the observed entries out of training: a fraction, a count, or the path of a file.
    `holdout_seed` is the seed of their draw; null: 0. `center` is what is subtracted from the values before training,
    and `scale` what they are divided by then: both are computed of the entries that are trained on.
    """

    holdout: Any = None
    holdout_seed: int | None = None
    center: str | None = None
    scale: Any = None

    def __post_init__(self) -> None:
        _check_holdout(self.holdout, self.holdout_seed)
        if self.center is not None:
            one_of("observations.center", self.center, CENTERS)
        is_number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if not (self.scale in (None, "std") or (is_number and math.isfinite(self.scale) and self.scale > 0)):
            raise ConfigError("observations.scale", self.scale, "null, std, or a positive finite number")

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in super().arguments().items() if key not in (*HOLDOUT, *UNITS)}

    @property
    def known_dims(self) -> list[int] | None:
        """The product's sizes; None where only the observations themselves tell them."""
        return None

    @property
    def file(self) -> str | None:
        """The path of the file with the observations; None where they are synthetic."""
        return None


def _check_holdout(holdout: Any, seed: Any) -> None:
    """Refuse all but null, a fraction, a count, and a path; and a seed that draws nothing."""
    is_number = isinstance(holdout, int | float) and not isinstance(holdout, bool)
    if is_number:
        allowed = holdout >= 1 if isinstance(holdout, int) else 0 < holdout < 1
    else:
        allowed = holdout is None or (isinstance(holdout, str) and holdout != "")
    if not allowed:
        expected = "a fraction above 0 and below 1, an integer of at least 1, or the path of a file"
        raise ConfigError("observations.holdout", holdout, expected)
    if seed is None:
        return
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError("observations.holdout_seed", seed, "null or an integer of at least 0")
    if not is_number:
        why = "is not set" if holdout is None else "is a file, and nothing is drawn"
        raise ConfigError("observations.holdout_seed", seed, f"null: observations.holdout {why}")
    at_least("observations.holdout_seed", seed, 0)


@dataclass
class OwnObservations(Own, Observations):
    """Observations of a user's YAML that names no schema; `holdout` and `holdout_seed` are not its function's."""

    def __post_init__(self) -> None:
        self.holdout = self.keys.pop("holdout", self.holdout)
        self.holdout_seed = self.keys.pop("holdout_seed", self.holdout_seed)
        super().__post_init__()

    def arguments(self) -> dict[str, Any]:
        return dict(self.keys)

    @property
    def known_dims(self) -> list[int] | None:
        dims = self.keys.get("dims")
        return dims if isinstance(dims, list) else None

    @property
    def file(self) -> str | None:
        path = self.keys.get("path")
        return path if isinstance(path, str) else None


@dataclass
class TwoByTwo(Observations):
    """Equation 6 and its relatives: three observed entries of a 2x2 matrix."""

    b_12: float = 1.0
    b_21: float = 1.0
    b_22: float = 0.0
    unobserved: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("b_12", "b_21", "b_22"):
            finite(f"observations.{key}", getattr(self, key))
        for key in ("b_12", "b_21"):
            if getattr(self, key) == 0:
                raise ConfigError(f"observations.{key}", getattr(self, key), "a number other than 0 (Theorem 2)")
        if len(self.unobserved) != 2 or not set(self.unobserved) <= {0, 1}:
            raise ConfigError("observations.unobserved", list(self.unobserved), "a row and a column, each 0 or 1")


@dataclass
class Dimensions(Observations):
    """Appendix E: ones at (1,2), (2,1) and (i,i) for i >= 3, zeros elsewhere, all observed but (1,1)."""

    dims: list[int] = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        matrix_dims("observations.dims", self.dims, least=2)

    @property
    def known_dims(self) -> list[int] | None:
        return self.dims


@dataclass
class Patterned(Observations):
    """Observed entries in a pattern, with `values` row by row, or those of a random ground truth of rank `rank`."""

    values: list[float] | None = None
    rank: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        mask = self._checked_mask()
        if self.values is None:
            self._check_truth(min(len(mask), len(mask[0])))
            return
        count = sum(map(sum, mask))
        if len(self.values) != count:
            given = f"null, or {count} numbers, one for each observed entry"
            raise ConfigError("observations.values", list(self.values), given)
        for value in self.values:
            finite("observations.values", value)
        for key in ("rank", "seed"):
            if getattr(self, key) is not None:
                why = "null: it is that of a random ground truth, and observations.values is set"
                raise ConfigError(f"observations.{key}", getattr(self, key), why)

    def _check_truth(self, largest: int) -> None:
        if self.rank is None:
            raise ConfigError("observations.rank", None, "an integer of at least 1, as observations.values is null")
        if not 1 <= self.rank <= largest:
            raise ConfigError("observations.rank", self.rank, f"an integer from 1 to {largest}, the smaller dimension")
        if self.seed is not None:
            at_least("observations.seed", self.seed, 0)

    def _checked_mask(self) -> list[list[bool]]:
        """The rows of the mask.

        Raises:
            ConfigError: keys that make none.
        """
        raise NotImplementedError

    @property
    def known_dims(self) -> list[int] | None:
        mask = self._checked_mask()
        return [len(mask), len(mask[0])]


@dataclass
class Diagonal(Patterned):
    """The diagonal of a square matrix; `size` is that of a random ground truth."""

    size: int | None = None

    def _checked_mask(self) -> list[list[bool]]:
        key = "observations.size"
        if self.values is None:
            if self.size is None:
                raise ConfigError(key, None, "an integer of at least 1, as observations.values is null")
            matrix_dims(key, [self.size, self.size])
        elif self.size is not None:
            raise ConfigError(key, self.size, "null: observations.values has as many numbers as the diagonal")
        elif not self.values:
            raise ConfigError("observations.values", [], "null, or a number for each row")
        size = len(self.values) if self.values is not None else self.size or 0
        return [[i == j for j in range(size)] for i in range(size)]


@dataclass
class Blocks(Patterned):
    """Blocks along the diagonal, fully observed; each size is a number, or those of rows and columns."""

    sizes: Any = MISSING

    def _checked_mask(self) -> list[list[bool]]:
        key = "observations.sizes"
        sizes = self.sizes if isinstance(self.sizes, list) else []
        pairs = [list(each) if isinstance(each, list) else [each, each] for each in sizes]
        whole = all(
            len(pair) == 2 and all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in pair)
            for pair in pairs
        )
        if not pairs or not whole:
            raise ConfigError(
                key, self.sizes, "a list of integers of at least 1, or of pairs of them: rows and columns"
            )
        rows, cols = map(sum, zip(*pairs, strict=True))
        matrix_dims(key, [rows, cols])
        ends = list(accumulate(cols for _, cols in pairs))
        starts = [0, *ends[:-1]]
        return [
            [start <= j < end for j in range(cols)]
            for (height, _), start, end in zip(pairs, starts, ends, strict=True)
            for _ in range(height)
        ]


@dataclass
class Pattern(Patterned):
    """Observed entries as rows of 0 and 1, separated by /."""

    pattern: Any = MISSING

    def _checked_mask(self) -> list[list[bool]]:
        rows = str(self.pattern).split("/")
        if not all(rows) or len({len(row) for row in rows}) > 1 or not set("".join(rows)) <= set("01"):
            raise ConfigError("observations.pattern", self.pattern, "rows of 0 and 1 of one length, separated by /")
        if "1" not in str(self.pattern):
            raise ConfigError("observations.pattern", self.pattern, "a pattern with at least one 1")
        matrix_dims("observations.pattern", [len(rows), len(rows[0])])
        return [[letter == "1" for letter in row] for row in rows]


@dataclass
class RandomTruth(Observations):
    """`count` observations of a random ground truth of rank `rank`, with noise of standard deviation `noise`."""

    dims: list[int] = MISSING
    rank: int = MISSING
    count: int = MISSING
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_dims()
        self._check_rank()
        self._check_count()
        not_negative("observations.noise", self.noise)
        at_least("observations.seed", self.seed, 0)

    @property
    def known_dims(self) -> list[int] | None:
        return self.dims

    def _check_dims(self) -> None:
        matrix_dims("observations.dims", self.dims)

    def _check_rank(self) -> None:
        largest = self._largest_rank()
        if not 1 <= self.rank <= largest:
            raise ConfigError("observations.rank", self.rank, f"an integer from 1 to {largest}, {self._limit()}")

    def _largest_rank(self) -> int:
        return enough_components(self.dims)

    def _limit(self) -> str:
        return "the smaller dimension"

    def _check_count(self) -> None:
        entries = math.prod(self.dims)
        if not 1 <= self.count <= entries:
            raise ConfigError(
                "observations.count", self.count, f"an integer from 1 to {entries}, the number of entries"
            )


@dataclass
class RandomTensor(RandomTruth):
    """`count` entries, drawn without replacement, of a sum of `rank` random outer products (Section 4.2)."""

    def _check_dims(self) -> None:
        tensor_dims("observations.dims", self.dims)

    def _limit(self) -> str:
        return PRODUCT_OF_OTHERS


@dataclass
class HierarchicalTruth(RandomTensor):
    """`count` entries of a random tensor of a hierarchical rank and of Frobenius norm `norm`.

    `rank` is one number for all levels of the tree, or a list from the bottom up.
    """

    rank: Any = MISSING
    tree: Any = "neighbours"
    arity: int | None = None
    norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("observations.norm", self.norm)

    def _check_rank(self) -> None:
        largest = self._largest_rank()
        ranks = self.rank if isinstance(self.rank, list) and self.rank else [self.rank]
        if any(not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= largest for rank in ranks):
            allowed = f"an integer from 1 to {largest}, {self._limit()}, or a list of them"
            raise ConfigError("observations.rank", self.rank, allowed)
        tree = tree_of("observations", self.tree, self.arity, len(self.dims))
        parameters, below = tree_numbers(tree, self.dims, level_widths("observations.rank", self.rank, tree))
        fits_memory("observations.rank", self.rank, 8 * (parameters + below))


@dataclass
class EarlierTruth:
    """The ground truth of a run's first part: it is observed up to iteration `until`; 0: there is no such part."""

    until: int = MISSING
    rank: int = MISSING


@dataclass
class Changing(RandomTruth):
    """`count` entries of a random ground truth, and before them, at the same places, those of another one."""

    schedule: EarlierTruth = field(default_factory=EarlierTruth)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("observations.schedule.until", self.schedule.until, 0)
        if self.schedule.until > FIRST_ITERATIONS:
            allowed = f"at most {FIRST_ITERATIONS:,} iterations"
            raise ConfigError("observations.schedule.until", self.schedule.until, allowed)
        for key in (*HOLDOUT, *UNITS):
            if getattr(self, key) is not None:
                raise ConfigError(f"observations.{key}", getattr(self, key), "null: the observed values change")

    def _check_dims(self) -> None:
        array_dims("observations.dims", self.dims)
        if len(self.dims) == 1:
            raise ConfigError("observations.dims", list(self.dims), "two or more sizes: those of a matrix or a tensor")

    def _check_rank(self) -> None:
        largest = self._largest_rank()
        for key, rank in (("rank", self.rank), ("schedule.rank", self.schedule.rank)):
            if not 1 <= rank <= largest:
                raise ConfigError(f"observations.{key}", rank, f"an integer from 1 to {largest}, {self._limit()}")

    def _limit(self) -> str:
        return super()._limit() if len(self.dims) == 2 else PRODUCT_OF_OTHERS


@dataclass
class Sensing(RandomTruth):
    """`count` Gaussian measurements <A_i, W> of a random ground truth; `rank` is a vector's number of non-zeros."""

    def _check_dims(self) -> None:
        array_dims("observations.dims", self.dims)

    def _largest_rank(self) -> int:
        return self.dims[0] if len(self.dims) == 1 else super()._largest_rank()

    def _limit(self) -> str:
        return {1: "the number of entries", 2: super()._limit()}.get(len(self.dims), PRODUCT_OF_OTHERS)

    def _check_count(self) -> None:
        at_least("observations.count", self.count, 1)
        # 8 bytes a number: the draw, the normalised matrices, and copies for the ensemble and for the engine.
        fits_memory("observations.count", self.count, 40 * self.count * math.prod(self.dims))


class OfFile:
    """Properties that all observations of a file share; their dataclasses have the fields."""

    path: str
    dims: list[int] | None
    separator: str | None
    decimal: str | None

    @property
    def known_dims(self) -> list[int] | None:
        return self.dims

    @property
    def file(self) -> str | None:
        return self.path


@dataclass
class File(OfFile, Observations):
    """Observations from a file. `count` keeps the first n in its order, null keeps all; `dims` are the array's sizes.

    `ground_truth` is a file with the whole array, for `error/reconstruction` (absolute). `separator` and `decimal` are
    those of a text file, `array` is the name of one of several arrays.
    """

    path: str = MISSING
    count: int | None = None
    dims: list[int] | None = None
    ground_truth: str | None = None
    separator: str | None = None
    decimal: str | None = None
    array: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_file(self)
        if self.count is not None:
            at_least("observations.count", self.count, 1)


@dataclass
class Ratings(OfFile, Observations):
    """A list of entries in a file, with the data's own ids."""

    path: str = MISSING
    columns: list[Any] | None = None
    ids: Any = None
    duplicates: str | None = None
    header: bool | None = None
    separator: str | None = None
    decimal: str | None = None
    dims: list[int] | None = None
    count: int | None = None
    ground_truth: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_file(self)
        if self.count is not None:
            at_least("observations.count", self.count, 1)
        if self.ids is not None and (isinstance(self.ids, bool) or self.ids not in (0, 1, "names")):
            raise ConfigError("observations.ids", self.ids, "null, 0, 1 or names")
        if self.duplicates is not None:
            one_of("observations.duplicates", self.duplicates, ("mean", "last"))
        _check_columns(self.columns, self.header, self.dims)


@dataclass
class Matrix(OfFile, Observations):
    """A whole matrix or tensor in a file, with holes where it is not observed."""

    path: str = MISSING
    dims: list[int] | None = None
    ground_truth: str | None = None
    separator: str | None = None
    decimal: str | None = None
    array: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_file(self)


@dataclass
class TensorlyData(Observations):
    """A tensor of an experiment that the package tensorly ships."""

    dataset: str = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("observations.dataset", self.dataset, tuple(TENSORLY))

    @property
    def known_dims(self) -> list[int] | None:
        return TENSORLY[self.dataset]


def _check_file(node: OfFile) -> None:
    """Refuse sizes of no array, and separators and decimal marks that no file has."""
    if node.dims is not None:
        array_dims("observations.dims", node.dims)
    if node.separator is not None:
        one_of("observations.separator", node.separator, SEPARATORS)
    if node.decimal is not None:
        one_of("observations.decimal", node.decimal, ("point", "comma"))


def _check_columns(columns: list[Any] | None, header: bool | None, dims: list[int] | None) -> None:
    """Refuse all but a list of columns, one of ids for each axis and one of values."""
    if columns is None:
        return
    is_column = [isinstance(each, int | str) and not isinstance(each, bool) and each not in (0, "") for each in columns]
    if len(columns) < 2 or not all(is_column) or any(isinstance(each, int) and each < 1 for each in columns):
        allowed = (
            "numbers from 1 or names of the columns of the ids and, last, of the value, such as [user,item,rating]"
        )
        raise ConfigError("observations.columns", list(columns), allowed)
    if dims is not None and len(columns) != len(dims) + 1:
        allowed = f"{len(dims) + 1} columns, as observations.dims has {len(dims)} sizes"
        raise ConfigError("observations.columns", list(columns), allowed)
    if header is False and any(isinstance(each, str) for each in columns):
        raise ConfigError("observations.columns", list(columns), "numbers: observations.header is false")


@dataclass
class Images(Observations):
    """Images as entries of a tensor, a pixel an axis: the value is `targets[0]` at those of a label, else `targets[1]`.

    `labels` and `images` are true, or `random`, and `seed` is that of what is random; null: 0.
    """

    label: int = 6
    targets: list[float] = field(default_factory=lambda: [2.0, 0.0])
    threshold: float = MISSING
    labels: Any = True
    images: Any = True
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.targets) != 2 or not all(map(math.isfinite, self.targets)) or len(set(self.targets)) < 2:
            raise ConfigError("observations.targets", list(self.targets), "two different finite numbers")
        finite("observations.threshold", self.threshold)
        for key in ("labels", "images"):
            if getattr(self, key) is not True and getattr(self, key) != "random":
                raise ConfigError(f"observations.{key}", getattr(self, key), "true or random")
        if self.seed is not None:
            at_least("observations.seed", self.seed, 0)
            if self.labels is True and self.images is True:
                allowed = "null: neither observations.labels nor observations.images is random"
                raise ConfigError("observations.seed", self.seed, allowed)


@dataclass
class ImageFiles(Images):
    """Images in files, with their labels; those of a second set are held out."""

    path: str = MISSING
    labels_path: str | None = None
    test_path: str | None = None
    test_labels_path: str | None = None
    label_column: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_column is not None:
            one_of("observations.label_column", self.label_column, ("first", "last"))
        if self.count is not None:
            at_least("observations.count", self.count, 1)

    @property
    def file(self) -> str | None:
        return self.path


# ---------------------------------------------------------------- metrics, loggers, trainer


@dataclass
class Metrics:
    """Columns of the trace, each a `TraceMetric` and its arguments; and statements to check runs against.

    `columns.key=null` and `certificates.key=null` switch one off.
    """

    name: str = MISSING
    columns: dict[str, Any] = field(default_factory=dict)
    certificates: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("columns", "certificates"):
            nodes = getattr(self, key) or {}
            setattr(self, key, {name: node for name, node in nodes.items() if node is not None})


@dataclass
class WandbLogger:
    """Weights & Biases. A key that is null is read from the environment (`rankward.loggers.wandb_environment`)."""

    name: str = MISSING
    project: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    offline: bool | None = None

    def __post_init__(self) -> None:  # the rules that W&B applies when a run starts
        if self.project is not None and (len(self.project) > 128 or set(self.project) & set("/\\#?%:")):
            allowed = "at most 128 characters, none of / \\ # ? % :"
            raise ConfigError("logger.wandb.project", self.project, allowed)
        if not all(1 <= len(tag) <= 64 for tag in self.tags):
            raise ConfigError("logger.wandb.tags", self.tags, "tags of 1 to 64 characters")


@dataclass
class FileLogger:
    """A logger that writes files into the run's folder (TensorBoard, CSV)."""

    name: str = MISSING


@dataclass
class Trainer:
    """The devices that train the ensemble, through Lightning."""

    name: str = MISSING
    accelerator: str = "cpu"
    threads: int | None = None
    devices: int = 1
    tf32: bool = False

    def __post_init__(self) -> None:
        one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        if self.threads is not None:
            at_least("trainer.threads", self.threads, 1)
        at_least("trainer.devices", self.devices, 1)
        if self.devices > 1 and self.accelerator != "gpu":
            raise ConfigError(
                "trainer.devices", self.devices, "1, or trainer=gpu; a processor's cores are trainer.threads"
            )


@dataclass
class Record:
    """The iterations that are recorded; with `every` null these are the logarithmic schedule of `conf/config.yaml`."""

    every: int | None = None
    iteration_ratio: float = 1.02
    loss_ratio: float = 0.95
    product: bool = False


@dataclass
class StopPlateau:
    """A stop where the loss has changed by at most `tolerance`, relative, in `window` iterations; both null: never."""

    window: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            at_least("stop_plateau.window", self.window, 1)
        if self.tolerance is not None:
            not_negative("stop_plateau.tolerance", self.tolerance)
        if self.window is None and self.tolerance is not None:
            raise InputError("stop_plateau.window is not set: stop_plateau.tolerance needs it")
        if self.tolerance is None and self.window is not None:
            raise InputError("stop_plateau.tolerance is not set: stop_plateau.window needs it")


@dataclass
class Checkpoint:
    """The seconds between two checkpoints; null saves one only on interruption."""

    seconds: float | None = 60.0
