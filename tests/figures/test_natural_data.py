"""The figure of natural data on a made table, and the experiment in small."""

import numpy as np
import polars as pl
import pytest

from helpers.in_process import rankward
from rankward import results
from rankward.figures import draw, natural_data


def made(**changes):
    rows = [
        {"observations.name": "digits", "observations.labels": labels, "observations.images": images, "seed": seed,
         "factorization.components": components, "status": "max_iterations",
         natural_data.TRAIN: 0.01 * (seed + components), natural_data.TEST: 0.1 * components}
        for labels, images in (("True", "True"), ("random", "True"), ("True", "random"), ("random", "random"))
        for components in (1, 5) for seed in (0, 1)
    ]  # fmt: skip
    return pl.DataFrame([row | changes for row in rows])


def test_errors_are_means_over_seeds_of_the_runs_that_ended(monkeypatch, tmp_path):
    torn = made(status="diverged").with_columns(pl.lit(9.0).alias(natural_data.TRAIN))
    monkeypatch.setattr(results, "gather", lambda sweep: pl.concat([made(), torn]))
    table = natural_data.curves(tmp_path)
    assert len(table) == 16 and set(table["kind"]) == set(natural_data.KINDS) and set(table["data"]) == {"digits"}
    row = natural_data.means(table).filter((pl.col("kind") == "random images") & (pl.col("components") == 5))
    assert row["runs"][0] == 2 and row["train"][0] == pytest.approx(0.055)
    assert (row["train_least"][0], row["train_largest"][0]) == (0.05, 0.06)
    assert "digits, natural: train and test errors are 0.015 and 0.1 (R = 1), " in natural_data.told(table)
    path = made().with_columns(pl.lit("/data/train.gz").alias("observations.path"))
    monkeypatch.setattr(results, "gather", lambda sweep: path)
    assert set(natural_data.curves(tmp_path)["data"]) == {"train.gz"}


def test_a_sweep_without_such_runs_is_refused(monkeypatch, tmp_path):
    for table in (made().drop(natural_data.TEST), made(status="diverged")):
        monkeypatch.setattr(results, "gather", lambda sweep, table=table: table)
        with pytest.raises(results.ResultsError, match="cannot draw natural_data of .*: no run has "):
            draw("natural_data", tmp_path)


@pytest.mark.slow
def test_natural_digits_are_fitted_by_rank_one_and_random_ones_are_not(tmp_path):
    grids = "[{observations.images: [true, random]}, {observations.labels: [random]}]"
    small = ["factorization.components=1", "max_iterations=1200", f"hydra.sweeper.grids={grids}"]
    done = rankward("-m", "experiment=natural_data", *small, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = natural_data.curves(tmp_path / "s")
    errors = dict(zip(table["kind"], table["train"], strict=True))
    assert errors["natural"] < 0.02 and min(errors["random labels"], errors["random images"]) > 0.08
    assert "digits, natural: train and test errors are" in done.stdout
    assert (tmp_path / "s" / "figures" / "natural_data.png").is_file()
    run = table.row(0, named=True)
    arrays = results.read_arrays(tmp_path / "s" / "0")
    assert run["kind"] == "natural" and "product" not in arrays
    factors = np.stack([arrays[f"final.{n}"][:, 0] for n in range(64)])
    for name, error in (("observations", run["train"]), ("heldout", run["test"])):
        index, values = arrays[f"{name}.index"], arrays[f"{name}.values"]
        residuals = factors[np.arange(64), index].prod(1) - values
        largest = 4 if name == "heldout" else np.inf
        assert np.minimum(residuals**2, largest).mean() / 4 == pytest.approx(error, rel=1e-9)
