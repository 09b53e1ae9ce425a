"""Optional packages, by the extra of `pip install` that has them."""

from __future__ import annotations

import importlib

from rankward.config.errors import InputError

PACKAGES = {
    "tensorboard": ("tensorboard",),
    "cluster": ("submitit",),
    "report": ("jinja2", "plotly"),
    "workspace": ("wandb_workspaces",),
    "pandas": ("pandas", "pyarrow"),
    "gpu": ("numba_cuda",),
}


class MissingPackage(InputError):
    """A feature that needs a package which cannot be imported."""

    def __init__(self, feature: str, package: str, extra: str, error: ImportError) -> None:
        name = package.replace("_", "-")
        super().__init__(f"{feature} needs {name} ({error}): pip install 'rankward[{extra}]'")


def require(extra: str, feature: str) -> None:
    """Refuse a feature whose packages cannot be imported.

    Args:
        extra: its name in `pyproject.toml`, a key of `PACKAGES`.
        feature: what the user asked for, as the message names it.

    Raises:
        MissingPackage: the package, why it cannot be imported, and the command that installs it.

    Example:
        >>> require("report", "rankward report")
    """
    for package in PACKAGES[extra]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingPackage(feature, package, extra, error) from error
