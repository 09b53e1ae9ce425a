"""A run ends at a plateau of its loss, also one that goes on from a checkpoint; without this stop nothing changes."""

import torch

from helpers.runs import LONG, composed, contents, interrupted_after, trained
from rankward import results
from rankward.config import config_hash
from rankward.config.recording import without_unset

FLAT = [*LONG, "record.every=20000", "stop_plateau.window=19990", "stop_plateau.tolerance=0.12"]


def test_run_ends_at_the_first_flat_window_and_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    (ended,) = trained(tmp_path / "a", FLAT)
    loss = results.read_trace(tmp_path / "a" / "0")["loss"].to_list()  # a row each 20,000 iterations, as the marks
    changes = [abs(after - before) <= 0.12 * before for before, after in zip(loss, loss[1:], strict=False)]
    assert len(changes) > 5 and changes == [False] * (len(changes) - 1) + [True]
    assert (ended.status, ended.summary["iterations"]) == ("plateau", 20_000 * len(changes))
    assert not ended.failed and results.is_complete(tmp_path / "a" / "0")
    assert ended.summary["stop"]["plateau"] == {"window": 19990, "tolerance": 0.12}
    with monkeypatch.context() as patched:
        interrupted_after(patched, 4)
        trained(tmp_path / "b", FLAT)
    checkpoint = tmp_path / "b" / "0" / results.CHECKPOINT
    assert 0 < torch.load(checkpoint, weights_only=True)["state_dict"]["progress_iteration"] < 20_000 * len(changes)
    trained(tmp_path / "b", FLAT, ckpt_path=checkpoint)
    assert contents(tmp_path / "b" / "0") == contents(tmp_path / "a" / "0")


def test_checkpoint_without_marks_resumes(tmp_path, monkeypatch):
    short = [*LONG, "max_iterations=20000"]
    trained(tmp_path / "a", short)
    with monkeypatch.context() as patched:
        interrupted_after(patched, 2)
        trained(tmp_path / "b", short)
    checkpoint = tmp_path / "b" / "0" / results.CHECKPOINT
    content = torch.load(checkpoint, weights_only=True)
    del content["state_dict"]["progress_marked"], content["state_dict"]["progress_marked_loss"]
    torch.save(content, checkpoint)
    trained(tmp_path / "b", short, ckpt_path=checkpoint)
    assert contents(tmp_path / "b" / "0") == contents(tmp_path / "a" / "0")


def test_default_is_neither_recorded_nor_hashed():
    run, plain = composed("logger=none")
    assert run.stop_plateau.window is None and "stop_plateau" not in without_unset(plain)
    assert config_hash({key: value for key, value in plain.items() if key != "stop_plateau"}) == config_hash(plain)
    with_stop = {**plain, "stop_plateau": {"window": 1, "tolerance": 0.0}}
    assert config_hash(with_stop) != config_hash(plain)
