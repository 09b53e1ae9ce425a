"""Shapes in signatures are checked while the tests run; kernels of one test run are kept for the next."""

from jaxtyping import install_import_hook

install_import_hook("rankward", "shapecheck.check")
