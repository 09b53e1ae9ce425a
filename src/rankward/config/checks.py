"""Checks of single values. Each raises an error that names the key."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankward.config.errors import ConfigError, InputError, nearest
from rankward.mode_tree import PATTERNS, ModeTree, check_nested, mode_tree

GIB = 2**30
AXES = 25  # at most, of a tensor: each has a letter in an Einstein sum
ENTRY_BYTES = 64  # for an entry of the observed array: 8 each for truth, draw, noise, values and product, and masks
LARGEST = 2**63  # the first integer that 64 bits do not hold


def positive(key: str, value: float) -> None:
    """Refuse a number that is not positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(key, value, "a positive finite number")


def finite(key: str, value: float) -> None:
    """Refuse NaN and infinity."""
    if not math.isfinite(value):
        raise ConfigError(key, value, "a finite number")


def not_negative(key: str, value: Any) -> None:
    """Refuse all but finite numbers of at least 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and value >= 0):
        raise ConfigError(key, value, "a finite number of at least 0")


def at_least(key: str, value: int, least: int) -> None:
    """Refuse an integer below `least`, and one that 64 bits do not hold."""
    if value < least:
        raise ConfigError(key, value, f"an integer of at least {least}")
    if value >= LARGEST:
        raise ConfigError(key, value, "an integer below 2^63")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a name that is not one of those allowed."""
    if value not in allowed:
        raise ConfigError(key, value, "one of " + ", ".join(allowed), nearest(value, allowed))


def matrix_dims(key: str, dims: list[int], least: int = 1) -> None:
    """Refuse all but two sizes of a matrix that fits into memory."""
    if len(dims) != 2 or min(dims) < least:
        raise ConfigError(key, list(dims), f"two integers of at least {least}")
    fits_memory(key, list(dims), ENTRY_BYTES * math.prod(dims))


def array_dims(key: str, dims: list[int]) -> None:
    """Refuse all but one or more sizes of an array that fits into memory."""
    if not 1 <= len(dims) <= AXES or min(dims) < 1:
        raise ConfigError(key, list(dims), f"one or more integers of at least 1, {AXES} at most")
    fits_memory(key, list(dims), ENTRY_BYTES * math.prod(dims))


def tensor_dims(key: str, dims: list[int]) -> None:
    """Refuse all but two or more sizes of an array that fits into memory."""
    if not 2 <= len(dims) <= AXES or min(dims) < 1:
        raise ConfigError(key, list(dims), f"two or more integers of at least 1, {AXES} at most")
    fits_memory(key, list(dims), ENTRY_BYTES * math.prod(dims))


def enough_components(dims: Sequence[int]) -> int:
    """Number of outer products that suffice for every tensor of these sizes: the product of all but the largest.

    Example:
        >>> enough_components([8, 8, 8]), enough_components([4, 5])
        (64, 4)
    """
    return math.prod(dims) // max(dims)


def tree_keys(group: str, tree: Any, arity: int | None) -> None:
    """Refuse a mode tree that no tensor has, and an arity without effect."""
    nested = not isinstance(tree, str)
    if nested:
        try:
            check_nested(tree)
        except ValueError as error:
            raise ConfigError(f"{group}.tree", tree, str(error)) from error
    else:
        one_of(f"{group}.tree", tree, PATTERNS)
    if arity is not None and (nested or tree == "squares"):
        why = "the nested list has the children of each node" if nested else "a node of squares has 4 children"
        raise ConfigError(f"{group}.arity", arity, f"null: {why}")
    if arity is not None:
        at_least(f"{group}.arity", arity, 2)


def tree_of(group: str, tree: Any, arity: int | None, order: int) -> ModeTree:
    """The mode tree of a group's keys for a tensor of this order."""
    tree_keys(group, tree, arity)
    try:
        return mode_tree(tree, order, arity)
    except ValueError as error:
        raise ConfigError(f"{group}.tree", tree, str(error)) from error


def level_widths(key: str, widths: Any, tree: ModeTree) -> tuple[int, ...]:
    """One width for each level of inner nodes, of an integer for all levels or a list from the bottom up."""
    if not isinstance(widths, int) and len(widths) != tree.levels:
        raise ConfigError(
            key, list(widths), f"{tree.levels} of them, one for each level of inner nodes, or one integer"
        )
    made = (widths,) * tree.levels if isinstance(widths, int) else tuple(widths)
    if min(made) < 1:
        raise ConfigError(key, widths, "integers of at least 1")
    return made


def tree_numbers(tree: ModeTree, dims: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    """Numbers of a hierarchical factorization's parameters, and of the tensors below its root.

    Example:
        >>> tree_numbers(mode_tree("neighbours", 4), (8, 8, 8, 8), (5, 3))
        (193, 1024)
    """
    shapes = tree.shapes(dims, widths)
    rows = [math.prod(dims[mode] for mode in node.modes) for node in tree.nodes]
    below = sum(rows[number] * sum(shapes[number]) for number, node in enumerate(tree.nodes[:-1]) if node.children)
    return sum(map(math.prod, shapes)), below


def machine_memory() -> float:
    """Bytes of memory that this machine, the container, or a limit of the process (`ulimit -v`) allows.

    It is infinite where none of them is known.

    Example:
        >>> machine_memory() > 0
        True
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no control group of the second version, or "max"
        limit = math.inf
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

        address = getrlimit(RLIMIT_AS)[0]
        limit = limit if address == RLIM_INFINITY else min(limit, address)
    except ImportError:  # not on Windows
        pass
    return min(physical, limit)


def fits_memory(key: str, value: object, needed: float) -> None:
    """Refuse a value that needs more bytes than this machine has."""
    if why := too_much(needed):
        shown = repr(value) if isinstance(value, str) else str(value)
        raise InputError(f"{key}: {shown} does not fit into memory: {why}")


def too_much(needed: float) -> str:
    """A sentence with the GiB needed and the GiB of this machine where these are fewer; else an empty text.

    Example:
        >>> too_much(1), too_much(2**70)[:27]
        ('', 'it needs 1.1e+12 GiB, this ')
    """
    available = machine_memory()
    gib = min(needed, 10**300) / GIB
    shown = f"{gib:,.1f}" if gib < 1e9 else f"{gib:.2g}"
    return f"it needs {shown} GiB, this machine has {available / GIB:.1f} GiB" if needed > available else ""
