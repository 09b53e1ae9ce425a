"""A figure is the same bytes whatever the user's own style is, and leaves that style as it was."""

import matplotlib
import pytest
from matplotlib.figure import Figure

from rankward.figures.style import save_drawn


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
