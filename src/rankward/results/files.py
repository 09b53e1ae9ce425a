"""The output contract: what a run leaves behind, written whole or not at all. The only place that knows file names."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.results.whole import ResultsError, failure, write_together

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import torch

TRACE, FACTORS, SUMMARY = "trace.parquet", "factors.safetensors", "summary.json"
CONFIG, OVERRIDES = Path(".hydra") / "config.yaml", Path(".hydra") / "overrides.yaml"
RUNS, REFINEMENT, FIGURES, WANDB = "runs.parquet", "refinement.parquet", "figures", "wandb"
CHECKPOINT, TASKS = "checkpoint.ckpt", "tasks.json"
FAILURE = "failure.txt"  # of a run that has failed: why, in its first line
ENDED = ("converged", "max_iterations", "max_time")  # statuses of runs with a result
COMPLETE = (*ENDED, "diverged")


def write_run(
    folder: Path,
    *,
    trace: Mapping[str, np.ndarray],
    factors: Mapping[str, np.ndarray | torch.Tensor],
    summary: Mapping[str, Any],
) -> None:
    """Write one run's trace, factors and, last, its summary: where `summary.json` stands, the run is complete.

    The bytes of trace and factors depend on their values alone (and on the version of polars, which parquet names).

    Args:
        folder: the run's own; made where it is missing.
        trace: columns of equal length; `iteration` is stored first (int64), then `loss`, then the others as given
            (float64, NaN allowed).
        factors: arrays by name (`initial.0`, `final.0`, `product`, ...), without a runs axis, of any dtype.
        summary: what `summary.json` holds. NaN and infinity stand there as the literals NaN and Infinity: strict JSON
            has no such numbers, but Python's json reads these back as floats, which text or null would not be.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full; results that stood there stand unchanged.
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
    text = json.dumps(dict(summary), indent=2, default=_plain) + "\n"
    write_together(
        {
            folder / TRACE: lambda path: write_table(frame, path),
            folder / FACTORS: lambda path: save_file(arrays, path),
            folder / SUMMARY: lambda path: path.write_text(text),
        }
    )


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Parquet whose bytes depend on the table alone."""
    whole = io.BytesIO()  # polars may lose the error of a full disk with the last bytes of a file
    frame.write_parquet(whole, compression="zstd", compression_level=3, statistics=False)
    path.write_bytes(whole.getbuffer())


def plain_array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    import numpy as np

    plain = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return np.array(plain, order="C")  # not `ascontiguousarray`, which makes a number an array of one


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
        summary = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise failure("read", path, error) from error
    if not isinstance(summary, dict):
        raise ResultsError(f"cannot read {path}: not a summary")
    return summary


def read_trace(folder: Path) -> pl.DataFrame:
    """The run's trace: a row per recorded iteration.

    Raises:
        ResultsError: no trace, or a torn one.
    """
    import polars as pl

    path = folder / TRACE
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise failure("read", path, error) from error


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The run's factors, product and observations as NumPy arrays, without importing torch.

    Raises:
        ResultsError: no factors, or torn ones.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / FACTORS
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise failure("read", path, error) from error


def read_factors(folder: Path) -> dict[str, torch.Tensor]:
    """The run's factors, product and observations.

    Raises:
        ResultsError: no factors, or torn ones.
    """
    import torch

    return {name: torch.from_numpy(array) for name, array in read_arrays(folder).items()}


def read_config(folder: Path) -> dict[str, Any]:
    """The run's resolved config, as Hydra left it.

    Raises:
        ResultsError: no config, or a torn one.
    """
    config = _yaml(folder / CONFIG)
    if not isinstance(config, dict):
        raise ResultsError(f"cannot read {folder / CONFIG}: not a config")
    return config


def read_overrides(folder: Path) -> list[str]:
    """The overrides that made the run.

    Raises:
        ResultsError: no list of overrides, or a torn one.
    """
    overrides = _yaml(folder / OVERRIDES)
    if not isinstance(overrides, list):
        raise ResultsError(f"cannot read {folder / OVERRIDES}: not a list of overrides")
    return [str(override) for override in overrides]


def _yaml(path: Path) -> Any:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        text = path.read_text()
        # libyaml is twenty times as fast as OmegaConf's loader, and reads what OmegaConf has written the same.
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return OmegaConf.to_container(OmegaConf.create(content), resolve=True) if "${" in text else content
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise failure("read", path, error) from error


def is_whole(folder: Path) -> bool:
    """Whether the run's three files stand, whatever its status."""
    return all((folder / name).is_file() for name in (TRACE, FACTORS, SUMMARY))


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a finished run, whole."""
    return complete_summary(folder) is not None


def complete_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run that is whole; None of any other folder."""
    try:
        summary = read_summary(folder) if is_whole(folder) else {}
    except ResultsError:
        return None
    return summary if summary.get("status") in COMPLETE else None


def run_folders(sweep: Path) -> list[Path]:
    """A sweep's run folders, complete or not, in the order of the jobs: numbers in their names count as numbers.

    A single run's folder is a sweep of one.
    """
    if (sweep / CONFIG).is_file():
        return [sweep]
    found = [path.parent.parent for path in sweep.glob(f"*/{CONFIG}")]
    return sorted(found, key=lambda path: [(not t.isdigit(), int(t) if t.isdigit() else 0, t) for t in _parts(path)])


def _parts(path: Path) -> list[str]:
    return [text for text in re.split(r"([0-9]+)", path.name) if text]


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
