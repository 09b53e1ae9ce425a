"""The construction of the object that a config's `_target_` names."""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from rankward.config.choices import RESERVED
from rankward.config.errors import ConfigError, nearest
from rankward.config.groups import Choice
from rankward.private_apis import authorize_target

ALLOWED = "a class or function that is not on Hydra's blocklist"


@functools.lru_cache(maxsize=1024)
def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(factory).parameters


def takes(choice: Choice, name: str) -> bool:
    """Whether the `_target_` of a choice, of which an object could be built, has an argument of that name."""
    return name in _parameters(pkgutil.resolve_name(choice._target_))


def build(group: str, node: Choice | Any, **more: Any) -> Any:
    """Call the `_target_` of a choice, or of a mapping, with its other keys, and with those of `more` that it takes.

    Raises:
        ConfigError: no such class or function, one on Hydra's blocklist, or keys that it does not take.
    """
    if isinstance(node, Choice):
        target, arguments = node._target_, node.arguments()
    elif isinstance(node, Mapping):
        target = node.get("_target_", "???")
        arguments = {key: value for key, value in node.items() if key not in RESERVED}
    else:
        raise ConfigError(group, node, "a mapping with a `_target_`")
    refuse_blocked(f"{group}._target_", target)
    try:
        factory = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's module may raise anything
        raise ConfigError(f"{group}._target_", target, f"an importable class or function ({error})") from error
    if not _is_allowed(factory):  # another name may lead to the same object
        raise ConfigError(f"{group}._target_", target, ALLOWED)
    parameters = _parameters(factory)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not open_ended:
            known = [name for name in parameters if name not in more]
            raise ConfigError(f"{group}.{key}", arguments[key], f"one of {', '.join(known)}", nearest(key, known))
    offered = {key: value for key, value in more.items() if key in parameters}
    try:
        return factory(**arguments, **offered)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(group, target, f"arguments that fit it ({error})") from error


def refuse_blocked(key: str, target: str) -> None:
    """Refuse a name on Hydra's blocklist: `os.system`, `builtins.eval`, `subprocess.run`, ...

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
    """Whether Hydra would call an object for a config."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        instantiate({"_target_": factory, "_partial_": True})
    except InstantiationException:
        return False
    return True
