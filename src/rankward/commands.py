"""What `rankward` does beside training: `rankward status FOLDER`, `report`, `watch`, `kernel`, `paper`, ..."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rankward.config.errors import UsageError
from rankward.terminal import say


class _Parser(argparse.ArgumentParser):
    """Mistakes are told as all others are: in one line."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise UsageError(self.prog.removeprefix("rankward "), message, usage)


def _propositions(asked: argparse.Namespace) -> int:
    from rankward.theory.propositions import everything, told

    findings = everything(asked.draws)
    say(*told(findings).split("\n"))
    if asked.out:
        import json
        from dataclasses import asdict

        from rankward.results import write_whole

        text = json.dumps([asdict(finding) for finding in findings], indent=2) + "\n"
        write_whole(asked.out, lambda path: path.write_text(text, encoding="utf-8"))
    return 0 if all(finding.holds for finding in findings) else 1


def _status(asked: argparse.Namespace) -> int:
    from rankward.sweeps.status_command import show_status

    return show_status(asked.folder)


def _report(asked: argparse.Namespace) -> int:
    from rankward.report.page import write_report

    path, notes = write_report(asked.folder, asked.out)
    say(f"report:  {path}", *(f"         {note}" for note in notes))
    return 0


def _watch(asked: argparse.Namespace) -> int:
    from rankward.sweeps.watch import watch

    return watch(asked.folder, asked.seconds, asked.once)


def _workspace(asked: argparse.Namespace) -> int:
    from rankward.loggers.workspace import save_workspace, told

    say(*(told(asked.folder) if asked.dry_run else [f"workspace: {save_workspace(asked.folder, asked.entity)}"]))
    return 0


def _circuit(asked: argparse.Namespace) -> int:
    from rankward.paper.circuit import write_circuit

    write_circuit(asked.out)
    say(f"circuit: {asked.out}; drawn in {asked.out.parent / 'figures'}")
    return 0


def _paper(asked: argparse.Namespace) -> int:
    from rankward.paper.run import make_paper

    default = Path("multirun_outputs") / ("paper_quick" if asked.quick else "paper")
    return make_paper(asked.out or default, asked.quick)


def _kernel(asked: argparse.Namespace) -> int:
    from rankward.import_path import enter_directory
    from rankward.training.kernel import listed

    enter_directory()  # where a user's own factorization lies
    say(*listed(asked.overrides, asked.config_dir))
    return 0


def _folder(parser: argparse.ArgumentParser, what: str = "of a sweep") -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=what)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


_positive.__name__ = "positive number"


def _propositions_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=_positive, default=1_000_000, help="of initial products, for Proposition 3")
    parser.add_argument("--out", metavar="FILE", type=Path, help="findings as JSON")


def _watch_arguments(parser: argparse.ArgumentParser) -> None:
    _folder(parser)
    parser.add_argument("--seconds", metavar="N", type=_positive, default=2, help="between two looks (2)")
    parser.add_argument("--once", action="store_true", help="look once")


def _workspace_arguments(parser: argparse.ArgumentParser) -> None:
    _folder(parser)
    parser.add_argument("--entity", metavar="NAME", required=True, help="the user or team whose project it is")
    parser.add_argument("--dry-run", action="store_true", help="print its sections; ask W&B nothing")


def _circuit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("circuit.json"), help="default: circuit.json")


def _paper_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer runs: under a minute on two cores")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="default: multirun_outputs/paper (or paper_quick)")


def _kernel_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for a single run")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", type=Path, help="of more config groups")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    _folder(parser, "of a sweep or of a single run")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: report.html in the folder")


# name: what it does, its arguments, and the function
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[Any], int]]] = {
    "paper": ("every statement and figure of the paper tried out, on one page", _paper_arguments, _paper),
    "circuit": (
        "Figure 3: the network that a tensor factorization is, drawn and compared",
        _circuit_arguments,
        _circuit,
    ),
    "propositions": (
        "Propositions 1 to 4 tried out, a line each; 1 where one fails",
        _propositions_arguments,
        _propositions,
    ),
    "status": ("what has become of a sweep's runs; 1 where one has stopped before its end", _folder, _status),
    "watch": ("a sweep in the terminal while it runs; writes and locks nothing", _watch_arguments, _watch),
    "workspace": ("a W&B workspace for a sweep: metrics with their bounds, by loss", _workspace_arguments, _workspace),
    "kernel": (
        "what is generated to train a factorization: operations, text or instructions",
        _kernel_arguments,
        _kernel,
    ),
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
