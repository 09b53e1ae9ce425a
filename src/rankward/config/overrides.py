"""Group choices that look like numbers: Hydra takes `depth=3` for an integer, and an integer is no choice to it."""

from __future__ import annotations

import re
from pathlib import Path


def numbered_groups(config_folder: Path) -> set[str]:
    """Groups with a choice whose name is a number."""
    return {file.parent.name for file in config_folder.glob("*/*.yaml") if file.stem.isdigit()}


def quoted(override: str, groups: set[str]) -> str:
    """`depth=3` as `depth='3'`, where depth is one of `groups`; any other override as it is.

    Example:
        >>> quoted("depth=3", {"depth"}), quoted("seed=3", {"depth"}), quoted("depth=2,3", {"depth"})
        ("depth='3'", 'seed=3', 'depth=2,3')
    """
    key, _, value = override.partition("=")
    return f"{key}='{value}'" if key in groups and re.fullmatch(r"-?\d+", value) else override
