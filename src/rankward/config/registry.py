"""Registration of the schemas with Hydra, and the conversion of a composed config into a checked `RunConfig`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import MissingMandatoryValue

from rankward.config import groups, schema
from rankward.config.choices import RESERVED
from rankward.config.errors import InputError, nearest
from rankward.config.recording import without, without_unset

SCHEMAS: dict[str, type] = {
    "run": schema.RunConfig,
    "factorization": groups.Factorization,
    "matrix_factorization": groups.MatrixFactorization,
    "tensor_factorization": groups.TensorFactorization,
    "symmetric_factorization": groups.SymmetricFactorization,
    "tucker_factorization": groups.TuckerFactorization,
    "hierarchical_factorization": groups.HierarchicalFactorization,
    "nonlinear_factorization": groups.NonlinearFactorization,
    "depth": groups.Depth,
    "constant_rate": groups.ConstantRate,
    "adaptive_rate": groups.AdaptiveRate,
    "flow_rate": groups.FlowRate,
    "cosine_rate": groups.CosineRate,
    "optimizer": groups.Optimizer,
    "momentum": groups.Momentum,
    "adam": groups.Adam,
    "rmsprop": groups.RMSprop,
    "sign_descent": groups.SignDescent,
    "loss": groups.Loss,
    "huber": groups.Huber,
    "spectral": groups.Spectral,
    "init": groups.Init,
    "around": groups.Around,
    "between": groups.Between,
    "two_by_two": groups.TwoByTwo,
    "dimensions": groups.Dimensions,
    "diagonal": groups.Diagonal,
    "blocks": groups.Blocks,
    "pattern": groups.Pattern,
    "random_matrix": groups.RandomTruth,
    "random_tensor": groups.RandomTensor,
    "hierarchical_truth": groups.HierarchicalTruth,
    "changing": groups.Changing,
    "sensing": groups.Sensing,
    "observations_file": groups.File,
    "observations_ratings": groups.Ratings,
    "observations_matrix": groups.Matrix,
    "observations_tensorly": groups.TensorlyData,
    "images": groups.Images,
    "image_files": groups.ImageFiles,
    "metrics": groups.Metrics,
    "wandb": groups.WandbLogger,
    "file_logger": groups.FileLogger,
    "trainer": groups.Trainer,
}

# Keys that do not change what a run computes; after `max_seconds` a run can be resumed.
NOT_HASHED = ("ckpt_path", "logger", "checkpoint", "figures", "trainer", "results", "max_seconds")
# Groups that are not hashed at these values: runs of versions without the group have the same hash.
ADDED = {
    "optimizer": {"name": "descent", "_target_": "rankward.optimizers.Descent", "weight_decay": 0},
    "loss": {"name": "squared", "_target_": "rankward.losses.Squared", "reduction": None},
}


def register() -> None:
    """Store every schema under `hydra/rankward`, which Hydra's help leaves out. The defaults of a YAML name one."""
    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(group="hydra/rankward", name=name, node=node, provider="rankward")


def run_config(cfg: DictConfig) -> schema.RunConfig:
    """Convert a composed config, with or without Hydra's part, into checked dataclasses.

    Raises:
        InputError: a value that is missing, out of range, or in conflict with another group.
    """
    own = without_hydra(cfg)
    missing = sorted(OmegaConf.missing_keys(own))
    if missing:
        raise InputError(f"{missing[0]} is not set: this choice has no default for it")
    try:
        run = OmegaConf.to_object(own)
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is not set") from error
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
    """Refuse keys that `+key=value` has added and that no schema has."""
    known = [field.name for field in fields(node)]
    for key, value in vars(node).items():
        if key not in known:
            shown = [name for name in known if name not in RESERVED]
            known_keys = f"{prefix.removesuffix('.') or 'the config'} has {', '.join(shown)}"
            raise InputError(f"+{prefix}{key}: there is no such key; {known_keys}{nearest(key, shown)}")
        inner = value if isinstance(value, dict) else {key: value}  # each logger is a schema
        for name, each in inner.items():
            if is_dataclass(each):
                _refuse_added(f"{prefix}{key}.{name}." if inner is value else f"{prefix}{key}.", each)


def config_hash(run: dict[str, Any]) -> str:
    """Hash of a resolved config without loggers, device, checkpoints and figures, as sixteen hex digits.

    Example:
        >>> config_hash({"seed": 0}) == config_hash({"seed": 0, "ckpt_path": "x"})
        True
    """
    return hashlib.sha256(json.dumps(hashed(run), sort_keys=True, default=str).encode()).hexdigest()[:16]


def hashed(run: dict[str, Any]) -> dict[str, Any]:
    """The keys and values of a resolved config that `config_hash` covers."""
    set_keys = without(without_unset(run), ADDED)
    return {key: value for key, value in set_keys.items() if key not in NOT_HASHED}
