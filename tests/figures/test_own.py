"""A figure of a user's own: found on the Python path, refused in a line where it cannot be."""

import re

import pytest

from helpers.commands import rankward
from rankward.config import ConfigError
from rankward.figures import check_name

SWEEP = ["-m", "logger=none", "depth=2", "seed=0,1", "max_iterations=100", "hydra.sweep.dir=s"]


@pytest.mark.slow
def test_custom_figure_is_drawn_or_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def draw(sweep):\n    (sweep / 'mine.png').write_bytes(b'drawn')\n    return [sweep / 'mine.png']\n"
    )
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name, line in (
        ("mien", "figures: 'mien' is not allowed; expected one of atlas, conjectures"),
        ("figure11", "or a module of your own with draw(sweep) (did you mean 'figure1'?)"),
        ("broken", "expected a module that can be imported: No module named 'nothing_of_that_name'"),
        ("empty", "or a module of your own with draw(sweep)"),
    ):
        with pytest.raises(ConfigError, match=re.escape(line)):
            check_name(name)
    refused = rankward(*SWEEP, "figures=[broken]", cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and not (tmp_path / "s").exists()
    (tmp_path / "late.py").write_text("def draw(sweep):\n    raise KeyError('nothing to draw')\n")
    done = rankward(*SWEEP, "figures=[late,mine]", cwd=tmp_path)
    assert done.returncode == 1 and "cannot draw late: KeyError: 'nothing to draw'" in done.stderr
    assert "figure:  s/mine.png" in done.stdout and "table:   s/runs.parquet" in done.stdout  # told all the same
    assert (tmp_path / "s" / "mine.png").read_bytes() == b"drawn"
