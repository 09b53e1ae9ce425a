"""Private interfaces of other libraries, one function each.

They may change with any release. `tests/test_private_apis.py` tests each of them; the tested versions are those of
`constraints.txt`. Libraries are imported inside the functions, so that the command line starts without them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any


def hydra_flags() -> list[str]:
    """Flags of Hydra's command line, such as `--multirun` and `-m`, to name the one that is nearest to a misspelt flag.

    A public list of the flags would replace it.
    """
    from hydra._internal.utils import get_args_parser

    return [flag for action in get_args_parser()._actions for flag in action.option_strings]


def authorize_target(target: str, key: str) -> None:
    """Check a `_target_` against Hydra's blocklist, without importing it.

    A public function of Hydra that does not import the target would replace it.

    Raises:
        hydra.errors.InstantiationException: the target is on the blocklist.
    """
    from hydra._internal.target_policy import _authorize_target_name

    _authorize_target_name(target, target, key)


def apply_overrides(overrides: list[Any], config: Any) -> None:
    """Apply parsed overrides to a composed config in place, as Hydra does.

    It saves composing the files again for every job of a sweep. A public function that changes a composed config would
    replace it.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def override_dirname(overrides: Sequence[Any], settings: Any) -> str:
    """The value of `hydra.job.override_dirname` for parsed overrides.

    Args:
        settings: `hydra.job.config.override_dirname`.

    Composing every job with Hydra would replace it.
    """
    from hydra._internal.config_loader_impl import get_overrides_dirname

    return get_overrides_dirname(
        overrides=list(overrides),
        kv_sep=settings.kv_sep,
        item_sep=settings.item_sep,
        exclude_keys=settings.exclude_keys,
    )


def with_integer(override: Any, number: int, text: str) -> Any:
    """A parsed override with another integer as its value: thousands of seeds are parsed once.

    A faster parser would replace it.
    """
    return replace(override, _value=number, input_line=text)


def string_representer() -> Any:
    """OmegaConf's rule for quoting strings in YAML, so that our files are those that Hydra writes.

    A dumper argument of `OmegaConf.to_yaml` would replace it: libyaml's is several times faster.
    """
    from omegaconf._utils import get_omega_conf_dumper

    return get_omega_conf_dumper().str_representer


def disk_cache(function: Any) -> Any:
    """The disk cache of a function that numba compiles; None without one.

    A public way to pass a cache to `numba.njit` would replace it and `set_disk_cache`.
    """
    return getattr(function, "_cache", None)


def set_disk_cache(function: Any, cache: Any) -> None:
    """Replace the disk cache of a function that numba compiles, before it is compiled."""
    function._cache = cache


def nvvm() -> Any:
    """The module through which numba-cuda calls its compiler, to replace `compile_ir` with one that gets `fma=False`.

    An option `fma` of `cuda.jit` that reaches the compiler would replace it.
    """
    return importlib.import_module("numba.cuda.cudadrv.nvvm")


def dispatch_mode() -> Any:
    """The base class of modes that see every operation of torch.

    PyTorch's documentation of extensions names it, in this private module.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    return TorchDispatchMode


def without_dispatch_modes() -> AbstractContextManager[Any]:
    """Suspend all dispatch modes while the block lasts, as operations of our own must not be recorded.

    A public context manager that does so would replace it.
    """
    from torch.utils._python_dispatch import _disable_current_modes

    return _disable_current_modes()


def operator_name(operator: Any) -> str:
    """Name of an operator of torch in its namespace, such as `aten::add`, without the overload."""
    return str(operator._schema.name)


def changes_arguments(operator: Any) -> bool:
    """Whether an operator of torch writes to one of its arguments. A public flag, as `Tag`s are, would replace it."""
    return bool(operator._schema.is_mutable)


def written_arguments(operator: Any) -> Iterable[tuple[int, str]]:
    """Position and name of the arguments that an operator of torch writes to."""
    for position, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield position, argument.name


def stored_entries(tensor: Any) -> int:
    """Number of entries that a sparse COO tensor stores, repeated ones included.

    The public `indices` refuses tensors with repeated entries.
    """
    return int(tensor._nnz())
