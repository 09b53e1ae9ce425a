"""Shapes in signatures are checked while the tests run; modules whose name begins with _ are left alone: compiled ones, which
numba could not store, and one that makes functions as it goes, each of which the hook would take a millisecond over."""

from pathlib import Path

from jaxtyping import install_import_hook

import helpers.shapecheck  # noqa: F401 - named below

SOURCE = Path(__file__).parent.parent / "src"
MODULES = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.glob("rankward/**/*.py")]

install_import_hook([name for name in MODULES if not name.split(".")[-1].startswith("_")], "helpers.shapecheck.check")
