"""Schemas made known to Hydra, and the way from a composed config to a checked `RunConfig`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import MissingMandatoryValue

from rankward.config import groups, schema
from rankward.config.errors import ConfigError, nearest

SCHEMAS: dict[str, type] = {
    "run": schema.RunConfig,
    "factorization": groups.Factorization,
    "matrix_factorization": groups.MatrixFactorization,
    "tensor_factorization": groups.TensorFactorization,
    "symmetric_factorization": groups.SymmetricFactorization,
    "tucker_factorization": groups.TuckerFactorization,
    "nonlinear_factorization": groups.NonlinearFactorization,
    "depth": groups.Depth,
    "constant_rate": groups.ConstantRate,
    "adaptive_rate": groups.AdaptiveRate,
    "flow_rate": groups.FlowRate,
    "init": groups.Init,
    "between": groups.Between,
    "two_by_two": groups.TwoByTwo,
    "dimensions": groups.Dimensions,
    "random_matrix": groups.RandomTruth,
    "random_tensor": groups.RandomTensor,
    "sensing": groups.Sensing,
    "observations_file": groups.File,
    "metrics": groups.Metrics,
    "wandb": groups.WandbLogger,
    "file_logger": groups.FileLogger,
    "trainer": groups.Trainer,
}

# Where a run may be repeated with another value and still be the same run.
NOT_HASHED = ("ckpt_path", "logger", "checkpoint", "figures", "trainer", "results")


def register() -> None:
    """Store every schema under `hydra/rankward`, which Hydra's help leaves out; a YAML's defaults name its own."""
    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(group="hydra/rankward", name=name, node=node, provider="rankward")


def run_config(cfg: DictConfig) -> schema.RunConfig:
    """A composed Hydra config, with or without Hydra's own part, as checked dataclasses.

    Raises:
        ConfigError: a value that is missing, out of range, or at odds with another group.
    """
    own = without_hydra(cfg)
    missing = sorted(OmegaConf.missing_keys(own))
    if missing:
        raise ConfigError(missing[0], "not set", "a value: this choice has no default")
    try:
        run = OmegaConf.to_object(own)
    except MissingMandatoryValue as error:
        raise ConfigError(str(error.full_key), "not set", "a value") from error
    assert isinstance(run, schema.RunConfig)
    _refuse_added("", run)
    return run


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A copy of a composed config without Hydra's part; the config itself if it has no such part."""
    if "hydra" not in cfg:
        return cfg
    config = cfg.copy()
    with read_write(config), open_dict(config):
        config.pop("hydra")
    return config


def _refuse_added(prefix: str, node: Any) -> None:
    """Refuse keys that `+key=value` has added where nobody would read them."""
    known = [field.name for field in fields(node)]
    for key, value in vars(node).items():
        if key not in known:
            shown = [name for name in known if name not in ("name", "_target_")]
            raise ConfigError(
                f"+{prefix}{key}", value, f"one of the keys there are: {', '.join(shown)}", nearest(key, shown)
            )
        inner = value if isinstance(value, dict) else {key: value}  # of loggers, each is one
        for name, each in inner.items():
            if is_dataclass(each):
                _refuse_added(f"{prefix}{key}.{name}." if inner is value else f"{prefix}{key}.", each)


def config_hash(run: dict[str, Any]) -> str:
    """Sixteen hex digits that name what a run computes: its resolved config less loggers, device and checkpoints.

    Example:
        >>> config_hash({"seed": 0}) == config_hash({"seed": 0, "ckpt_path": "x"})
        True
    """
    return hashlib.sha256(json.dumps(hashed(run), sort_keys=True, default=str).encode()).hexdigest()[:16]


def hashed(run: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved config decides what a run computes."""
    return {key: value for key, value in run.items() if key not in NOT_HASHED}
