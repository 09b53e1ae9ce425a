"""What `rankward` does beside training: `rankward status FOLDER`, `report`, `watch`, `paper`, `propositions`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rankward.config.errors import UsageError


class _Parser(argparse.ArgumentParser):
    """Mistakes are told as all others are: in one line."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise UsageError(self.prog.removeprefix("rankward "), message, usage)


def _propositions(_: argparse.Namespace) -> int:
    from rankward.theory.propositions import everything, told

    findings = everything()
    print(told(findings))
    return 0 if all(finding.holds for finding in findings) else 1


def _status(asked: argparse.Namespace) -> int:
    from rankward.sweeps.status import tell_status

    return tell_status(asked.folder)


def _report(asked: argparse.Namespace) -> int:
    from rankward.pages.report import write_report

    path, notes = write_report(asked.folder, asked.out)
    print(f"report:  {path}")
    for note in notes:
        print(f"         {note}")
    return 0


def _folder(parser: argparse.ArgumentParser, what: str = "of a sweep") -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=what)


def _propositions_arguments(_: argparse.ArgumentParser) -> None: ...


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    _folder(parser, "of a sweep or of a single run")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: report.html in the folder")


# name: what it does, its arguments, and the function
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[Any], int]]] = {
    "propositions": (
        "Propositions 1 to 4 tried out, a line each; 1 where one fails",
        _propositions_arguments,
        _propositions,
    ),
    "status": ("what has become of a sweep's runs; 1 where one has failed", _folder, _status),
    "report": ("a sweep to explore in a browser: one file that needs no network", _report_arguments, _report),
}


def is_command(arguments: list[str]) -> bool:
    """Whether a command line asks for one of these and not for Hydra."""
    return arguments[:1] != [] and arguments[0] in COMMANDS


def run_command(arguments: list[str]) -> int:
    """Do it, and return the exit code.

    Raises:
        UsageError: arguments that it does not take.
    """
    name, *rest = arguments
    what, declare, act = COMMANDS[name]
    parser = _Parser(prog=f"rankward {name}", description=what, allow_abbrev=False)
    declare(parser)
    return act(parser.parse_args(rest))
