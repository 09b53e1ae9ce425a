"""`rankward kernel`: what trains a factorization, to read; nothing is trained and nothing written."""

import numpy as np
import pytest

from helpers.in_process import rankward
from rankward.config import register
from rankward.training.kernel import kernel_listing

register()


def test_listing_of_a_small_run_has_text_and_operations():
    lines = kernel_listing(["depth=2"], None)
    # Equation 2 at depth 2: two products and one residual forward and back, each entry a sum of two products.
    multiplications, additions = 8 + 4 + 8 + 8, 4 + 4 + 4 + 4
    assert f"operations: {multiplications + additions} for the gradient, 16 for the step" in lines
    assert any(line.startswith("form: unrolled") for line in lines)
    body = lines[lines.index("    for _ in range(steps):") + 1 :]
    names = {"step_size": lambda *_: 0.5, "state": None}
    rng = np.random.default_rng(0)
    names |= {f"w{i}": rng.standard_normal() for i in range(8)} | {f"m{i}": float(i > 0) for i in range(4)}
    names |= {f"y{i}": rng.standard_normal() for i in range(4)} | {"rates": 16}
    layers = [np.array([names[f"w{4 * layer + i}"] for i in range(4)]).reshape(2, 2) for layer in range(2)]
    mask, values = (np.array([names[f"{kind}{i}"] for i in range(4)]).reshape(2, 2) for kind in "my")
    for line in body:
        if not line.startswith("        "):
            break
        exec(line.strip(), {}, names)  # the text that is compiled, carried out once
    error = mask * (layers[1] @ layers[0] - values)
    moved = [layers[0] - 0.5 * layers[1].T @ error, layers[1] - 0.5 * error @ layers[0].T]
    found = [names[f"w{i}"] for i in range(8)]
    np.testing.assert_allclose(found, np.concatenate([each.reshape(-1) for each in moved]), rtol=1e-14)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["depth=3", "observations=random_matrix"], ["form: blocked", "10x10 times 10x10", "100 elements: subtract, multiply"]),
        (["depth=2", "observations=random_matrix", "observations.dims=[300,300]"], ["form: blas", "of 300x300, above"]),
        (["factorization=tensor", "observations=tensor_order3", "metrics=tensor"], ["form: a kernel of its own"]),
    ],
)  # fmt: skip
def test_larger_runs_are_listed_as_instructions(overrides, words):
    text = "\n".join(kernel_listing(overrides, None))
    assert all(word in text for word in words), text


OWN = """
from rankward.factorizations import MatrixFactorization


class Own(MatrixFactorization):
    def product(self, factors):
        return factors[1] @ factors[0] if factors[0].sum() > 0 else factors[0]
"""


def test_the_command_writes_nothing_and_says_why_there_is_no_kernel(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "conf" / "factorization").mkdir(parents=True)
    (tmp_path / "conf" / "factorization" / "own.yaml").write_text("name: own\n_target_: own.Own\nhidden: null\n")
    before = sorted(tmp_path.rglob("*"))
    done = rankward("kernel", "--config-dir", "conf", "factorization=own", "depth=2", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "rankward: factorization: 'own' is not allowed; expected one that can be compiled: it looks at an array's numbers "
        "while it runs (aten._local_scalar_dense), as a branch on them does\n"
    )
    assert rankward("kernel", "depth=2", "lr.eta=x", cwd=tmp_path).returncode == 2
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == before
