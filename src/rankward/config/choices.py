"""The folder of the config groups' YAML files, and the choices that these files are."""

import functools
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# A wheel has the configs inside the package, a checkout at its top.
CONFIG_FOLDER = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"

RESERVED = ("_target_", "name")  # keys of a choice that are no arguments of its `_target_`
HOLDOUT = ("holdout", "holdout_seed")  # of observations; no arguments either
UNITS = ("center", "scale")  # likewise, but not of a user's own observations, whose function may have such arguments
# Keys of Rankward's observations that are recorded only if they are set, as in configs of versions without these keys.
LATER = (*UNITS, "separator", "decimal", "array")
SEPARATORS = ("comma", "tab", "semicolon", "colons", "bar", "spaces")  # of the cells of text files
WORDS = ("ids", "duplicates", "labels", "images", "label_column")  # whose texts never name a file, likewise
NOISE = {"label_noise": 0.0, "gradient_noise": 0.0, "batch": None}  # of optimizers, likewise; values that are off


@functools.cache
def choices() -> dict[str, list[str]]:
    """The names of the choices of each group.

    Example:
        >>> choices()["depth"]
        ['1', '2', '3', '4', '5', '6']
    """
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(CONFIG_FOLDER.iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }
