"""Figures as they are drawn: where their legends stand."""

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg

from rankward.figures import draw, style


def drawn(name, sweep, monkeypatch):
    """The figure that `draw` would save, laid out."""
    figures = []
    with monkeypatch.context() as patched:
        patched.setattr(style, "save", lambda figure, *_: figures.append(figure) or [])
        with matplotlib.rc_context(style.RC):
            draw(name, sweep)
            (figure,) = figures
            figure.draw_without_rendering()
    return figure


def legends(figure):
    """All legends of a figure."""
    return [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]


def assert_legends_are_clear(figure):
    """Every legend lies on the canvas, and on no axes, axis, title or other legend; so do the axes' own labels."""
    canvas, found, renderer = figure.bbox, legends(figure), FigureCanvasAgg(figure).get_renderer()
    boxes = [legend.get_window_extent() for legend in found]
    parts = [part for axis in figure.axes for part in (axis.xaxis, axis.yaxis, axis.title)]
    labels = [box for part in parts if (box := part.get_tightbbox(renderer)) is not None]
    assert boxes
    for box in [*boxes, *labels]:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= canvas.x1 and box.y1 <= canvas.y1, (box, canvas)
    taken = [axis.get_window_extent() for axis in figure.axes] + labels
    for number, box in enumerate(boxes):
        for other in [*taken, *boxes[number + 1 :]]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0
            assert apart or not other.width * other.height, (box, other)
