"""A figure is the same bytes whatever the user's own style is, and leaves that style as it was."""

import matplotlib
import pytest
from matplotlib.figure import Figure

from helpers.drawn import assert_legends_are_clear
from rankward.figures.style import legend_beneath, save_drawn


def make():
    figure = Figure(figsize=(2, 2), layout="constrained")
    axis = figure.add_subplot()
    axis.plot([1, 2, 3], [2.0, 1.0, 1e5], label="a")
    axis.legend()
    return figure


@pytest.mark.parametrize(
    "own",
    [
        {"text.usetex": True},
        {"lines.linewidth": 9, "figure.facecolor": "red", "savefig.bbox": "tight", "backend": "svg"},
    ],
)
def test_user_style_neither_changes_figures_nor_is_changed(tmp_path, own):
    plain = save_drawn(make, tmp_path / "plain", "f")
    with matplotlib.rc_context(own):
        before = dict(matplotlib.rcParams)
        drawn = save_drawn(make, tmp_path / "own", "f")
        assert dict(matplotlib.rcParams) == before
    assert [path.read_bytes() for path in drawn] == [path.read_bytes() for path in plain]
    assert len(plain) == 3


def test_a_legend_beneath_has_as_many_columns_as_fit():
    columns = {}
    for width in (3.0, 6.0, 12.0):
        figure = Figure(figsize=(width, 3), layout="constrained")
        axis = figure.add_subplot(xlabel="x")
        for name in ("one", "two", "three", "four"):
            axis.plot([1, 2], [1, 2], label=f"{name}: a label of some length")
        legend_beneath(figure, *axis.get_legend_handles_labels(), ncols=4)
        figure.draw_without_rendering()
        assert_legends_are_clear(figure)
        columns[width] = len({round(text.get_window_extent().x0) for text in figure.legends[0].get_texts()})
    assert columns == {3.0: 1, 6.0: 2, 12.0: 4}
