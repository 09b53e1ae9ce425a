"""The typed configuration of a run; imports nothing heavy."""

from rankward.config.errors import ConfigError, DataError, nearest
from rankward.config.registry import register, run_config
from rankward.config.schema import RunConfig

__all__ = ["ConfigError", "DataError", "RunConfig", "nearest", "register", "run_config"]
