"""The texts of this folder, from which kernels are composed, and the rule for stops and rows as one of them."""

from __future__ import annotations

from pathlib import Path

from rankward.dynamics.state import Status

HERE = Path(__file__).parent


def check_text() -> str:
    """The text of the rule for stops and rows, below the codes of the statuses."""
    codes = "".join(f"{status.name} = {status.value}\n" for status in Status)
    return f"\n{codes}{text_of('_check_source.py')}"


def text_of(name: str) -> str:
    return "\n\n" + (HERE / name).read_text(encoding="utf-8").split("# mypy: ignore-errors\n", 1)[1].lstrip("\n")
