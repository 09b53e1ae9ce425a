"""The output contract: names and formats of the files of runs and sweeps, written atomically."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.config import config_hash
from rankward.private_apis import string_representer
from rankward.results.atomic import ResultsError, io_error, read_text, write_atomic, write_atomic_group
from rankward.results.checkpoints import checkpoints

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import torch

TRACE, FACTORS, SUMMARY = "trace.parquet", "factors.safetensors", "summary.json"
IDS = "ids.parquet"  # the data's own ids, if the observations have any
TRAJECTORY = "trajectory.safetensors"  # the product at every row of the trace, if the run records it
PREDICTIONS = "predictions.csv"
BASELINES = "baselines.json"
CONFIG, OVERRIDES = Path(".hydra") / "config.yaml", Path(".hydra") / "overrides.yaml"
RUNS, REFINEMENT, FIGURES, WANDB = "runs.parquet", "refinement.parquet", "figures", "wandb"
SWEEP = "multirun.yaml"  # Hydra's; a folder with this file is a sweep's
TASKS = "tasks.json"
FAILURE = "failure.txt"  # of a failed run: the reason in the first line, then the traceback
UNLOGGED = ".unlogged"  # marks a run whose results are written, but whose loggers have not closed
# Statuses of runs that have ended regularly.
ENDED = ("converged", "max_iterations", "max_time", "plateau", "stop_heldout")
COMPLETE = (*ENDED, "diverged")
RESUMABLE = ("interrupted", "max_seconds")  # statuses of runs that have ended early, with a checkpoint
KINDS = (("status", str), ("iterations", int), ("metrics", dict))  # required types in a summary
REFERENCE = re.compile(r"(?<!\\)\$\{([\w.]+)\}")  # to another key
MAX_REFERENCE_LENGTH = 1000  # characters of a value that replaces a reference
MAX_YAML_DEPTH = 100  # the C parser has no limit and would crash


class MixedError(ResultsError):
    """A folder holds the config of one run and the results of another."""


def write_run(
    folder: Path,
    *,
    trace: Mapping[str, np.ndarray],
    factors: Mapping[str, np.ndarray | torch.Tensor],
    summary: Mapping[str, Any],
    ids: Mapping[str, np.ndarray] | None = None,
    trajectory: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the trace, the factors and, last, the summary of a run; `summary.json` marks it as complete.

    The bytes of trace and factors depend only on their values (and on the version of polars, which parquet names).

    Args:
        folder: of the run; created if it is missing.
        trace: columns of equal length; `iteration` is stored first (int64), then `loss`, then the others as given
            (float64, NaN allowed).
        factors: arrays by name (`initial.0`, `final.0`, `product`, ...), without a runs axis, of any dtype.
        summary: contents of `summary.json`. NaN and infinity are written as the literals NaN and Infinity: strict
            JSON has no such numbers, but Python's json reads them back as floats, unlike text or null.
        ids: columns of a table of the data's own ids, in `ids.parquet`; None: there is no such file.
        trajectory: `iteration` [rows] and `product` [rows, *dims], in `trajectory.safetensors`; None: there is no such
            file.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full; existing results are unchanged.
        KeyError: a trace without `iteration` or `loss`.
        TypeError: a summary with a value that JSON cannot hold.
    """
    import numpy as np
    import polars as pl
    from safetensors.numpy import save_file

    columns = {"iteration": trace["iteration"], "loss": trace["loss"], **trace}
    frame = pl.DataFrame(
        {name: np.ascontiguousarray(v, np.int64 if name == "iteration" else np.float64) for name, v in columns.items()}
    )
    arrays = {name: plain_array(factors[name]) for name in sorted(factors)}
    table = {} if ids is None else {folder / IDS: lambda path: write_table(pl.DataFrame(dict(ids)), path)}
    products = {} if trajectory is None else {name: plain_array(trajectory[name]) for name in sorted(trajectory)}
    path_of = {folder / TRAJECTORY: lambda path: save_file(products, path)} if products else {}
    write_atomic_group(
        {
            folder / TRACE: lambda path: write_table(frame, path),
            folder / FACTORS: lambda path: save_file(arrays, path),
            **table,
            **path_of,
            folder / SUMMARY: _summary_writer(summary),
        }
    )


def copy_run(source: Path, folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Write the results of another folder's run into a folder; return the summary.

    Args:
        source: folder of the other run.
        folder: that gets the same trace and factors, byte by byte.
        changes: keys of the summary that get other values, or are added.

    Raises:
        ResultsError: no summary in `source`, or a file that cannot be read or written.
    """
    summary = read_summary(source) | dict(changes)
    names = [TRACE, FACTORS, *(name for name in (IDS, TRAJECTORY) if (source / name).is_file())]
    write_atomic_group(
        {
            **{folder / name: functools.partial(shutil.copyfile, source / name) for name in names},
            folder / SUMMARY: _summary_writer(summary),
        }
    )
    return summary


def _summary_writer(summary: Mapping[str, Any]) -> Callable[[Path], Any]:
    text = json.dumps(dict(summary), indent=2, default=_plain) + "\n"
    return lambda path: path.write_text(text, encoding="utf-8")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write Parquet whose bytes depend only on the table."""
    made = io.BytesIO()  # polars would hide the error of a full disk
    frame.write_parquet(made, compression="zstd", compression_level=3, statistics=False)
    path.write_bytes(made.getbuffer())


def plain_array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    import numpy as np

    plain = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return np.array(plain, order="C")  # not `ascontiguousarray`, which turns a scalar into an array of one


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a summary cannot hold a {type(value).__name__}: {value!r}")


def read_summary(folder: Path) -> dict[str, Any]:
    """The run's summary.

    Raises:
        ResultsError: no summary, or a torn one.
    """
    path = folder / SUMMARY
    try:
        summary = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise io_error("read", path, error) from error
    if not isinstance(summary, dict) or not all(isinstance(summary.get(key, kind()), kind) for key, kind in KINDS):
        raise ResultsError(f"cannot read {path}: not a summary")
    return summary


def read_trace(folder: Path) -> pl.DataFrame:
    """The run's trace: one row per recorded iteration.

    Raises:
        ResultsError: no trace, or a torn one.
    """
    return read_frame(folder / TRACE)


def read_frame(path: Path) -> pl.DataFrame:
    """A table in Parquet.

    Raises:
        ResultsError: no table, or a torn one.
    """
    import polars as pl

    with reading(path):
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return pl.read_parquet(path, glob=False)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise errors of polars as one that names the file, or the folder of several files.

    Raises:
        ResultsError: it cannot be read, for example because it is torn.
    """
    import polars as pl

    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise io_error("read", path, error) from error


def read_arrays(folder: Path, name: str = FACTORS) -> dict[str, np.ndarray]:
    """The run's factors, product and observations as NumPy arrays, without importing torch.

    Args:
        folder: of the run.
        name: of the file; `TRAJECTORY` has the product at every row of the trace.

    Raises:
        ResultsError: no such file, or a torn one.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / name
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise io_error("read", path, error) from error


def read_factors(folder: Path) -> dict[str, torch.Tensor]:
    """The run's factors, product and observations.

    Raises:
        ResultsError: no factors, or torn ones.
    """
    import torch

    return {name: torch.from_numpy(array) for name, array in read_arrays(folder).items()}


def read_config(folder: Path, trusted: bool = False) -> dict[str, Any]:
    """The run's config, as Hydra wrote it, with references to other keys (`${seed}`) resolved.

    Args:
        trusted: whether references to anything outside the config (`${oc.env:HOME}`) are resolved, too. Commands that
            only read leave them: a folder may belong to somebody else, and its report may be passed on.

    Raises:
        MixedError: the summary beside it is of another config.
        ResultsError: no config, or a torn one.
    """
    config = read_yaml(folder / CONFIG)
    if isinstance(config, dict):
        config = _resolved(folder / CONFIG, config) if trusted else _with_references(config, config)
    if not isinstance(config, dict):
        raise ResultsError(f"cannot read {folder / CONFIG}: not a config")
    digest = summary_hash(folder)
    if digest is not None and digest != (found := config_hash(config)) and not _is_open(folder / CONFIG):
        raise MixedError(f"{folder / CONFIG} has config_hash {found}, but {SUMMARY} beside it {digest}")
    return config


def summary_hash(folder: Path) -> str | None:
    """The `config_hash` of a run's summary; None if there is none."""
    try:
        return read_summary(folder).get("config_hash")
    except ResultsError:
        return None


def _is_open(config: Path) -> bool:
    """Whether a config has references to something outside it (`${oc.env:HOME}`), so that its values may change."""
    return re.search(r"\$\{[^{}]*:", read_text(config)) is not None


def read_overrides(folder: Path) -> list[str]:
    """The overrides of the run.

    Raises:
        ResultsError: no list of overrides, or a torn one.
    """
    overrides = read_yaml(folder / OVERRIDES)
    if not isinstance(overrides, list):
        raise ResultsError(f"cannot read {folder / OVERRIDES}: not a list of overrides")
    return [str(override) for override in overrides]


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file of Hydra; references are not resolved.

    Raises:
        ResultsError: no such file, a torn one, or one with aliases or deep nesting, which Hydra does not write.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast as OmegaConf's, with the same result
    try:
        text = read_text(path)
        may_be_deep = " " * MAX_YAML_DEPTH in text or sum(map(text.count, ("[", "{", "- ", "? "))) > MAX_YAML_DEPTH
        if may_be_deep or ("&" in text and "*" in text):
            _refuse_bombs(yaml.parse(text, loader))
        return yaml.load(text, loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise io_error("read", path, error) from error


def to_yaml(value: Any) -> str:
    """Text of a value as YAML, in the style of OmegaConf and Hydra."""
    import yaml

    return str(yaml.dump(value, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=_dumper()))


@functools.cache
def _dumper() -> Any:
    """OmegaConf's dumper, based on libyaml if it is available."""
    import yaml

    class Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
        pass

    Dumper.add_representer(str, string_representer())
    return Dumper


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a run's config.

    Raises:
        ResultsError: it cannot be written.
    """
    write_atomic(folder / CONFIG, lambda path: path.write_text(to_yaml(config), encoding="utf-8"))


def _refuse_bombs(events: Iterable[Any]) -> None:
    """Refuse YAML that would exhaust the memory (aliases of aliases) or the stack."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if kind == "AliasEvent" or depth > MAX_YAML_DEPTH:
            raise ValueError("it has aliases" if kind == "AliasEvent" else "it is nested too deep")


def _resolved(path: Path, config: dict[str, Any]) -> Any:
    """The config with all references resolved by OmegaConf."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    except (ValueError, OmegaConfBaseException) as error:
        raise io_error("read", path, error) from error


def _with_references(node: Any, config: dict[str, Any]) -> Any:
    """A part of a config with references like `${lr.eta}` replaced, if their values are plain and short.

    Example:
        >>> config = {"lr": {"eta": 0.1}, "init": {"scale": "${lr.eta}", "name": "${lr.eta}_${oc.env:HOME}"}}
        >>> _with_references(config["init"], config)
        {'scale': 0.1, 'name': '0.1_${oc.env:HOME}'}
    """

    def value(found: re.Match[str]) -> Any:
        at: Any = config
        for key in found[1].split("."):
            at = at.get(key, found[0]) if isinstance(at, dict) else found[0]
        plain = not isinstance(at, dict | list) and "${" not in (text := str(at)) and len(text) <= MAX_REFERENCE_LENGTH
        return at if plain else found[0]

    if isinstance(node, dict):
        return {key: _with_references(each, config) for key, each in node.items()}
    if isinstance(node, list):
        return [_with_references(each, config) for each in node]
    if not isinstance(node, str) or "${" not in node:
        return node
    only = REFERENCE.fullmatch(node)
    return value(only) if only else REFERENCE.sub(lambda found: str(value(found)), node)


def has_all_files(folder: Path) -> bool:
    """Whether the run has all three files, whatever its status."""
    return all((folder / name).is_file() for name in (TRACE, FACTORS, SUMMARY))


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a complete run."""
    return complete_summary(folder) is not None


def complete_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a complete run; None for any other folder."""
    try:
        summary = read_summary(folder) if has_all_files(folder) else {}
    except ResultsError:
        return None
    return summary if summary.get("status") in COMPLETE else None


def run_folders(sweep: Path) -> list[Path]:
    """A sweep's run folders at any depth, complete or not, in the order of the jobs (numbers in names sort as numbers).

    A single run's folder counts as a sweep of one run. Folders of other sweeps, `wandb`, and folders whose names begin
    with a dot are skipped.

    Raises:
        ResultsError: a folder that cannot be listed.
    """
    if (sweep / CONFIG).is_file():
        return [sweep]
    return [sweep / name for name in sorted(_names(str(sweep), ""), key=_order)]


def _names(folder: str, prefix: str) -> Iterator[str]:
    """Names of the runs below a folder, as text: paths would be slow for very many runs."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise io_error("read", Path(folder), error) from error
    for entry in entries:
        if not holds_runs(entry.name):
            continue
        if os.path.isfile(f"{entry.path}/{CONFIG}"):  # noqa: PTH113
            yield prefix + entry.name
        elif entry.is_dir(follow_symlinks=False) and not os.path.isfile(f"{entry.path}/{SWEEP}"):  # noqa: PTH113
            yield from _names(entry.path, f"{prefix}{entry.name}/")


def run_checkpoints(sweep: Path) -> list[Path]:
    """Checkpoints in the folders of a sweep's runs, sorted; see `checkpoints`."""
    return sorted(path for folder in run_folders(sweep) for path in checkpoints(folder))


def holds_runs(name: str) -> bool:
    """Whether folders of this name may hold runs of a sweep.

    Example:
        >>> holds_runs("seed0"), holds_runs("wandb"), holds_runs(".submitit")
        (True, False, False)
    """
    return name != WANDB and not name.startswith(".")


def run_name(sweep: Path, folder: Path) -> str:
    """Name of a run within its sweep: the path from the sweep's folder; for a single run, the name of its folder.

    Example:
        >>> run_name(Path("s"), Path("s/depth2/seed0")), run_name(Path("s"), Path("s"))
        ('depth2/seed0', 's')
    """
    if folder.parent == sweep or folder == sweep:
        return folder.name
    return Path(os.path.relpath(folder, sweep)).as_posix()


def _order(name: str) -> list[tuple[bool, int, str]]:
    parts = [text for text in re.split(r"([0-9]+)", name) if text]
    return [(not text.isdigit(), int(text) if text.isdigit() else 0, text) for text in parts]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a config: nested keys are joined with dots, lists become text.

    Example:
        >>> flat({"lr": {"eta": 0.1}, "seed": 0, "dims": [2, 2]})
        {'lr.eta': 0.1, 'seed': 0, 'dims': '[2, 2]'}
    """
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = str(value) if isinstance(value, list) else value
    return result
