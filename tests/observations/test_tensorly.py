"""The tensors that tensorly ships, against the files of the package, read by NumPy and through observations=matrix."""

import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.runs import composed
from rankward.config import InputError
from rankward.config.groups import TENSORLY
from rankward.observations import from_matrix, from_tensorly
from rankward.training.ensemble import measurement_of

FILES = {"il2": "IL2_Response_Tensor.npy", "covid19": "COVID19_data.npy", "kinetic": "Kinetic.npy"}


@pytest.mark.parametrize("name", ["il2", "covid19", pytest.param("kinetic", marks=pytest.mark.slow)])
def test_data_sets_are_the_files_of_the_package(name):
    tensorly = pytest.importorskip("tensorly")
    path = Path(tensorly.__file__).parent / "datasets" / "data" / FILES[name]
    array, seen = np.load(path), measurement_of(composed("observations=tensorly", f"observations.dataset={name}")[0])
    np.testing.assert_array_equal(np.where(seen.mask, seen.values, np.nan), array)
    again = from_matrix(str(path))
    assert (again.mask == seen.mask).all() and (again.values == seen.values).all()
    assert list(seen.dims) == TENSORLY[name] and seen.note.startswith(f"observations.dataset: {name!r}: ")


def test_another_name_and_a_missing_package_are_one_line(monkeypatch):
    with pytest.raises(
        InputError, match="observations.dataset: 'il3' is not allowed; expected one of il2, covid19, kin"
    ):
        composed("observations=tensorly", "observations.dataset=il3")
    monkeypatch.setitem(sys.modules, "tensorly", None)
    with pytest.raises(InputError, match=r"observations=tensorly needs tensorly .*pip install 'rankward\[data\]'"):
        from_tensorly("il2")
