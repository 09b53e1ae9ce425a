"""Checks of single values."""

import resource

import pytest

from rankward.config import InputError
from rankward.config.checks import fits_memory, machine_memory


def test_a_limit_of_the_process_is_a_limit_of_memory(monkeypatch):
    there = machine_memory()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: {resource.RLIMIT_AS: (2**30, resource.RLIM_INFINITY)}[kind])
    assert machine_memory() == 2**30
    with pytest.raises(InputError, match=r"it needs 2\.0 GiB, this machine has 1\.0 GiB"):
        fits_memory("observations.dims", [1, 1], 2**31)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert machine_memory() >= there
