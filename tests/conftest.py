"""Shapes in signatures are checked while the tests run; compiled modules are left alone, which numba could not store."""

from pathlib import Path

from jaxtyping import install_import_hook

SOURCE = Path(__file__).parent.parent / "src"
MODULES = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.glob("rankward/**/*.py")]

install_import_hook([name for name in MODULES if not name.split(".")[-1].startswith("_")], "shapecheck.check")
