"""Observations that change during a run: against torch's own optimizer, alone and in company, resumed, refused."""

import numpy as np
import pytest
import torch

from helpers.runs import composed, contents, interrupted_after, trained
from rankward import results
from rankward.config import ConfigError, DataError
from rankward.observations import EntryMask, FirstPart, changing
from rankward.training.ensemble import Ensemble

SMALL = [
    "observations=changing", "observations.dims=[3,4]", "observations.rank=1", "observations.count=7",
    "observations.schedule.rank=2", "depth='2'", "init.scale=0.3", "metrics=few", "stop_loss=0", "max_iterations=150",
]  # fmt: skip


def until(iterations, *more, observations=SMALL):
    return [*observations, f"observations.schedule.until={iterations}", *more]


def rows(folder):
    trace = results.read_trace(folder)
    return {name: trace[name].to_list() for name in ("iteration", "loss", "part")}


def test_steps_and_losses_are_those_of_torch(tmp_path):
    """A loop that takes other values from iteration 100 on; Adam's state is the same before and after."""
    trained(tmp_path, until(100, "optimizer=adam", "lr.eta=0.01", "engine=reference", "record.every=50"))
    seen, arrays = changing((3, 4), 1, 7, {"until": 100, "rank": 2}), results.read_factors(tmp_path / "0")
    factors = [arrays[f"initial.{layer}"].clone().requires_grad_() for layer in (0, 1)]
    mask, adam = torch.from_numpy(seen.mask), torch.optim.Adam(factors, lr=0.01)

    def loss(values):
        return 0.5 * ((factors[1] @ factors[0] - torch.from_numpy(values))[mask] ** 2).sum()

    expected = [loss(seen.first.values).item()]
    for iteration in range(250):
        values = seen.first.values if iteration < 100 else seen.values
        adam.zero_grad()
        loss(values).backward()
        adam.step()
        expected += [loss(values).item()] if iteration % 50 == 49 else []
    found = rows(tmp_path / "0")
    assert found["iteration"] == list(range(0, 251, 50)) and found["part"] == [1, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-9)
    for layer, factor in enumerate(factors):
        torch.testing.assert_close(arrays[f"final.{layer}"], factor.detach(), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(arrays["first.ground_truth"].numpy(), seen.first.ground_truth)
    summary = results.read_summary(tmp_path / "0")
    assert summary["iterations"] == 250 and summary["status"] == "max_iterations"
    assert summary["notes"]["part"].startswith("losses up to iteration 100 are of the first values")


def test_a_change_at_0_is_none_and_company_changes_no_bit(tmp_path):
    jobs = [until(iterations, "engine=reference", "stop_loss=1e-3", "lr.eta=0.05") for iterations in (0, 100)]
    trained(tmp_path, *jobs)
    trained(tmp_path / "alone", jobs[1])
    assert contents(tmp_path / "1") == contents(tmp_path / "alone" / "0")
    plain = [each for each in jobs[0] if ".schedule." not in each and each != "observations=changing"]
    trained(tmp_path / "plain", ["observations=random_matrix", *plain])
    never, always = results.read_trace(tmp_path / "0"), results.read_trace(tmp_path / "plain" / "0")
    assert never.drop("part").equals(always) and set(never["part"]) == {2}
    for name, array in results.read_factors(tmp_path / "plain" / "0").items():
        assert torch.equal(array, results.read_factors(tmp_path / "0")[name])
    assert "part" not in results.read_summary(tmp_path / "0")["notes"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [["lr=adaptive", "lr.eta=1e-2"], ["optimizer=momentum", "lr.eta=1e-3"]])
def test_compiled_runs_resume_with_the_same_bits(tmp_path, monkeypatch, more):
    """Runs that change at different times, one of them fitted in its first part, which goes on all the same."""
    jobs = [until(each, *more, "max_iterations=3000", "stop_loss=1e-6") for each in (0, 50, 1000, 20000)]
    whole = trained(tmp_path / "whole", *jobs)
    assert [o.summary["engine"] for o in whole] == ["fused"] * 4
    found = rows(tmp_path / "whole" / "3")
    first = [loss for loss, part in zip(found["loss"], found["part"], strict=True) if part == 1]
    assert min(first) < 1e-6 and found["iteration"][len(first) - 1] == 20000 and found["part"][-1] == 2
    trained(tmp_path / "reference", [*jobs[2], "engine=reference"])
    np.testing.assert_allclose(
        rows(tmp_path / "reference" / "0")["loss"][:40], rows(tmp_path / "whole" / "2")["loss"][:40], atol=1e-10
    )
    for chunks in (1, 3):
        folder = tmp_path / f"after {chunks}"
        with monkeypatch.context() as patched:
            interrupted_after(patched, chunks)
            assert "interrupted" in {o.status for o in trained(folder, *jobs)}
        trained(folder, *jobs, ckpt_path=folder / "0" / results.CHECKPOINT)
        for number in range(4):
            assert contents(folder / str(number)) == contents(tmp_path / "whole" / str(number))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("observations.schedule.until=75", "until: 75 is not allowed; expected a multiple of check_every=50"),
        ("observations.schedule.until=-50", "observations.schedule.until: -50 is not allowed"),
        (
            "observations.schedule.rank=0",
            "observations.schedule.rank: 0 is not allowed; expected an integer from 1 to 3",
        ),
        ("observations.holdout=0.5", "observations.holdout: 0.5 is not allowed; expected null: the observed values"),
        ("observations.center=mean", "observations.center: 'mean' is not allowed; expected null"),
        ("engine=indexed", "engine: 'indexed' is not allowed; expected another one: the observed values change"),
        ("lr=flow", "lr: 'flow' is not allowed; expected another one: observations=changing"),
    ],
)
def test_what_cannot_change_is_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        Ensemble.of([composed("logger=none", *SMALL, override)[0]])


def test_first_values_fit_the_observations():
    mask, values = np.eye(2, dtype=bool), np.ones((2, 2))
    EntryMask(mask, values, first=FirstPart(0, np.array([[1.0, np.nan], [np.nan, 1.0]])))
    for first, words in ((np.full((2, 2), np.inf), "not finite"), (np.ones((2, 3)), "first values are 2x3")):
        with pytest.raises(DataError, match=words):
            EntryMask(mask, values, first=FirstPart(0, first))
    with pytest.raises(DataError, match="expected 0 or more"):
        FirstPart(-1, values)
