"""Held-out entries: which are drawn, files of them, and each refusal in a line before anything is written."""

import dataclasses

import numpy as np
import pytest

from helpers.in_process import assert_refused, command_line
from helpers.runs import composed
from rankward.config import ConfigError, DataError, InputError
from rankward.observations import EntryMask, hold_out, random_matrix, random_tensor, sensing
from rankward.training.ensemble import measurement_of

RATINGS = random_matrix((6, 5), 2, 20)


def places(mask):
    return {tuple(index) for index in np.argwhere(mask).tolist()}


@pytest.mark.parametrize(("holdout", "count"), [(0.25, 5), (0.27, 5), (7, 7), (19, 19), (0.95, 19), (1, 1)])
def test_a_fraction_or_count_of_the_observed_entries_is_held_out(holdout, count):
    split = hold_out(RATINGS, holdout)
    assert (split.heldout.count, split.count) == (count, 20 - count)
    assert not (split.mask & split.heldout.mask).any()
    np.testing.assert_array_equal(split.mask | split.heldout.mask, RATINGS.mask)
    np.testing.assert_array_equal(split.values + split.heldout.values, RATINGS.values)
    assert not split.values[split.heldout.mask].any() and not split.heldout.values[split.mask].any()
    np.testing.assert_array_equal(split.ground_truth, RATINGS.ground_truth)


def test_the_draw_depends_on_its_seed_and_the_size_alone():
    first = hold_out(RATINGS, 6, seed=4)
    np.testing.assert_array_equal(hold_out(RATINGS, 0.3, seed=4).heldout.mask, first.heldout.mask)
    assert places(first.heldout.mask) < places(hold_out(RATINGS, 7, seed=4).heldout.mask)
    assert places(first.heldout.mask) != places(hold_out(RATINGS, 6, seed=5).heldout.mask)
    more = random_matrix((6, 5), 2, 21)  # one more entry is seen: it may enter the draw, and the others stay
    assert len(places(first.heldout.mask) - places(hold_out(more, 6, seed=4).heldout.mask)) <= 1


def test_every_entry_is_drawn_about_as_often():
    full = EntryMask(np.ones((3, 4), dtype=bool), np.zeros((3, 4)))
    drawn = sum(hold_out(full, 3, seed).heldout.mask.astype(int) for seed in range(2000))
    assert np.abs(drawn / 2000 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_the_split_is_the_same_for_any_seed_of_the_run():
    task = ["observations=random_matrix", "observations.holdout=0.2", "observations.holdout_seed=3"]
    splits = [measurement_of(composed(*task, f"seed={seed}")[0]) for seed in (0, 1)]
    assert splits[0] is splits[1]
    assert places(splits[0].mask) == places(hold_out(random_matrix((10, 10), 2, 60), 0.2, 3).mask)
    default, zero = (measurement_of(composed(*task[:2], *more)[0]) for more in ([], ["observations.holdout_seed=0"]))
    assert places(default.mask) == places(zero.mask) != places(splits[0].mask)


@pytest.mark.parametrize(
    "task",
    [
        [],
        ["observations=dimensions"],
        ["observations=perturbed"],
        ["observations=repositioned"],
        ["observations=tensor_order3"],
        ["observations=tensor_order4"],
    ],
    ids=str,
)
def test_every_set_of_entries_can_hold_some_out(task):
    whole, split = (measurement_of(composed(*task, *more)[0]) for more in ([], ["observations.holdout=1"]))
    assert split.count == whole.count - 1 and split.heldout.count == 1
    assert list(split.arrays()) == ["observations.mask", "observations.values", "heldout.mask", "heldout.values"]
    assert list(whole.arrays()) == ["observations.mask", "observations.values"]


def test_a_file_lists_them(tmp_path):
    np.save(tmp_path / "d.npy", np.where(RATINGS.mask, RATINGS.values, np.nan))
    wanted = hold_out(RATINGS, 4).heldout
    rows = [f"{i},{j},{wanted.values[i, j]!r}" for i, j in np.argwhere(wanted.mask).tolist()]
    (tmp_path / "h.csv").write_text(
        "row,column,value\n" + "\n".join(r.replace("np.float64(", "").rstrip(")") for r in rows)
    )
    np.savez(tmp_path / "h.npz", mask=wanted.mask, values=wanted.values)
    for name in ("h.csv", "h.npz"):
        task = ["observations=file", f"observations.path={tmp_path}/d.npy", f"observations.holdout={tmp_path}/{name}"]
        split = measurement_of(composed(*task)[0])
        np.testing.assert_array_equal(split.heldout.mask, wanted.mask)
        np.testing.assert_array_equal(split.heldout.values, wanted.values)
    np.savez(tmp_path / "h.npz", mask=RATINGS.mask & ~wanted.mask, values=RATINGS.values)  # a file that has changed
    assert places(measurement_of(composed(*task)[0]).heldout.mask) == places(RATINGS.mask & ~wanted.mask)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("0,0,1", "entry (0, 0) is not observed"),
        ("0,0,1\n1,1,0", "entry (0, 0) is not observed"),
        ("0,1,1\n7,1,0", "entry (7, 1) lies outside of a 2x2 matrix"),
        ("0,1,3", "entry (0, 1) is 3, in the observations 1"),
        ("0,1,1\n1,0,1\n1,1,0", "less than all 3 observed entries: at least one must stay observed"),
        ("0,1\n1,0", "`row,column,value`"),
        ("", "no observation"),
    ],
)
def test_files_of_other_entries_are_refused(tmp_path, lines, words):
    (tmp_path / "h.csv").write_text(lines)
    assert_refused(
        command_line("observations.holdout=h.csv", cwd=tmp_path), "rankward: observations.holdout: 'h.csv'", words
    )


NUMBERS = "a fraction above 0 and below 1, an integer of at least 1, or the path of a file"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["holdout=0"], f"holdout: 0 is not allowed; expected {NUMBERS}"),
        (["holdout=-2"], f"holdout: -2 is not allowed; expected {NUMBERS}"),
        (["holdout=1.5"], f"holdout: 1.5 is not allowed; expected {NUMBERS}"),
        (["holdout=1.0"], f"holdout: 1.0 is not allowed; expected {NUMBERS}"),
        (["holdout=nan"], f"holdout: nan is not allowed; expected {NUMBERS}"),
        (["holdout=true"], f"holdout: True is not allowed; expected {NUMBERS}"),
        (["holdout=[1]"], f"holdout: [1] is not allowed; expected {NUMBERS}"),
        (["holdout=3"], "holdout: 3 is not allowed; expected less than all 3 observed entries"),
        (["holdout=4"], "holdout: 4 is not allowed; expected less than 3, the number of observed entries"),
        (["holdout=0.9"], "holdout: 0.9 is not allowed; expected less than all 3 observed entries"),
        (["holdout=0.1"], "holdout: 0.1 is not allowed; expected a fraction of the 3 observed entries"),
        (["holdout=nowhere.csv"], "holdout: 'nowhere.csv' is not a file"),
        (["holdout=list.xls"], "holdout: 'list.xls' has an unknown ending"),
        (["holdout_seed=0"], "holdout_seed: 0 is not allowed; expected null: observations.holdout is not set"),
        (["holdout=x.csv", "holdout_seed=0"], "expected null: observations.holdout is a file, and nothing is drawn"),
        (["holdout=1", "holdout_seed=-1"], "holdout_seed: -1 is not allowed; expected an integer of at least 0"),
        (["holdot=1"], "observations.holdot: no such key"),
    ],
)
def test_wrong_values_are_refused_in_a_line(tmp_path, arguments, words):
    ended = command_line(*(f"observations.{each}" for each in arguments), cwd=tmp_path)
    assert_refused(ended, "rankward: observations.", words)


def test_measurements_cannot_be_held_out(tmp_path):
    ended = command_line("observations=sensing", "observations.holdout=0.5", cwd=tmp_path)
    assert_refused(ended, "observations.holdout: 0.5 is not allowed; expected null: only entries can be held out")
    with pytest.raises(ConfigError, match="only entries"):
        hold_out(sensing((3, 3), 1, 4), 1)


def test_observations_of_ones_own_hold_entries_out_too(tmp_path, monkeypatch):
    (tmp_path / "own_corner.py").write_text(
        "import numpy as np\nfrom rankward.observations import EntryMask, hold_out\n"
        "def full(size, split=False):\n"
        "    full = EntryMask(np.ones((size, size), dtype=bool), np.eye(size))\n"
        "    return hold_out(full, 2) if split else full\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = ["~observations", "+observations.name=full", "+observations._target_=own_corner.full", "+observations.size=3"]
    split = measurement_of(composed(*own, "+observations.holdout=4", "+observations.holdout_seed=1")[0])
    assert (split.count, split.heldout.count) == (5, 4)
    assert measurement_of(composed(*own, "+observations.split=true")[0]).heldout.count == 2
    with pytest.raises(ConfigError, match="null: these observations have held-out entries already"):
        measurement_of(composed(*own, "+observations.split=true", "+observations.holdout=1")[0])
    with pytest.raises(InputError, match=r"holdout_seed: x is not allowed|holdout_seed: 'x' is not allowed"):
        composed(*own, "+observations.holdout=1", "+observations.holdout_seed=x")


def test_an_entry_is_not_both_observed_and_held_out():
    with pytest.raises(DataError, match="20 entries are both observed and held out"):
        dataclasses.replace(RATINGS, heldout=RATINGS)
    with pytest.raises(DataError, match="held-out entries are 3x3x3, observations are 6x5"):
        dataclasses.replace(RATINGS, heldout=random_tensor((3, 3, 3), 1, 4))
