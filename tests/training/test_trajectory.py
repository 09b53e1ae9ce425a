"""`record.product`: the product at every row of the trace, with the same bytes alone, in company and after a resume."""

import numpy as np
import pytest

from helpers.in_process import assert_refused, command_line
from helpers.runs import LONG, QUICK, contents, interrupted_after, trained
from rankward import results
from rankward.config import config_hash
from rankward.config.recording import without_unset
from rankward.training import trace

KEPT = "record.product=true"
EVERY = ["check_every=1", "record.every=1", "stop_loss=0"]


def bytes_of(folder):
    return *contents(folder), (folder / results.TRAJECTORY).read_bytes()


def test_products_of_gradient_descent_written_out(tmp_path):
    trained(
        tmp_path, [*QUICK, *EVERY, "max_iterations=300", KEPT], [*QUICK, *EVERY, "max_iterations=40", "seed=1", KEPT]
    )
    for run, rows in (("0", 301), ("1", 41)):
        found, factors = results.read_arrays(tmp_path / run, results.TRAJECTORY), results.read_arrays(tmp_path / run)
        w_1, w_2 = factors["initial.0"], factors["initial.1"]
        mask, values, products = factors["observations.mask"], factors["observations.values"], []
        for _ in range(rows):
            products.append(w_2 @ w_1)
            error = mask * (products[-1] - values)
            w_1, w_2 = w_1 - 0.05 * w_2.T @ error, w_2 - 0.05 * error @ w_1.T
        assert found.keys() == {"iteration", "product"} and found["iteration"].dtype == np.int64
        np.testing.assert_array_equal(found["iteration"], results.read_trace(tmp_path / run)["iteration"])
        np.testing.assert_allclose(found["product"], products, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(found["product"][-1], factors["product"])
    trained(tmp_path / "without", [*QUICK, *EVERY, "max_iterations=300"])
    assert contents(tmp_path / "without" / "0")[:2] == contents(tmp_path / "0")[:2]
    assert not (tmp_path / "without" / "0" / results.TRAJECTORY).exists()


@pytest.mark.slow
def test_a_resumed_run_has_the_same_products(tmp_path, monkeypatch):
    """With rows in a file of their own, too."""
    job = [*LONG[:-1], "max_iterations=2000", *EVERY, KEPT]
    trained(tmp_path / "whole", job)
    monkeypatch.setattr(trace, "MAX_BYTES", 20_000)
    checkpoint = tmp_path / "parts" / "0" / results.CHECKPOINT
    with monkeypatch.context() as patched:
        interrupted_after(patched, 3)
        trained(tmp_path / "parts", job)
    assert len(results.read_arrays(tmp_path / "parts" / "0", results.TRAJECTORY)["product"]) < 2001
    trained(tmp_path / "parts", job, ckpt_path=checkpoint)
    assert bytes_of(tmp_path / "parts" / "0") == bytes_of(tmp_path / "whole" / "0")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides, shape",
    [
        (["dtype=float32"], (2, 2)),
        (["engine=reference", "max_iterations=100"], (2, 2)),
        (["lr=flow", "stop_loss=1e-2"], (2, 2)),
        (["lr=flow", "lr.coordinates=singular", "init=balanced", "stop_loss=1e-2"], (2, 2)),
        (["optimizer=adam", "lr.eta=1e-2", "max_iterations=500"], (2, 2)),
        (["factorization=tensor", "observations=tensor_order3", "observations.dims=[4,3,4]", "observations.count=20",
          "metrics=tensor", "lr=adaptive", "max_iterations=300"], (4, 3, 4)),
        (["observations=random_matrix", "observations.dims=[5,4]", "observations.count=14", "stop_heldout=100", "observations.holdout=0.3",
          "max_iterations=2000"], (5, 4)),
    ],
)  # fmt: skip
def test_every_engine_keeps_its_products(tmp_path, overrides, shape):
    trained(tmp_path, ["depth='2'", "init.scale=1e-1", *overrides, KEPT])
    found, rows = results.read_arrays(tmp_path / "0", results.TRAJECTORY), results.read_trace(tmp_path / "0")
    product = results.read_arrays(tmp_path / "0")["product"]
    assert found["product"].shape == (len(rows), *shape) and found["product"].dtype == product.dtype
    np.testing.assert_array_equal(found["product"][-1], product)
    norms = np.sqrt((found["product"].astype(np.float64) ** 2).reshape(len(rows), -1).sum(1))
    np.testing.assert_allclose(norms, rows["norm/frobenius"], rtol=1e-6 if "dtype=float32" in overrides else 1e-12)


def test_without_products_the_config_has_no_such_key():
    assert without_unset({"record": {"every": None, "product": False}}) == {"record": {"every": None}}
    assert (
        config_hash({"record": {"product": False}})
        == config_hash({"record": {}})
        != config_hash({"record": {"product": True}})
    )


@pytest.mark.slow
def test_a_table_and_too_many_rows_are_refused(tmp_path):
    table = command_line("-m", "seed=range(0,3)", "results=table", KEPT, "logger=none", cwd=tmp_path)
    assert_refused(table, "record.product: True is not allowed; expected false in a table", "results=folders")
    large = ["observations=random_matrix", "observations.dims=[500,500]", "record.every=50", KEPT, "logger=none"]
    assert_refused(command_line(*large, cwd=tmp_path), "record.product", "a lower max_iterations", "GiB")


def test_an_equal_job_gets_the_products_too(tmp_path):
    rows = {"iteration": np.arange(2), "loss": np.ones(2)}
    trajectory = {"iteration": rows["iteration"], "product": np.ones((2, 1, 1))}
    results.write_run(tmp_path / "a", trace=rows, factors={}, summary={"metrics": {}}, trajectory=trajectory)
    results.copy_run(tmp_path / "a", tmp_path / "b", {"equal_to": "a"})
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {"trace.parquet", "factors.safetensors", "summary.json", "trajectory.safetensors"}
