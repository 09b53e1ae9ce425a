"""Where the YAML files of the config groups stand."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# The wheel carries the configs inside the package, a checkout has them at its top.
CONFIG_FOLDER = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
