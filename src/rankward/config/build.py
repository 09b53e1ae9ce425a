"""From a group's node to the object that its `_target_` names."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from rankward.config.errors import ConfigError, DataError, nearest
from rankward.private_apis import authorize_target

RESERVED = ("_target_", "name")
ALLOWED = "a class or function that is not on Hydra's blocklist"


def setting(node: Any, key: str, default: Any = None) -> Any:
    """A key of a group's node, be it a schema's dataclass or the plain mapping of a user's own YAML."""
    return node.get(key, default) if isinstance(node, Mapping) else getattr(node, key, default)


@functools.lru_cache(maxsize=1024)
def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(factory).parameters


def takes(node: Any, name: str) -> bool:
    """Whether the `_target_` of a node, of which an object could be built, has an argument of that name."""
    return name in _parameters(pkgutil.resolve_name(setting(node, "_target_")))


def build(group: str, node: Any, **more: Any) -> Any:
    """Call the node's `_target_` with the node's keys, and with those of `more` that it takes.

    Raises:
        ConfigError: no such class or function, one of Hydra's blocklist, or keys that it does not take.
    """
    if isinstance(node, Mapping):
        keys = dict(node)
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        keys = dataclasses.asdict(node)
    else:
        raise ConfigError(group, node, "a mapping with a `_target_`")
    target = keys.get("_target_", "???")
    refuse_blocked(f"{group}._target_", target)
    try:
        factory = pkgutil.resolve_name(target)
    except Exception as error:  # whatever importing a user's module raises
        raise ConfigError(f"{group}._target_", target, f"an importable class or function ({error})") from error
    if not _is_allowed(factory):  # whichever name has led to it
        raise ConfigError(f"{group}._target_", target, ALLOWED)
    parameters = _parameters(factory)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    arguments = {key: value for key, value in keys.items() if key not in RESERVED}
    for key in arguments:
        if key not in parameters and not open_ended:
            known = [name for name in parameters if name not in more]
            raise ConfigError(f"{group}.{key}", arguments[key], f"one of {', '.join(known)}", nearest(key, known))
    offered = {key: value for key, value in more.items() if key in parameters}
    try:
        return factory(**arguments, **offered)
    except (ConfigError, DataError):
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(group, target, f"arguments that fit it ({error})") from error


def refuse_blocked(key: str, target: str) -> None:
    """Refuse what Hydra never calls for a config, by its name: `os.system`, `builtins.eval`, `subprocess.run`, ...

    Raises:
        ConfigError: the key and the name.
    """
    from hydra.errors import InstantiationException

    try:
        authorize_target(target, key)
    except InstantiationException as error:
        raise ConfigError(key, target, ALLOWED) from error


@functools.cache
def _is_allowed(factory: Any) -> bool:
    """Whether Hydra would call an object for a config; asked once for each."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        instantiate({"_target_": factory, "_partial_": True})
    except InstantiationException:
        return False
    return True
