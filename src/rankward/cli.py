"""The command line: Hydra's, with one line for every error. Nothing slow is imported before a run starts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from rankward import __version__
from rankward.commands import COMMANDS, is_command, run_command
from rankward.config import CONFIG_FOLDER, ConfigError, RunConfig, nearest, register, run_config
from rankward.config.overrides import as_hydra_has_them
from rankward.import_path import enter_directory, leave_directory
from rankward.private_apis import hydra_flags
from rankward.terminal import lost, say, steady

_failures: list[Exception] = []  # smuggles the error of a single run past Hydra, which would print lines of it
MODES = {
    "--run": "-r",
    "--multirun": "-m",
    "--cfg": "-c",
    "--info": "-i",
    "--shell-completion": "-sc",
}  # of Hydra, one at a time


@hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")
def app(cfg: DictConfig) -> float:
    """Check the config, then train."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    try:
        config = run_config(cfg)
        from rankward.training.job import run

        return run(cfg, config, Path(hydra_config.runtime.output_dir))
    except Exception as error:
        if hydra_config.mode == RunMode.MULTIRUN:
            raise  # the sweep goes on, and reports the error at its end
        _failures.append(error)
        return float("nan")


def main() -> None:
    """Run the console script `rankward`: exit code 0, 2 for bad input, 1 for a failure, 130 if interrupted.

    Failed writes to standard output (a full disk) are a failure too, although all results are saved. A closed standard
    output, or a reader that has exited, is not.
    """
    leave_directory()
    steady()
    try:
        code: Any = _main()
    except SystemExit as end:
        code = end.code
    if why := lost():
        say(f"rankward: {why}", error=True)
        code = code or 1
    sys.exit(code)


def _main() -> int:
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's report has many lines
    os.environ["MPLBACKEND"] = "agg"  # a notebook's backend may not be installed
    try:
        if sys.argv[1:] == ["--version"]:
            say(f"rankward {__version__}")
            return 0
        if is_command(sys.argv[1:]):
            return run_command(sys.argv[1:])
        refuse_word(sys.argv[1:])
        train(sys.argv[1:])
    except KeyboardInterrupt as error:
        say(f"rankward: {str(error) or 'interrupted'}", error=True)
        return 130
    except Exception as error:
        if os.environ.get("RANKWARD_TRACEBACK") == "1":
            raise
        from rankward.config.explain import print_error

        return print_error(error)
    except SystemExit as end:
        refused = getattr(end, "error", None)  # of a check, see `sweeps.callback.Refused`
        if refused is None:
            raise
        from rankward.config.explain import print_error

        return print_error(refused)
    return 0


def train(arguments: Sequence[str]) -> None:
    """Train a run, or with `-m` a sweep, through Hydra.

    Args:
        arguments: of the command line.

    Raises:
        Exception: of the run or sweep, or of Hydra.
        SystemExit: a refused run, with the `error`; or a flag after which Hydra ends.
    """
    _failures.clear()
    sys.argv[1:] = for_hydra(list(arguments))
    enter_directory()  # for a user's metrics and observations
    app()
    if _failures:
        raise _failures.pop()


def refuse_word(arguments: list[str]) -> None:
    """Refuse a first word that is not an override, a flag or a command."""
    if any(text.startswith("=") for text in arguments):
        raise ConfigError("command line", " ".join(arguments), "key=value, without spaces around =")
    first = (arguments or ["-m"])[0]
    if "=" not in first and first != "resume" and first[:1] not in "-+~":
        known = sorted([*COMMANDS, "resume"])
        raise ConfigError("command", first, f"key=value, or one of {', '.join(known)}", nearest(first, known))


def _refuse_flag(arguments: list[str]) -> None:
    """Refuse a flag that Hydra does not have; for a setting with dashes, the message has the syntax without them."""
    known = hydra_flags()
    for text in arguments:
        flag = text.partition("=")[0]
        if text.startswith("-") and not any(each.startswith(flag) for each in known):
            name = text.lstrip("-")
            if flag != text or name in RunConfig.__dataclass_fields__:
                raise ConfigError("option", text, f"{name if flag != text else name + '=...'}: settings have no dashes")
            raise ConfigError("option", text, "key=value, or a flag (rankward --hydra-help)", nearest(text, known))
    given = [text.partition("=")[0] for text in arguments]
    modes = [flag for flag, short in MODES.items() if flag in given or short in given]
    if len(modes) > 1:
        allowed = "one of them: --cfg shows the config of one run, --dry-run what would be trained"
        raise ConfigError("option", " ".join(modes), allowed)


def for_hydra(arguments: list[str]) -> list[str]:
    """The command line in the syntax of Hydra."""
    if arguments[:1] == ["resume"]:
        arguments = _resumed(arguments[1:])
    if "--dry-run" in arguments:
        if "hydra/launcher=basic" in arguments:
            raise ConfigError("--dry-run", "hydra/launcher=basic", "another launcher: this one cannot plan")
        arguments = [*(text for text in arguments if text != "--dry-run"), "hydra.launcher.dry_run=true"]
    _refuse_flag(arguments)
    # Flags come first: Hydra's parser refuses overrides on both sides of a flag.
    sweep = [text for text in arguments if text in ("-m", "--multirun")]
    rest = [text for text in arguments if text not in sweep]
    conditions = [text for text in rest if text.startswith("select.")]
    if conditions and not sweep and not any(text.startswith("hydra.mode=") for text in rest):
        key, _, values = conditions[0].partition("=")
        raise ConfigError(key, values, "a sweep: rankward -m ...; a single run has no jobs to select")
    return [*sweep[:1], *as_hydra_has_them(rest)]


def _resumed(arguments: list[str]) -> list[str]:
    """The command line that resumes a folder."""
    from rankward.sweeps.command import command_of, foreign_code

    folder = Path(arguments[0]) if arguments else Path()
    if arguments and not folder.exists() and re.fullmatch(r"""(["']).+\1""", arguments[0]):  # as in hydra.run.dir="..."
        folder = Path(arguments[0][1:-1])
    if not arguments or ("=" in arguments[0] and not folder.is_dir()):
        raise ConfigError("resume", " ".join(arguments), "a folder, then overrides: rankward resume FOLDER")
    command = command_of(folder, arguments[1:])
    if code := foreign_code(command):
        say(f"rankward: {folder} runs code that is not Rankward's: {', '.join(code)}", error=True)
    return command


if __name__ == "__main__":  # python -m rankward.cli: `app` must be in a module that is not __main__
    from rankward.__main__ import main as start

    start()
