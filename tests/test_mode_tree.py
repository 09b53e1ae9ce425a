"""Mode trees: patterns, nested lists, and the order of their nodes."""

import itertools

import pytest

from rankward.mode_tree import PATTERNS, mode_tree


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize(("order", "arity"), [(2, None), (3, 2), (4, None), (7, 3), (13, 2), (16, None), (25, 5)])
def test_every_tree_is_a_partition_of_partitions(name, order, arity):
    if name == "squares":
        order, arity = 4 ** (order % 3 + 1), None
    nodes = mode_tree(name, order, arity).nodes
    assert [node.modes for node in nodes[:order]] == [(mode,) for mode in range(order)]
    assert sorted(nodes[-1].modes) == list(range(order))
    for number, node in enumerate(nodes[order:], start=order):
        assert len(node.children) >= 2 and max(node.children) < number
        assert node.modes == tuple(itertools.chain(*(nodes[child].modes for child in node.children)))
        assert node.level == 1 + max(nodes[child].level for child in node.children)
    assert sorted(itertools.chain(*(node.children for node in nodes))) == list(range(len(nodes) - 1))
    levels = [node.level for node in nodes]
    assert levels == sorted(levels)


@pytest.mark.parametrize(
    ("tree", "order", "arity", "inner"),
    [
        ("neighbours", 4, None, [(0, 1), (2, 3), (0, 1, 2, 3)]),
        ("neighbours", 4, 4, [(0, 1, 2, 3)]),
        ("neighbours", 5, 2, [(0, 1), (2, 3), (0, 1, 2, 3), (0, 1, 2, 3, 4)]),
        ("halves", 4, None, [(0, 2), (1, 3), (0, 2, 1, 3)]),
        ("halves", 6, 3, [(0, 2, 4), (1, 3, 5), (0, 2, 4, 1, 3, 5)]),
        ("squares", 4, None, [(0, 1, 2, 3)]),
        ([[1, 2], [3, 4]], 4, None, [(0, 1), (2, 3), (0, 1, 2, 3)]),
        ([[4, 5], [[3, 1], 2]], 5, None, [(3, 4), (2, 0), (2, 0, 1), (3, 4, 2, 0, 1)]),
    ],
)
def test_inner_nodes_go_from_the_bottom_up_and_left_to_right(tree, order, arity, inner):
    assert [node.modes for node in mode_tree(tree, order, arity).nodes[order:]] == inner


def test_squares_are_patches_of_a_picture():
    first = [node.modes for node in mode_tree("squares", 16).nodes if node.level == 1]
    assert first == [(0, 1, 4, 5), (2, 3, 6, 7), (8, 9, 12, 13), (10, 11, 14, 15)]


@pytest.mark.parametrize(
    ("tree", "order", "why"),
    [
        ("neighbours", 1, "at least 2 modes, not 1"),
        ("sqares", 4, "neighbours, halves, squares, or a nested list"),
        (3, 3, "neighbours, halves, squares, or a nested list"),
        ("squares", 8, "8 is no power of 4"),
        ([[1, 2], [2, 3]], 3, "each mode from 1 to 3 once: mode 2 is there 2 times"),
        ([[1, 2], 4], 4, "mode 3 is missing"),
        ([[0, 1], 2], 3, "there is no mode 0"),
        ([[1, 2], [3, 4]], 3, "there is no mode 4"),
        ([[1], 2], 2, "at least two children"),
        ([], 2, "at least two children"),
        ([1, "2"], 2, "'2' is not one"),
        ([1, True], 2, "True is not one"),
    ],
)
def test_what_is_no_tree_is_refused(tree, order, why):
    with pytest.raises(ValueError, match=why):
        mode_tree(tree, order)
