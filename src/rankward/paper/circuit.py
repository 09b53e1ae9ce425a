"""Figure 3: draw the network of a CP factorization and compare its outputs with the factorization's entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rankward import results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIMS, CHANNELS = (8, 8, 8), 64


def compare(dims: tuple[int, ...] = DIMS, channels: int = CHANNELS, seed: int = 0) -> float:
    """The largest difference between the circuit's outputs on all index tuples and the sum of outer products.

    The circuit's outputs are those of its own forward pass over one-hot vectors; the tensor is NumPy's `einsum` of the
    same weights (Equation 12). Relative to the largest entry, float64.

    Example:
        >>> compare((2, 3), 4) < 1e-14
        True
    """
    import numpy as np
    import torch

    from rankward.models import ConvolutionalArithmeticCircuit

    torch.manual_seed(seed)
    circuit = ConvolutionalArithmeticCircuit(dims, channels).double()
    letters = "abcdefgh"[: len(dims)]
    weights = [factor.detach().numpy() for factor in circuit.factors]
    expected = np.einsum(",".join(f"{letter}r" for letter in letters) + "->" + letters, *weights)
    outputs = circuit.tensor().detach().numpy()
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


def write_circuit(out: Path) -> None:
    """Draw Figure 3 in `figures/` next to `out`, and write the largest difference to `out`.

    Raises:
        ResultsError: files cannot be written.
    """
    from rankward.figures.style import save_drawn

    save_drawn(_diagram, out.parent, "figure3", **{"axes.grid": False})
    text = json.dumps({"dims": DIMS, "channels": CHANNELS, "difference": compare()}) + "\n"
    results.write_atomic(out, lambda path: path.write_text(text, encoding="utf-8"))


def _diagram() -> Figure:
    """Inputs, 1x1 convolution, product pooling, sum."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, Rectangle

    from rankward.figures.style import COLORS

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axis = figure.add_subplot()
    axis.set(xlim=(0, 14.4), ylim=(-0.9, 5.2), aspect="equal")
    axis.axis("off")
    rows = (3.6, 2.5, 0.6)  # inputs 1, 2 and N, from the top
    names = ("1", "2", "N")

    def box(x: float, y: float, width: float, color: str, text: str) -> None:
        axis.add_patch(Rectangle((x, y), width, 0.7, facecolor=color + "30", edgecolor=color, linewidth=1))
        axis.text(x + width / 2, y + 0.35, text, ha="center", va="center", fontsize=9)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, linewidth=0.8, color="0.4"))

    for y, name in zip(rows, names, strict=True):
        box(0.3, y, 2.0, COLORS[0], rf"$\mathbf{{x}}_{name}$")
        box(3.6, y, 4.3, COLORS[1], rf"$\langle\mathbf{{w}}_r^{{({name})}},\,\mathbf{{x}}_{name}\rangle,\ r=1,\dots,R$")
        arrow((2.3, y + 0.35), (3.6, y + 0.35))
        arrow((7.9, y + 0.35), (9.2, 2.45))
    for x in (1.3, 5.7):
        axis.text(x, 1.85, r"$\vdots$", ha="center", va="center", fontsize=12)
    box(9.2, 2.1, 2.5, COLORS[2], r"$\prod_n \langle\mathbf{w}_r^{(n)},\mathbf{x}_n\rangle$")
    box(12.9, 2.1, 1.2, COLORS[3], r"$\sum_r$")
    arrow((11.7, 2.45), (12.9, 2.45))
    titles = ((1.3, "one-hot\ninputs"), (5.75, "1×1 conv\nR channels"), (10.45, "product\npooling"), (13.5, "sum"))
    for x, text in titles:
        axis.text(x, 4.55, text, ha="center", va="bottom", fontsize=8, color="0.3")
    below = (
        r"output at $(i_1,\dots,i_N)$:  $\mathcal{W}_{i_1,\dots,i_N}=\sum_{r=1}^{R}\prod_n (\mathbf{w}_r^{(n)})_{i_n}$"
    )
    axis.text(7.2, -0.55, below, ha="center", va="center", fontsize=9)
    return figure
