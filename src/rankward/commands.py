"""Commands of `rankward` besides training: `rankward status FOLDER`, `report`, `watch`, `kernel`, `paper`, ..."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rankward.config.choices import SEPARATORS
from rankward.config.errors import InputError
from rankward.terminal import say

COMMANDS: dict[str, argparse.ArgumentParser] = {}


class _Parser(argparse.ArgumentParser):
    """Reports mistakes in one line, as the rest of the command line does."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise InputError(f"{self.prog.removeprefix('rankward ')}: {message}; usage: {usage}")


def is_command(arguments: list[str]) -> bool:
    """Whether a command line is one of these commands, and not one for Hydra."""
    return arguments[:1] != [] and arguments[0] in COMMANDS


def run_command(arguments: list[str]) -> int:
    """Run a command; its exit code.

    Raises:
        InputError: an argument is missing or unknown.
    """
    name, *rest = arguments
    options = COMMANDS[name].parse_args(rest)
    return int(options.run(options))


def _add(run: Callable[[argparse.Namespace], int], description: str) -> argparse.ArgumentParser:
    """The parser of a new command, which has the name of its function."""
    name = run.__name__.removeprefix("_")
    COMMANDS[name] = parser = _Parser(prog=f"rankward {name}", description=description, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_folder(parser: argparse.ArgumentParser, help_text: str = "of a sweep") -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=help_text)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


_positive.__name__ = "positive number"  # argparse shows it


def _propositions(options: argparse.Namespace) -> int:
    from rankward.theory.propositions import format_findings, try_all

    findings = try_all(options.draws)
    say(*format_findings(findings).split("\n"))
    if options.out:
        import json
        from dataclasses import asdict

        from rankward.results import write_atomic

        text = json.dumps([asdict(finding) for finding in findings], indent=2) + "\n"
        write_atomic(options.out, lambda path: path.write_text(text, encoding="utf-8"))
    return 0 if all(finding.holds for finding in findings) else 1


def _status(options: argparse.Namespace) -> int:
    from rankward.sweeps.status_command import show_status

    return show_status(options.folder)


def _report(options: argparse.Namespace) -> int:
    from rankward.report.page import write_report

    path, notes = write_report(options.folder, options.out)
    say(f"report:  {path}", *(f"         {note}" for note in notes))
    return 0


def _watch(options: argparse.Namespace) -> int:
    from rankward.sweeps.watch import watch

    return watch(options.folder, options.seconds, options.once)


def _workspace(options: argparse.Namespace) -> int:
    from rankward.loggers.workspace import save_workspace, section_lines

    if options.dry_run:
        say(*section_lines(options.folder))
    else:
        say(f"workspace: {save_workspace(options.folder, options.entity)}")
    return 0


def _circuit(options: argparse.Namespace) -> int:
    from rankward.paper.circuit import write_circuit

    write_circuit(options.out)
    say(f"circuit: {options.out}; drawn in {options.out.parent / 'figures'}")
    return 0


def _paper(options: argparse.Namespace) -> int:
    from rankward.paper.run import make_paper

    default = Path("multirun_outputs") / ("paper_quick" if options.quick else "paper")
    return make_paper(options.out or default, options.quick)


def _kernel(options: argparse.Namespace) -> int:
    from rankward.import_path import enter_directory
    from rankward.training.kernel import kernel_listing

    enter_directory()  # for a user's factorization
    say(*kernel_listing(options.overrides, options.config_dir))
    return 0


def _predict(options: argparse.Namespace) -> int:
    from rankward.training.predictions import predict

    say(predict(options.folder, options.entries, options.out, options.separator))
    return 0


def _baseline(options: argparse.Namespace) -> int:
    from rankward.training.solutions import compare

    for line in compare(options.folder, options.starts, options.ranks, options.out):
        say(line)
    return 0


_paper_parser = _add(_paper, "try the statements and figures of the paper, and write one page")
_paper_parser.add_argument("--quick", action="store_true", help="fewer runs: about a minute and a half on two cores")
_paper_parser.add_argument(
    "--out", metavar="FOLDER", type=Path, help="default: multirun_outputs/paper (or paper_quick)"
)

_circuit_parser = _add(_circuit, "draw Figure 3, the network of a tensor factorization, and compare the two")
_circuit_parser.add_argument(
    "--out", metavar="FILE", type=Path, default=Path("circuit.json"), help="default: circuit.json"
)

_propositions_parser = _add(_propositions, "check Propositions 1 to 4, a line each; exit code 1 if one fails")
_propositions_parser.add_argument(
    "--draws", type=_positive, default=1_000_000, help="of initial product matrices, for Proposition 3"
)
_propositions_parser.add_argument("--out", metavar="FILE", type=Path, help="for the findings as JSON")

_add_folder(_add(_status, "show the state of a sweep's runs; exit code 1 if a run has stopped before its end"))

_watch_parser = _add(_watch, "show a sweep in the terminal while it runs, without writes and locks")
_add_folder(_watch_parser)
_watch_parser.add_argument("--seconds", metavar="N", type=_positive, default=2, help="between two readings (2)")
_watch_parser.add_argument("--once", action="store_true", help="show the sweep once")

_workspace_parser = _add(_workspace, "make a W&B workspace for a sweep: metrics with their bounds, by loss")
_add_folder(_workspace_parser)
_workspace_parser.add_argument("--entity", metavar="NAME", required=True, help="user or team of the project")
_workspace_parser.add_argument("--dry-run", action="store_true", help="print the sections without using W&B")

_kernel_parser = _add(_kernel, "show the code that trains a factorization: operations, text or instructions")
_kernel_parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for a single run")
_kernel_parser.add_argument("--config-dir", "-cd", metavar="FOLDER", type=Path, help="of additional config groups")

_predict_parser = _add(_predict, "write a run's predictions of entries, in the data's own ids and units")
_add_folder(_predict_parser, "of a run")
_predict_parser.add_argument(
    "--entries", metavar="FILE", type=Path, help="a list of ids; default: all entries that the run was not trained on"
)
_predict_parser.add_argument(
    "--out", metavar="FILE", type=Path, help=".csv or .parquet; default: predictions.csv in the folder"
)
_predict_parser.add_argument(
    "--separator", choices=SEPARATORS, help="of the cells of --entries; default: the one that fits"
)

_baseline_parser = _add(_baseline, "compare the ends of runs with baseline solutions of their observed entries")
_add_folder(_baseline_parser, "of a sweep or of a single run")
_baseline_parser.add_argument(
    "--starts", metavar="N", type=_positive, default=5, help="of each solution that is a local minimum (5)"
)
_baseline_parser.add_argument("--ranks", metavar="N", type=_positive, default=10, help="the largest rank (10)")
_baseline_parser.add_argument("--out", metavar="FILE", type=Path, help="default: baselines.json in the folder")

_report_parser = _add(_report, "write an interactive report of a sweep: one HTML file that needs no network")
_add_folder(_report_parser, "of a sweep or of a single run")
_report_parser.add_argument("--out", metavar="FILE", type=Path, help="default: report.html in the folder")
