"""Compiled functions that numba keeps on disk: what it cannot read there is compiled again."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher

from rankward.private_apis import disk_cache, set_disk_cache
from rankward.terminal import say

_kept: list[CFunc] = []  # whose addresses are in use
_said: set[str] = set()  # folders of which a line has told


def forgive(module: ModuleType) -> None:
    """Let a module's functions that are compiled with `cache=True` do without files that are torn or cannot be written.

    A kill or a full disk may leave such files; numba raises what unpickling them meets, in every later process.
    """
    for function in vars(module).values():
        if isinstance(function, Dispatcher) and type(disk_cache(function)) is FunctionCache:
            set_disk_cache(function, _Forgiving(function.py_func))


def compiled_at(function: Callable[..., Any], signature: Any) -> int:
    """The address of a function, compiled for native callers and kept on disk; see `forgive`."""
    made = CFunc(function, (signature.args, signature.return_type), {}, {"nopython": True})
    set_disk_cache(made, _Forgiving(function))
    made.compile()
    _kept.append(made)
    address: int | None = made.address
    assert address is not None
    return address


class _Forgiving(FunctionCache):  # type: ignore[misc]
    """numba's cache of one function."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function; None where there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # whatever unpickling and linking meet
            if self.cache_path not in _said:
                _said.add(self.cache_path)
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                say(f"rankward: {self.cache_path}: a compiled kernel cannot be read ({why}): made again", error=True)
        try:
            self.flush()
        except OSError:
            self.disable()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where that is possible."""
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk: it is compiled again next time
            self.disable()
