"""The output contract: what a run leaves behind, written whole or not at all. The only place that knows file names."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import torch

TRACE, FACTORS, SUMMARY = "trace.parquet", "factors.safetensors", "summary.json"
CONFIG, OVERRIDES = Path(".hydra") / "config.yaml", Path(".hydra") / "overrides.yaml"
RUNS, FIGURES, WANDB = "runs.parquet", "figures", "wandb"
CHECKPOINT = "checkpoint.ckpt"
COMPLETE = ("converged", "max_iterations", "diverged")


class ResultsError(OSError):
    """A result that cannot be written or read; one line that names the path and the reason."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then rename it: a reader finds the whole file or none.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except Exception as error:  # writers wrap a full disk in errors of their own
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if isinstance(error, OSError) or "No space left" in str(error) or "os error" in str(error):
            raise ResultsError(f"cannot write {path}: {reason}") from error
        raise


def write_run(
    folder: Path,
    *,
    trace: Mapping[str, np.ndarray],
    factors: Mapping[str, np.ndarray],
    summary: Mapping[str, Any],
) -> None:
    """Write one run's trace, factors and, last, its summary: where `summary.json` stands, the run is complete.

    Args:
        folder: the run's own.
        trace: columns of equal length, in the order in which they are to stand; `iteration` and `loss` first.
        factors: arrays by name (`initial.0`, `final.0`, `product`, ...), without a runs axis.
        summary: what `summary.json` holds; NaN and infinity stand there as NaN and Infinity, which Python's json reads.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    import numpy as np
    import polars as pl
    from safetensors.numpy import save_file

    frame = pl.DataFrame({name: pl.Series(name, np.ascontiguousarray(values)) for name, values in trace.items()})
    arrays = {name: np.ascontiguousarray(factors[name]) for name in sorted(factors)}
    write_whole(folder / TRACE, lambda path: frame.write_parquet(path, compression="zstd", statistics=False))
    write_whole(folder / FACTORS, lambda path: save_file(arrays, path))
    text = json.dumps(summary, indent=2, default=_plain) + "\n"
    write_whole(folder / SUMMARY, lambda path: path.write_text(text))


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def read_summary(folder: Path) -> dict[str, Any]:
    """The run's summary.

    Raises:
        ResultsError: no summary, or a torn one.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {folder / SUMMARY}: {error}") from error
    if not isinstance(summary, dict):
        raise ResultsError(f"cannot read {folder / SUMMARY}: not a summary")
    return summary


def read_trace(folder: Path) -> pl.DataFrame:
    """The run's trace: a row per recorded iteration."""
    import polars as pl

    try:
        return pl.read_parquet(folder / TRACE)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ResultsError(f"cannot read {folder / TRACE}: {error}") from error


def read_factors(folder: Path) -> dict[str, torch.Tensor]:
    """The run's factors, product and observations."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(folder / FACTORS))
    except (OSError, SafetensorError) as error:
        raise ResultsError(f"cannot read {folder / FACTORS}: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The run's resolved config, as Hydra left it."""
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(OmegaConf.load(folder / CONFIG), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def read_overrides(folder: Path) -> list[str]:
    """The overrides that made the run."""
    from omegaconf import OmegaConf

    return [str(override) for override in OmegaConf.load(folder / OVERRIDES)]


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a finished run, whole."""
    try:
        summary = read_summary(folder)
    except ResultsError:
        return False
    return summary.get("status") in COMPLETE and (folder / TRACE).is_file() and (folder / FACTORS).is_file()


def run_folders(sweep: Path) -> list[Path]:
    """A sweep's run folders, complete or not, in the order of the jobs."""
    found = [path.parent.parent for path in sweep.glob(f"*/{CONFIG}")]
    return sorted(found, key=lambda path: (not path.name.isdigit(), int(path.name) if path.name.isdigit() else 0, path))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots; lists as text.

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
