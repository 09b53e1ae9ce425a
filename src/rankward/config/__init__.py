"""The typed configuration of a run; imports nothing heavy."""

from rankward.config.build import build, takes
from rankward.config.choices import CONFIG_FOLDER
from rankward.config.errors import ConfigError, DataError, InputError, RankwardError, nearest
from rankward.config.registry import config_hash, register, run_config
from rankward.config.schema import RunConfig

__all__ = [
    "CONFIG_FOLDER",
    "ConfigError",
    "DataError",
    "InputError",
    "RankwardError",
    "RunConfig",
    "build",
    "config_hash",
    "nearest",
    "register",
    "run_config",
    "takes",
]
