"""Runs on ratings of one's own: errors and predictions in the data's units, recomputed; files that predict refuses."""

import json

import numpy as np
import polars as pl
import pytest

from helpers.in_process import rankward
from helpers.runs import composed, trained
from rankward import results
from rankward.config import ConfigError, DataError, InputError
from rankward.config.groups import Observations
from rankward.observations import EntryMask, in_units, sensing
from rankward.training.ensemble import measurement_of
from rankward.training.predictions import predict

FILM = ["Alien", "Brazil", "Heat, the", "Up"]
random = np.random.default_rng(1)
TRUTH = 3 + random.standard_normal((6, 4)) + np.arange(6)[:, None]
SEEN = random.random((6, 4)) < 0.8
SHORT = ["depth='2'", "init.scale=1e-1", "lr.eta=1e-2", "max_iterations=200", "engine=reference"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs on the same ratings, the first of which is centred by rows and scaled."""
    made = tmp_path_factory.mktemp("ratings")
    rows = [f"{u + 1};{FILM[i]};{TRUTH[u, i]!r}" for u, i in np.argwhere(SEEN)]
    text = "user;film;stars\n" + "\n".join(rows).replace("np.float64(", "").replace(")", "").replace(".", ",") + "\n"
    (made / "r.csv").write_text(text, encoding="utf-8-sig")
    holes = TRUTH.copy()
    holes[:, 0] = np.nan
    np.save(made / "truth.npy", holes)
    task = [*SHORT, "observations=ratings", f"observations.path={made}/r.csv", "observations.holdout=5"]
    task += [f"observations.ground_truth={made}/truth.npy"]
    trained(made, [*task, "observations.center=rows", "observations.scale=std"])
    trained(made / "plain", task)
    return made


def test_errors_are_in_the_units_of_the_data(folder):
    arrays, summary = results.read_arrays(folder / "0"), results.read_summary(folder / "0")
    seen, held = arrays["observations.mask"], arrays["heldout.mask"]
    means = np.array([TRUTH[u][seen[u]].mean() if seen[u].any() else TRUTH[seen].mean() for u in range(6)])[:, None]
    np.testing.assert_allclose(arrays["units.offset"], means, rtol=1e-14)
    scale = np.std((TRUTH - means)[seen])
    np.testing.assert_allclose(arrays["units.scale"], scale, rtol=1e-13)
    np.testing.assert_allclose(arrays["observations.values"][seen], ((TRUTH - means) / scale)[seen], rtol=1e-12)
    error = arrays["product"] * scale + means - TRUTH
    truth = np.arange(4) > 0
    expected = {
        "error/heldout_rmse": np.sqrt(np.mean(error[held] ** 2)),
        "error/observed_rmse": np.sqrt(np.mean(error[seen] ** 2)),
        "error/unobserved_rmse": np.sqrt(np.mean(error[~(seen | held) & truth] ** 2)),
        "error/reconstruction": np.linalg.norm(error[:, truth]),
        "error/reconstruction_relative": np.linalg.norm(error[:, truth]) / np.linalg.norm(TRUTH[:, truth]),
        "loss": np.sum(error[seen] ** 2) / scale**2 / 2,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(summary["metrics"][name], value, rtol=1e-11, err_msg=name)
    mean = np.sqrt(np.mean((TRUTH[seen].mean() - TRUTH[held]) ** 2))
    plain = results.read_summary(folder / "plain" / "0")
    for run in (summary, plain):  # the baselines do not depend on what the run is trained on
        np.testing.assert_allclose(run["heldout"]["baselines"]["mean"], mean, rtol=1e-12)
        assert run["notes"]["ground_truth"].startswith("it has 18 of its 24 entries")
    assert summary["heldout"]["baselines"] == plain["heldout"]["baselines"]


def test_held_out_entries_teach_nothing():
    whole = EntryMask(SEEN, TRUTH, heldout=EntryMask(~SEEN, TRUTH))
    other = EntryMask(SEEN, TRUTH, heldout=EntryMask(~SEEN, 100 * TRUTH))
    for center in ("mean", "rows", "columns", None):
        first, second = (in_units(each, center, "std").units for each in (whole, other))
        assert first.scale == second.scale
        np.testing.assert_array_equal(first.offset, second.offset)


@pytest.mark.parametrize(
    ("make", "center", "scale", "words"),
    [
        (lambda: sensing((3, 3), 1, 4), "mean", None, r"observations\.center: 'mean' .*only entries are centred"),
        (lambda: EntryMask(np.ones(3, bool), np.ones(3)), "rows", None, "rows and columns are those of a matrix"),
        (lambda: EntryMask(SEEN, np.full((6, 4), 0.1)), "mean", "std", "the centred values are all equal"),
    ],
)
def test_what_cannot_be_centred_or_scaled_is_refused(make, center, scale, words):
    with pytest.raises(ConfigError, match=words):
        in_units(make(), center, scale)


def test_predictions_have_the_ids_and_units_of_the_data(folder, tmp_path):
    arrays = results.read_arrays(folder / "0")
    own = arrays["product"] * arrays["units.scale"] + arrays["units.offset"]
    assert "entries that the run was not trained on" in predict(folder / "0")
    table = pl.read_csv(folder / "0" / "predictions.csv")
    assert table.columns == ["user", "film", "value"]
    users, films = table["user"].to_numpy() - 1, [FILM.index(name) for name in table["film"]]
    assert list(zip(users, films, strict=True)) == [tuple(at) for at in np.argwhere(~arrays["observations.mask"])]
    np.testing.assert_allclose(table["value"].to_numpy(), own[users, films], rtol=1e-14)
    (tmp_path / "e.tsv").write_text("film\tx\tuser\nHeat, the\t1\t6\nAlien\t2\t1\nAlien\t2\t1\n", encoding="utf-8")
    line = predict(folder / "0", tmp_path / "e.tsv", tmp_path / "p.parquet")
    assert line.startswith(f"predictions: {tmp_path}/p.parquet: 3 entries of e.tsv")
    table = pl.read_parquet(tmp_path / "p.parquet")
    assert table.rows() == [(6, "Heat, the", own[5, 2]), (1, "Alien", own[0, 0]), (1, "Alien", own[0, 0])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,film\n7,Up\n", "7 is no id of 'user'; they go from 1 to 6"),
        ("user,film\n1,Alein\n", r"'Alein' is no id of 'film' \(did you mean 'Alien'\?\)"),
        ("user,film\nx,Up\n", "'x' is no id of 'user': these are integers"),
        ("user,film\n1\n", "has 1 cells"),
        ("user\n1\n", "has 1 columns; expected ids of user, film"),
        ("user,film\n", "lists no entry"),
        ("a;b,c\nd;e,f\n", "--separator says which"),
    ],
)
def test_entries_that_the_data_has_not_are_refused(folder, tmp_path, text, words):
    (tmp_path / "e.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"--entries: .*{words}"):
        predict(folder / "0", tmp_path / "e.csv", tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_folders_and_files_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(InputError, match="unknown ending"):
        predict(folder / "0", None, tmp_path / "p.xls")
    with pytest.raises(results.ResultsError, match="cannot read"):
        predict(tmp_path)
    (tmp_path / results.SWEEP).touch()
    with pytest.raises(InputError, match="is a sweep; expected the folder of one of its runs"):
        predict(tmp_path)


def test_the_keys_make_another_config_and_own_functions_keep_their_arguments():
    own = ["~observations", "+observations.name=x", "+observations._target_=m.f", "+observations.scale=null"]
    run, plain = composed(*own)
    assert run.observations.arguments() == {"scale": None} and "scale" in plain["observations"]
    centred = measurement_of(composed("observations.center=mean")[0])
    np.testing.assert_allclose(centred.values, [[0, 1 / 3], [1 / 3, -2 / 3]], rtol=1e-14)
    for wrong in ({"center": "median"}, {"scale": 0}, {"scale": True}, {"scale": "max"}, {"scale": np.inf}):
        with pytest.raises(ConfigError, match=rf"observations\.{next(iter(wrong))}"):
            Observations(**wrong)


@pytest.mark.slow
def test_the_command_writes_a_table_that_is_read_again(tmp_path):
    (tmp_path / "u.data").write_text("1\t1\t5\t9\n1\t2\t3\t9\n2\t1\t4\t9\n", encoding="utf-8")
    task = ["observations=ratings", "observations.path=u.data", "logger=none", "max_iterations=2000", "init.scale=0.1"]
    done = rankward(*task, "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0 and "u.data: 3 entries, 2 x 2, ids from 1, column 3 is the value" in done.stderr
    assert (
        "ids from 1"
        in json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["notes"]["observations"]
    )
    done = rankward("predict", "out", "--out", "p.csv", cwd=tmp_path)
    assert done.returncode == 0 and "p.csv: 1 entry that the run was not trained on" in done.stdout
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").startswith("row,column,value\n2,2,")
    refused = rankward("predict", "out", "--entries", "u.tsv", cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
