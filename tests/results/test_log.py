"""The log of a run says what was done, with times, and holds failures."""

import datetime
import re

import pytest
from omegaconf import OmegaConf

from helpers.runs import composed
from rankward import results
from rankward.training import job

STAMP = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3}\] (.*)")


def lines(folder):
    """Times and texts of a log."""
    found = [STAMP.fullmatch(line) for line in (folder / "rankward.log").read_text().splitlines()]
    assert all(found)
    return [(datetime.datetime.fromisoformat(each[1]), each[2]) for each in found if each]


def test_logs_of_an_ensemble_share_lines_and_are_written_once(tmp_path):
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
        results.note(folder, "begun")
    log = results.Log(folders)
    log.note("both")
    assert [text for _, text in lines(folders[0])] == ["begun"]
    log.end(1, "ended")
    assert [text for _, text in lines(folders[1])] == ["begun", "both", "ended"]
    now = datetime.datetime.now()
    assert all(abs((now - time).total_seconds()) < 60 for time, _ in lines(folders[1]))


def test_log_of_a_single_run_is_written_at_once(tmp_path):
    results.Log([tmp_path]).note("trains")
    assert [text for _, text in lines(tmp_path)] == ["trains"]


def test_unwritable_log_is_ignored(tmp_path):
    results.note(tmp_path / "nowhere", "begun")
    assert not (tmp_path / "nowhere").exists()


def test_failure_of_a_single_run_is_logged(tmp_path, monkeypatch):
    def fails(*_):
        raise ArithmeticError("a product that I do not like")

    monkeypatch.setattr(job, "train", fails)
    config, _ = composed("depth='2'")
    with pytest.raises(ArithmeticError):
        job.run(OmegaConf.create({"seed": 0}), config, tmp_path)
    text = (tmp_path / "rankward.log").read_text()
    first, second, *rest = text.splitlines()
    assert STAMP.fullmatch(first) and "depth 2, gaussian, seed 0 (config_hash " in first
    assert STAMP.fullmatch(second) and second.endswith("failed: ArithmeticError: a product that I do not like")
    assert rest[0].startswith("Traceback") and "in fails" in text
