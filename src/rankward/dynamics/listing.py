"""A listing of the code that trains a factorization: its operations, and the generated text or instructions."""

from __future__ import annotations

from math import prod

from rankward.dynamics.graph import Elementwise, Product
from rankward.dynamics.kernels import cache, unrolled
from rankward.dynamics.kernels.blocked import Group, units
from rankward.dynamics.layouts import GraphLayout, Layout
from rankward.dynamics.state import Entries
from rankward.factorizations.base import Chain, Components, Factorization

SHOWN = 8  # factors whose sizes are listed


def listing(layout: Layout, dynamics: str) -> list[str]:
    """Lines about one iteration of a run: what is counted, then what is carried out.

    Args:
        layout: of the factorization.
        dynamics: `descent`, `adaptive`, `flow`, `decaying_flow` or `optimizer`.
    """
    if not isinstance(layout, GraphLayout):
        return ["form: a kernel of its own, for large CP factorizations (kernels/_cp_source.py)"]
    graph = layout.graph.only(*range(1, len(layout.graph.outputs)))
    lines = [
        f"factors: {', '.join('x'.join(map(str, shape)) for shape in layout.shapes)}, {layout.parameters} numbers",
        f"operations: {graph.operations} for the gradient and the step"
        if graph.replaced
        else f"operations: {graph.operations} for the gradient, {layout.parameters * 2} for the step",
        f"form: {layout.form} ({_why(layout)})",
    ]
    if layout.form == "unrolled":
        whole = layout.graph
        text = unrolled.step_source(whole) if whole.replaced else unrolled.source(whole, cache.uses_square(dynamics))
        return [*lines, *text.rstrip().split("\n")]
    return [*lines, "", *map(_instruction, units(graph.steps))]


def indexed_listing(factorization: Factorization, entries: Entries) -> list[str]:
    """Lines about one iteration of a run whose observed entries are listed by index.

    Example:
        >>> from rankward.factorizations import TensorFactorization
        >>> import numpy as np
        >>> three = Entries((2, 2), np.array([[0, 0], [0, 1], [1, 0]]), np.ones(3))
        >>> indexed_listing(TensorFactorization((2, 2), 5), three)[1]
        'entries: 3, each a sum over 5 components of products over 2 modes'
    """
    shapes = ["x".join(map(str, shape)) for shape in factorization.shapes]
    more = f", ... ({len(shapes)} factors)" if len(shapes) > SHOWN else ""
    form = factorization.form
    kind = "chain" if isinstance(form, Chain) else "components"
    each = f"a sum over {min(form.sizes[1:-1])} hidden indices" if isinstance(form, Chain) else ""
    if isinstance(form, Components):
        each = f"a sum over {form.components} components of products over {len(form.dims)} modes"
    return [
        f"factors: {', '.join(shapes[:SHOWN])}{more}, {sum(map(prod, factorization.shapes))} numbers",
        f"entries: {entries.count}, each {each}",
        f"form: kernels for observed entries by index (kernels/_indexed_{kind}_source.py)",
    ]


def _why(layout: GraphLayout) -> str:
    graph = layout.graph
    if layout.form == "unrolled":
        return (
            f"scalar text of its own, up to {cache.UNROLLED_LIMIT} operations with the loss; it has {graph.operations}"
        )
    if layout.form == "blocked":
        return "instructions over arrays, for a loop that is compiled once"
    side = f"{graph.side:.0f}x{graph.side:.0f}"
    return f"matrix products of BLAS, one run at a time: one is as large as of {side}, above {cache.ORDERED_LIMIT}"


def _instruction(unit: Group | Product | object) -> str:
    """An instruction in a line.

    Example:
        >>> _instruction(Group(4, [Elementwise(0, "multiply", (1.0, 2.0)), Elementwise(1, "root", (1.0,))]))
        '4 elements: multiply, root'
    """
    if isinstance(unit, Group):
        names = [step.function if isinstance(step, Elementwise) else "gather" for step in unit.steps]
        return f"{unit.count} elements: {', '.join(names)}"
    if isinstance(unit, Product):
        batch, rows, inner = unit.left.shape
        times = f"{batch} products of " if batch > 1 else ""
        return f"{times}{rows}x{inner} times {inner}x{unit.right.shape[2]}"
    outer, count, inner = unit.array.shape  # type: ignore[attr-defined]
    return f"{outer * inner} sums of {count}"
