"""The cache of compiled kernels: whose it is, and what becomes of files there that are not what they should be."""

import ctypes
import os
import stat
from pathlib import Path

import pytest

from helpers.commands import rankward
from rankward.dynamics.kernels import cache as kernel_cache
from rankward.numba_cache import compiled_at

RUN = ["logger=none", "metrics=few", "depth=2", "lr.eta=0.05", "init=balanced", "max_iterations=300"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that the cache is asked to be in, afresh; temporary files are the test's own too."""
    monkeypatch.setenv("RANKWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("rankward.numba_cache._reported", set())
    kernel_cache.cache_folder.cache_clear()
    yield tmp_path / "cache"
    kernel_cache.cache_folder.cache_clear()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_cache_is_closed_to_others(cache):
    before = os.umask(0)
    try:
        folder = kernel_cache.cache_folder()
    finally:
        os.umask(before)
    assert folder.is_relative_to(cache) and mode(folder) == mode(folder.parent) == 0o700


def test_open_permissions_of_the_users_cache_are_removed(cache):
    (cache / "kernels").mkdir(parents=True, mode=0o755)
    (cache / "kernels").chmod(0o775)
    folder = kernel_cache.cache_folder()
    assert folder.is_relative_to(cache) and mode(folder.parent) == 0o700


def planted(cache):
    """The folder that would be used, with a kernel of somebody else's."""
    folder = cache / "kernels" / kernel_cache.sources_digest()
    folder.mkdir(parents=True)
    for each in (folder, folder.parent):
        each.chmod(0o700)
    return folder


@pytest.mark.parametrize("kind", ["group may write", "all may write above", "a link", "another owner"])
def test_a_folder_that_others_could_write_is_not_used(cache, kind, capsys):
    folder = planted(cache)
    if kind == "group may write":
        folder.chmod(0o770)
    elif kind == "all may write above":
        cache.chmod(0o777)
    elif kind == "a link":
        folder.rename(cache / "elsewhere")
        folder.symlink_to(cache / "elsewhere")
    else:
        if os.getuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(folder, 12345, -1)
    used = kernel_cache.cache_folder()
    assert not used.resolve().is_relative_to(cache) and mode(used) == 0o700 and used.stat().st_uid == os.getuid()
    told = capsys.readouterr().err
    assert told.startswith(f"rankward: kernels are not kept in {folder}") and told.count("\n") == 1


def test_world_writable_temporary_folder_needs_the_sticky_bit(cache):
    """As /tmp is: what one has made there nobody else can replace."""
    cache.mkdir()
    cache.chmod(0o1777)
    assert kernel_cache.cache_folder().is_relative_to(cache)


def test_text_that_is_not_the_kernels_is_never_executed(cache, capsys):
    folder = kernel_cache.cache_folder()
    (folder / "mine.py").write_text("raise SystemExit('executed')\n")
    assert kernel_cache.imported("mine", "answer = 42\n").answer == 42
    assert (folder / "mine.py").read_text() == "answer = 42\n"
    assert capsys.readouterr().err == f"rankward: {folder}/mine.py does not hold its kernel's text: written again\n"
    (folder / "mine.py").write_bytes(b"\x00\xff")  # torn
    assert kernel_cache.imported("mine", "answer = 43\n").answer == 43
    assert kernel_cache.imported("mine", "answer = 43\n").answer == 43
    assert capsys.readouterr().err.count("\n") == 1


KERNEL = """import numba


@numba.njit(cache=True)
def inner(x):
    return 2 * x


@numba.njit(cache=True)
def double(x):
    return inner(x)
"""


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("kept", [0, 20])
def test_a_torn_kernel_is_compiled_again_in_a_line(cache, suffix, kept, capsys):
    """Cut to nothing, or to some bytes, as a kill leaves it."""

    def doubled():
        return kernel_cache.imported("double", KERNEL).double(21.0), capsys.readouterr().err

    assert doubled() == (42.0, "")
    torn = list(kernel_cache.cache_folder().rglob(f"*.{suffix}"))
    assert len(torn) == 2
    for file in torn:
        os.truncate(file, kept)
    answer, said = doubled()
    assert answer == 42.0 and said.count("\n") == 1 and "a compiled kernel cannot be read" in said
    assert doubled() == (42.0, "")
    module = kernel_cache.imported("double", KERNEL)
    module.double(1.0)
    assert sum(module.double.stats.cache_hits.values()) == 1  # what was made again is kept


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_functions_for_native_callers_are_compiled_again(cache, suffix, capsys):
    """A function that kernels find by its address is kept and forgiven as the others are."""
    import numba

    def doubled():
        function = kernel_cache.imported("native", "def double(x):\n    return 2 * x\n").double
        address = compiled_at(function, numba.float64(numba.float64))
        return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(21.0), capsys.readouterr().err

    assert doubled() == (42.0, "")
    (torn,) = kernel_cache.cache_folder().rglob(f"*.{suffix}")
    os.truncate(torn, 20)
    answer, said = doubled()
    assert answer == 42.0 and said.count("\n") == 1 and "a compiled kernel cannot be read" in said
    assert doubled() == (42.0, "")


def test_kernel_that_cannot_be_stored_is_used(cache, monkeypatch):
    from numba.core.caching import IndexDataCacheFile

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_index", full)
    assert kernel_cache.imported("double", KERNEL).double(21.0) == 42.0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["py", "nbi", "nbc"])
def test_torn_kernels_do_not_change_a_run(tmp_path, suffix):
    own = os.environ | {"RANKWARD_CACHE": str(tmp_path / "cache")}

    def run(name):
        done = rankward(*RUN, f"hydra.run.dir={name}", cwd=tmp_path, env=own)
        assert done.returncode == 0, done.stderr
        return (tmp_path / name / "trace.parquet").read_bytes(), done.stderr

    first, said = run("first")
    assert said == ""
    for file in (tmp_path / "cache").rglob(f"*.{suffix}"):
        os.truncate(file, 20)
    again, said = run("again")
    assert again == first and said.startswith("rankward: ") and said.count("\n") == 1 and "again" in said
    assert run("then") == (first, "")
