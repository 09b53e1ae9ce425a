"""Mode trees: which modes of a tensor a hierarchical factorization joins, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

PATTERNS = ("neighbours", "halves", "squares")


@dataclass(frozen=True)
class Node:
    """A set of modes.

    Args:
        modes: numbered from 0, in the order of the tree's leaves.
        children: their numbers in `ModeTree.nodes`, from left to right; none for a leaf.
        level: 0 for a leaf; for an inner node one more than the highest level of its children.
    """

    modes: tuple[int, ...]
    children: tuple[int, ...]
    level: int


@dataclass(frozen=True)
class ModeTree:
    """A tree over the modes of a tensor: each inner node is the union of its children, and the root has all modes.

    Args:
        nodes: the leaves in the order of the modes, then the inner nodes level by level and from left to right, so that
            the root is last. This is the order of a hierarchical factorization's factors.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Hierarchical Tensor Factorization and Deep
    Convolutional Neural Networks" (ICML 2022); the modes are numbered from 0 here.

    Example:
        >>> [node.modes for node in mode_tree("neighbours", 4).nodes]
        [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2, 3)]
        >>> mode_tree("neighbours", 4).shapes((8, 8, 8, 8), (5, 3))
        [(8, 5), (8, 5), (8, 5), (8, 5), (5, 3), (5, 3), (3,)]
    """

    nodes: tuple[Node, ...]

    @property
    def root(self) -> Node:
        """The node of all modes."""
        return self.nodes[-1]

    @property
    def order(self) -> int:
        """The number of modes."""
        return len(self.root.modes)

    @property
    def levels(self) -> int:
        """The number of levels of inner nodes, the root's included."""
        return self.root.level

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """The number of each node's parent, without one for the root."""
        found = {child: number for number, node in enumerate(self.nodes) for child in node.children}
        return tuple(found[number] for number in range(len(self.nodes) - 1))

    def shapes(self, dims: Sequence[int], widths: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes of the factors, in the order of `nodes`.

        A leaf has [its dimension, its parent's width], an inner node [its width, its parent's width], and the root a
        vector of its width.

        Args:
            dims: one for each mode.
            widths: one for each level of inner nodes, from the bottom up.
        """
        own = [widths[node.level - 1] if node.children else dims[node.modes[0]] for node in self.nodes]
        return [*((own[number], own[parent]) for number, parent in enumerate(self.parents)), (own[-1],)]


def mode_tree(tree: Any, order: int, arity: int | None = None) -> ModeTree:
    """Make the mode tree of a pattern, or of a nested list.

    Args:
        tree: `neighbours` joins `arity` modes that follow each other, then such groups, up to the root; `halves` joins
            those that lie half of the modes apart (for another arity, that part of the modes); `squares` joins patches
            of 2x2 modes of a square picture in row-major order. Where modes are left over, the last group of
            `neighbours` or `halves` has fewer, and a group of one goes up unchanged. A nested list names the modes from
            1, such as [[1, 2], [3, 4]].
        order: the number of modes.
        arity: children of a node; None: 2, or 4 for `squares`.

    Raises:
        ValueError: the allowed values, for a tree that is not one of these, does not have each mode from 1 to the
            order once, has an inner node with fewer than two children, or has an `arity` that it cannot have.

    Example:
        >>> [node.modes for node in mode_tree("halves", 4).nodes[4:]]
        [(0, 2), (1, 3), (0, 2, 1, 3)]
        >>> [node.modes for node in mode_tree([[1, 3], 2], 3).nodes[3:]]
        [(0, 2), (0, 2, 1)]
        >>> mode_tree("squares", 16).nodes[16].modes
        (0, 1, 4, 5)
    """
    if order < 2:
        raise ValueError(f"a tensor of at least 2 modes, not {order}")
    nested = _pattern(tree, order, arity) if isinstance(tree, str) else tree
    check_nested(nested, order)
    return ModeTree(tuple(_nodes(nested, order)))


def check_nested(nested: Any, order: int | None = None) -> None:
    """Refuse all but a nested list with each of the modes 1, 2, ... once.

    Args:
        order: the number of modes; None: as many as there are.

    Raises:
        ValueError: the allowed values.
    """
    if not isinstance(nested, Sequence) or isinstance(nested, str):
        raise ValueError(f"{', '.join(PATTERNS)}, or a nested list of modes such as [[1,2],[3,4]]")
    modes = list(_leaves(nested))
    count = len(modes) if order is None else order
    expected = f"each mode from 1 to {count} once"
    for mode in modes:
        if not 1 <= mode <= count:
            raise ValueError(f"{expected}: there is no mode {mode}")
        if modes.count(mode) > 1:
            raise ValueError(f"{expected}: mode {mode} is there {modes.count(mode)} times")
    if absent := sorted(set(range(1, count + 1)) - set(modes)):
        raise ValueError(f"{expected}: mode {absent[0]} is missing")


def _leaves(nested: Any) -> Iterator[int]:
    """The modes of a nested list, from left to right."""
    if isinstance(nested, int) and not isinstance(nested, bool):
        yield nested
        return
    if not isinstance(nested, Sequence) or isinstance(nested, str):
        raise ValueError(f"a nested list of integers: {nested!r} is not one")
    if len(nested) < 2:
        raise ValueError(f"at least two children for each inner node: {list(nested)} has {len(nested)}")
    for child in nested:
        yield from _leaves(child)


def _pattern(name: str, order: int, arity: int | None) -> Any:
    """The nested list of a pattern."""
    if name not in PATTERNS:
        raise ValueError(f"{', '.join(PATTERNS)}, or a nested list of modes such as [[1,2],[3,4]]")
    groups: list[Any] = list(range(1, order + 1))
    if name == "squares":
        if 4 ** (order.bit_length() // 2) != order:
            raise ValueError(f"neighbours, halves or a nested list: {order} is no power of 4, which squares need")
        while len(groups) > 1:
            side = 2 ** (len(groups).bit_length() // 2)
            corners = [row * side + column for row in range(0, side, 2) for column in range(0, side, 2)]
            groups = [[groups[at + step] for step in (0, 1, side, side + 1)] for at in corners]
        return groups[0]
    children = 2 if arity is None else arity
    while len(groups) > 1:
        count = -(-len(groups) // children)
        if name == "halves":
            parts = [groups[first::count] for first in range(count)]
        else:
            parts = [groups[children * first : children * (first + 1)] for first in range(count)]
        groups = [part if len(part) > 1 else part[0] for part in parts]
    return groups[0]


def _nodes(nested: Any, order: int) -> list[Node]:
    """The nodes of a nested list, in the order of `ModeTree.nodes`."""
    inner: list[tuple[int, tuple[int, ...], Any]] = []  # level, modes, and the children's modes

    def visit(child: Any) -> tuple[int, tuple[int, ...]]:
        if isinstance(child, int):
            return 0, (child - 1,)
        below = [visit(each) for each in child]
        made = 1 + max(level for level, _ in below), sum((modes for _, modes in below), ())
        inner.append((*made, [modes for _, modes in below]))
        return made

    _, leaves = visit(nested)
    inner.sort(key=lambda node: (node[0], leaves.index(node[1][0])))
    numbers = {(mode,): mode for mode in range(order)} | {modes: order + at for at, (_, modes, _) in enumerate(inner)}
    return [
        *(Node((mode,), (), 0) for mode in range(order)),
        *(Node(modes, tuple(numbers[each] for each in below), level) for level, modes, below in inner),
    ]
