"""`rankward resume FOLDER` goes on in the folder that was named, whatever its name is, or refuses."""

import os
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from helpers.commands import rankward
from rankward import results
from rankward.cli import for_hydra
from rankward.config import ConfigError
from rankward.config.overrides import in_quotes
from rankward.sweeps.command import command_of

NAMES = [
    "lr=0.1",
    "back\\slash",
    "it's",
    "two\\\\",
    "quote\\'s",
    'a"b',
    "a b,c",
    "[x]",
    "{y}",
    "-m",
    "~",
    "$x",
    "é",
    "1e5",
]


def taken(override):
    """The value that Hydra's own parser reads, as a config gives it."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return OmegaConf.create({"folder": parsed.value()}).folder


def hydra_files(folder):
    (folder / ".hydra").mkdir(parents=True)
    overrides = {"task": ["seed=1"], "hydra": ["++hydra.run.dir=old", "hydra.mode=RUN"]}
    config = {"hydra": {"overrides": overrides, "runtime": {"config_sources": []}}}
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "hydra.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_the_one_that_was_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    hydra_files(tmp_path / name)
    seed, folder = for_hydra(["resume", name])
    assert (seed, taken(folder)) == ("seed=1", str(tmp_path / name))


@pytest.mark.parametrize("written", ["{}", "{}/", '"{}"', "'{}/'", "./{}"])
def test_a_folder_with_equals_signs_is_found_however_it_is_written(tmp_path, monkeypatch, written):
    monkeypatch.chdir(tmp_path)
    hydra_files(tmp_path / "outputs" / "depth=2,seed=0")
    seed, folder = for_hydra(["resume", written.format("outputs/depth=2,seed=0")])
    assert (seed, taken(folder)) == ("seed=1", str(tmp_path / "outputs" / "depth=2,seed=0"))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@example("\\\n")
def test_hydra_reads_back_any_text_in_quotes(text):
    if "${" not in text:
        assert taken(f"folder={in_quotes(text)}") == text


@pytest.mark.parametrize(
    ("name", "why"),
    [(b"a${now:%Y}b", "does not contain"), (b"a${seed}/b", "does not contain"), (b"caf\xe9", "is UTF-8")],
)
def test_names_that_hydra_cannot_take_are_refused(tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    folder = Path(os.fsdecode(name))
    hydra_files(folder)
    with pytest.raises(ConfigError, match=why):
        command_of(folder)
    with pytest.raises(ConfigError, match="resume"):
        for_hydra(["resume", str(folder)])


@pytest.mark.slow
def test_a_run_is_gone_on_with_where_it_is(tmp_path):
    """A complete run under another name is kept there; from a working folder that Hydra cannot take nothing starts."""
    quick = ["logger=none", "depth=2", "max_iterations=50"]
    assert rankward(*quick, "hydra.run.dir=one", cwd=tmp_path).returncode == 0
    name = "lr=0.1 back\\slash it's"
    (tmp_path / "one").rename(tmp_path / name)
    done = rankward("resume", name, cwd=tmp_path)
    assert done.returncode == 0 and f"{tmp_path / name}: complete, kept" in done.stdout, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    odd = tmp_path / "a${now:%Y}b"
    odd.mkdir()
    done = rankward(*quick, cwd=odd)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "${" in done.stderr
    assert not list(odd.iterdir()) and results.is_complete(tmp_path / name)
