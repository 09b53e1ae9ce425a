"""The command line as a user types it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rankward.cli import for_hydra
from rankward.config.overrides import as_file

NAMES = [
    "p(1).csv", "my file.csv", "a=b.csv", "a,b.csv", "a#b.csv", "Größe.csv", "a[1].csv", "{x}.csv", "a&b.csv", "a!b.csv",
    "it's.csv", 'q"q.csv', "a;b.csv", "a~b.csv", "^x.csv", "a\\b.csv", "<x>.csv", "[1].npy", "1,2.NPZ", "S.CSV",
]  # fmt: skip


@pytest.mark.parametrize("key", ["observations.path", "observations.ground_truth"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("there", [True, False])
def test_a_file_may_have_any_name(tmp_path, monkeypatch, key, name, there):
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / name).touch()
    elif "," in name:  # several files, or a file that is not there
        return
    parsed = OverridesParser.create().parse_override(as_file(f"{key}={name}"))
    assert parsed.value() == name and not parsed.is_sweep_override()


def test_a_sweep_over_files_of_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("p(1).csv", "a=b.csv", "c.csv"):
        (tmp_path / name).touch()
    parsed = OverridesParser.create().parse_override(as_file("observations.path=p(1).csv,a=b.csv,c.csv"))
    assert list(parsed.sweep_string_iterator()) == ["'p(1).csv'", "'a=b.csv'", "c.csv"]


@pytest.mark.parametrize(
    "override",
    [
        "observations.path=a.csv", "observations.path='p(1).csv'", "observations.path=choice(a.csv,b.csv)",
        "observations.path=[a.csv]", "observations.ground_truth=null", "observations.dims=[4,5]", "seed=range(0,3)",
    ],
)  # fmt: skip
def test_text_that_hydra_reads_is_not_changed(override):
    assert as_file(override) == override


def test_the_command_line_quotes_a_file_s_name():
    assert for_hydra(["-m", "observations.path=p(1).csv"]) == ["-m", "observations.path='p(1).csv'"]
