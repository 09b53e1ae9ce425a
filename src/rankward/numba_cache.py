"""numba's disk cache of compiled functions, without errors: a file that cannot be read is compiled again."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher

from rankward.private_apis import disk_cache, set_disk_cache
from rankward.terminal import say

_compiled: list[CFunc] = []  # must not be freed: their addresses are in use
_reported: set[str] = set()  # cache folders that a message has named


def forgive(module: ModuleType) -> None:
    """Make the functions of a module with `cache=True` ignore cache files that are torn or cannot be written.

    A kill or a full disk may leave torn files, and numba would raise an error in every later process.
    """
    for function in vars(module).values():
        if isinstance(function, Dispatcher) and type(disk_cache(function)) is FunctionCache:
            set_disk_cache(function, _Forgiving(function.py_func))


def compiled_at(function: Callable[..., Any], signature: Any) -> int:
    """Compile a function for native callers, with a disk cache as in `forgive`, and return its address."""
    compiled = CFunc(function, (signature.args, signature.return_type), {}, {"nopython": True})
    set_disk_cache(compiled, _Forgiving(function))
    compiled.compile()
    _compiled.append(compiled)
    address: int | None = compiled.address
    assert address is not None
    return address


class _Forgiving(FunctionCache):  # type: ignore[misc]
    """numba's disk cache of one function, without errors."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None if no file can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling and linking raise errors of any type
            if self.cache_path not in _reported:
                _reported.add(self.cache_path)
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                line = f"a compiled kernel cannot be read ({why}) and is compiled again"
                say(f"rankward: {self.cache_path}: {line}", error=True)
        try:
            self.flush()
        except OSError:
            self.disable()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compiled function if possible."""
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk: it is compiled again next time
            self.disable()
