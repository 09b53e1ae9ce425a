"""The real command line in a subprocess: results, errors in one line, interruption, speed of refusal."""

import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import rankward
from helpers.commands import small_disk
from helpers.in_process import assert_refused, command_line
from helpers.runs import composed
from rankward import __version__, results
from rankward.cli import for_hydra, refuse_word
from rankward.config import CONFIG_FOLDER, ConfigError, InputError

RANKWARD = [str(Path(sys.executable).parent / "rankward")]  # the installed console script
QUICK = ["logger=none", "depth=2", "lr.eta=0.05", "init=balanced", "init.scale=1e-2", "hydra.run.dir=out"]


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([*RANKWARD, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


SENSED = "observations=sensing observations.dims=[4,4] observations.rank=1"
VECTOR = "factorization=diagonal observations=sensing observations.dims=[5]"
TENSOR = "factorization=tensor observations=tensor_order3 metrics=tensor"

REFUSED = [
    ("depth=0", "depth: '0' is not a choice; choose from 1, 2, 3, 4, 5, 6; depth.layers=N"),
    ("depth.layers=0", "depth.layers: 0 is not allowed; expected an integer of at least 1"),
    ("lr.eta=-1", "lr.eta: -1.0 is not allowed; expected a positive finite number"),
    ("lr.eta=nan", "lr.eta: nan is not allowed"),
    ("lr.eta=fast", "lr.eta: 'fast' is not allowed; expected a number"),
    ("init.scale=nan", "init.scale: nan is not allowed"),
    ("init=guassian", "init: 'guassian' is not a choice; choose from around_one, balanced, between, constant, gaussian, identity, orthogonal (did you mean 'gaussian'?)"),
    ("init.determinant=plus", "init.determinant: 'plus' is not allowed; expected one of any, positive, negative"),
    ("lr.etta=1", "lr.etta: no such key; lr has atol, beta, coordinates, decay_steps, end_factor,"),
    ("dept=3", "(did you mean 'depth'?)"),
    ("record.evry=3", "(did you mean 'record.every'?)"),
    ("record.every=30", "record.every: 30 is not allowed; expected a multiple of check_every=50"),
    ("dtype=float16", "dtype: 'float16' is not allowed; expected one of float64, float32"),
    ("seed=1.5", "seed: '1.5' is not allowed; expected an integer"),
    ("logger=wandbb", "(did you mean 'wandb'?)"),
    ("experiment=figure9", "experiment: 'figure9' is not a choice; choose from atlas, conjectures, connectivity, critical_periods,"),
    ("lr.eta=[1", "[1"),
    ("trainer=gpu", "trainer: 'gpu' is not allowed; expected cpu or auto"),
    ("observations.unobserved=[0,2]", "observations.unobserved: [0, 2] is not allowed"),
    ("observations=file observations.path=none.csv", "observations.path: 'none.csv' is not a file"),
    ("observations=random_matrix observations.count=101", "observations.count: 101 is not allowed; expected an integer from 1 to 100"),
    ("observations=dimensions observations.dims=[3,4] init.determinant=positive", "a 3x4 product has no determinant"),
    ("factorization.hidden=[2] depth=3", "factorization.hidden: [2] is not allowed; expected 2 sizes"),
    ("factorization.hidden=1 init=balanced", "hidden sizes of at least 2"),
    ("metrics.columns.schatten.p=[0]", "p: 0 is not allowed"),
    ("lr.beta=0.5", "lr.beta: no such key for this choice of lr; adaptive has it"),
    ("lr=adaptive lr.beta=1", "lr.beta: 1.0 is not allowed; expected a number from 0 to below 1"),
    ("lr=flow lr.rtol=0", "lr.rtol: 0.0 is not allowed; expected a number from 1e-14 to below 1"),
    ("lr=flow lr.atol=-1", "lr.atol: -1.0 is not allowed; expected a positive finite number"),
    ("lr=flow lr.max_time=0", "lr.max_time: 0.0 is not allowed"),
    ("lr=flow lr.eta=1", "lr.eta: no such key for this choice of lr; adaptive, constant, cosine has it"),
    ("lr=flow lr.beta=0.9", "lr.beta: no such key for this choice of lr; adaptive has it"),
    ("lr=flow dtype=float32", "dtype: 'float32' is not allowed; expected float64: lr=flow is the reference for rounding"),
    ("lr=flow stop_checks=3", "stop_checks: 3 is not allowed; expected 1"),
    ("init=between init.unbalance=-1", "init.unbalance: -1.0 is not allowed"),
    ("metrics.certificates.theorem_1._target_=rankward.theory.Theorem9", "metrics.certificates.theorem_1._target_"),
    (f"metrics=completion {SENSED} observations.count=90 observations.noise=1", "no matrix meets these 90 measurements"),
    ("metrics=completion metrics.columns.least_nuclear.solution=none.npy", "needs one for its columns"),
    ("metrics=completion metrics.columns.least_nuclear.solution=none.npy +metrics.columns.least_nuclear.label=mine", "cannot read the solution none.npy"),
    ("lr=adaptive lr.eps=0", "lr.eps: 0.0 is not allowed"),
    ("stop_checks=0", "stop_checks: 0 is not allowed; expected an integer of at least 1"),
    ("stop_plateau.window=100", "stop_plateau.tolerance is not set: stop_plateau.window needs it"),
    ("stop_plateau.tolerance=0.1", "stop_plateau.window is not set: stop_plateau.tolerance needs it"),
    ("stop_plateau.window=0 stop_plateau.tolerance=0", "stop_plateau.window: 0 is not allowed; expected an integer of at"),
    ("stop_plateau.window=9 stop_plateau.tolerance=-1", "stop_plateau.tolerance: -1.0 is not allowed; expected a finite"),
    ("max_seconds=0", "max_seconds: 0.0 is not allowed; expected a positive finite number"),
    (f"{TENSOR} factorization.components=0", "factorization.components: 0 is not allowed"),
    (f"{TENSOR} observations.count=513", "observations.count: 513 is not allowed; expected an integer from 1 to 512"),
    (f"{TENSOR} observations.dims=[8,0,8]", "observations.dims: [8, 0, 8] is not allowed; expected two or more integers"),
    (f"{TENSOR} observations.dims=[8]", "observations.dims: [8] is not allowed; expected two or more integers"),
    (f"{TENSOR} observations.rank=65", "observations.rank: 65 is not allowed; expected an integer from 1 to 64, the product"),
    (f"{TENSOR} observations.dims=[9000,9000,9000]", "does not fit into memory: it needs 43,451.8 GiB, this machine has"),
    (f"{TENSOR} factorization.components=10_000_000_000", "factorization.components: 10000000000 does not fit into memory: it needs"),
    (f"{TENSOR} metrics=matrix", "metrics: 'matrix' is not allowed; expected tensor, for a 8x8x8 tensor run"),
    ("metrics=vector", "metrics: 'vector' is not allowed; expected matrix, for a 2x2 matrix run: column 'norms' is of a vector"),
    (f"{TENSOR} metrics=vector", "metrics: 'vector' is not allowed; expected tensor, for a 8x8x8 tensor run"),
    (VECTOR, "metrics: 'matrix' is not allowed; expected vector, for a diagonal run of 5 entries: column 'nuclear' is of a matrix"),
    (f"{VECTOR} metrics=tensor", "metrics: 'tensor' is not allowed; expected vector, for a diagonal run of 5 entries"),
    (f"{VECTOR} metrics=vector init=balanced", "init: 'balanced' is not allowed; expected gaussian, constant or around_one, to start each factor by itself"),
    (f"{VECTOR} metrics=vector init.determinant=negative", "init.determinant: 'negative' is not allowed; expected any"),
    (f"{VECTOR} metrics=vector observations.rank=6", "observations.rank: 6 is not allowed; expected an integer from 1 to 5, the number of entries"),
    (f"{VECTOR} metrics=vector factorization=matrix", "factorization: 'matrix' is not allowed; expected diagonal or linear: the observations have 1 axis"),
    (f"{VECTOR} metrics=vector factorization=tucker", "factorization: 'tucker' is not allowed; expected diagonal or linear: the observations have 1 axis"),
    (f"{VECTOR} metrics=vector factorization=symmetric", "factorization: 'symmetric' is not allowed; expected one for a vector of 5 entries: it makes square matrices"),
    ("factorization=symmetric factorization.width=0", "factorization.width: 0 is not allowed; expected an integer of at least 1"),
    ("factorization=symmetric init=between", "init: 'between' is not allowed; expected gaussian, constant, around_one, identity or orthogonal"),
    ("factorization=residual observations=dimensions observations.dims=[4,6]", "factorization: 'residual' is not allowed; expected one for 4x6 observations: it makes square matrices"),
    ("factorization=tucker factorization.ranks=[2,0]", "factorization.ranks: [2, 0] is not allowed; expected null, an integer of at least 1, or a list"),
    ("factorization=tucker factorization.ranks=[2]", "factorization.ranks: [2] is not allowed; expected null, an integer of at least 1, or 2 of them"),
    ("factorization=tucker factorization.ranks=1000000", "factorization: 'tucker' does not fit into memory: it needs"),
    ("factorization=nonlinear factorization.activation=tan", "factorization.activation: 'tan' is not allowed; expected one of tanh, relu (did you mean 'tanh'?)"),
    ("factorization=nonlinear depth=1", "depth.layers: 1 is not allowed; expected at least 2: there is no activation after the last layer"),
    ("factorization=nonlinear init.determinant=positive", "init.determinant: 'positive' is not allowed; expected any"),
    (f"{TENSOR} init=balanced", "init: 'balanced' is not allowed; expected gaussian"),
    (f"{TENSOR} init.determinant=positive", "init.determinant: 'positive' is not allowed"),
    (f"{TENSOR} record.every=50", "record.every: 50 is not allowed; expected a multiple of check_every=100"),
    (f"{TENSOR} metrics.columns.cp_rank.tolerance=-1", "tolerance: -1 is not allowed"),
    ("observations=tensor_order3 metrics=tensor", "expected tensor, tucker, diagonal or linear: the observations have 3 axes"),
    (f"{TENSOR} factorization.hidden=4", "factorization.hidden: no such key for this choice of factorization; matrix, nonlinear has it"),
    ("figures=[figure1]", "figures: ['figure1'] is not allowed; expected [] for a single run"),
    ("metrics.columns.singular_values.largest=-1", "largest: -1 is not allowed"),
    ("ckpt_path=none.ckpt", "ckpt_path: 'none.ckpt' is not allowed; expected a checkpoint"),
    ("trainer.accelerator=nan", "trainer.accelerator: 'nan' is not allowed; expected one of cpu, gpu, auto"),
    ("logger=wandb logger.wandb.project=a/b", "logger.wandb.project: 'a/b' is not allowed; expected at most 128 characters, none of"),
    ("logger=wandb logger.wandb.tags=['']", "logger.wandb.tags: [''] is not allowed; expected tags of 1 to 64 characters"),
    ("depth=2,3", "depth: '2,3' are several values: with -m a sweep over them"),
    ("observations.path=/a(b", "observations.path: '/a(b' cannot be read; a value with spaces or special characters needs quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, arguments, words):
    if arguments == "trainer=gpu":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    assert_refused(command_line("logger=none", *arguments.split(), cwd=tmp_path), words)


@pytest.mark.parametrize(("arguments", "words"), REFUSED[::60], ids=[arguments for arguments, _ in REFUSED[::60]])
def test_bad_input_is_one_line_in_a_real_process(tmp_path, arguments, words):
    done = run("logger=none", *arguments.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert done.stdout == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "statuss sweep",
            "rankward: command: 'statuss' is not allowed; expected key=value, or one of baseline, circuit, kernel, paper, predict, propositions",
        ),
        (
            "-m lr.eta=geomspace(1e-3,1e-1)",
            "lr.eta: 'geomspace(1e-3,1e-1)' is not allowed; expected geomspace(first,last,count)",
        ),
        (
            "metrics.columns.mine={}",
            "metrics.columns.mine: no such key; a new one is added with +metrics.columns.mine=...",
        ),
        ("-m hydra/launcher=basic --dry-run", "expected another launcher: this one cannot plan"),
        ("-m hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size: 0 is not allowed"),
        (
            "-m results=table figures=[figure1]",
            "results: 'table' is not allowed; expected folders: the figure figure1 is",
        ),
    ],
)
def test_folder_without_a_run_is_one_line(tmp_path, arguments, words):
    done = run(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and words in done.stderr, done.stderr
    assert done.stdout == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--depth=3"], "'--depth=3' is not allowed; expected depth=3: settings have no dashes"),
        (["seed=1", "--multi-run"], "key=value, or a flag .* .did you mean '--multirun'"),
        (["--seed", "3"], "'--seed' is not allowed; expected seed=...: settings have no dashes"),
        (["-x"], "'-x' is not allowed; expected key=value, or a flag"),
    ],
)
def test_unknown_flags_are_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        for_hydra(arguments)


@pytest.mark.parametrize("key", ["foo", "lr.foo", "metrics.foo", "logger.wandb.foo", "record.foo", "init.scal"])
def test_added_keys_without_effect_are_refused(key):
    with pytest.raises(InputError, match=rf"\+{key}: there is no such key; ") as refused:
        composed(f"+{key}=1")
    assert ("did you mean 'scale'" in str(refused.value)) == (key == "init.scal")


def test_added_metrics_and_keys_of_custom_classes_are_accepted():
    composed("+metrics.columns.mine={_target_: rankward.metrics.TensorNorm}", "+metrics.columns.mine.other=1")


def test_spaces_around_the_equals_sign_are_refused():
    for words in (["seed", "=", "3"], ["lr.eta", "=3"]):
        with pytest.raises(ConfigError, match="without spaces around ="):
            refuse_word(words)


def test_broken_pipe_is_silent(tmp_path):
    done = subprocess.run(f"{RANKWARD[0]} --help | true", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""


def test_flags_may_stand_anywhere_and_home_is_found():
    assert for_hydra(["seed=1,2", "-m", "depth=3"]) == ["-m", "seed=1,2", "depth='3'"]
    assert for_hydra(["--multi", "lr.eta=-1"]) == ["--multi", "lr.eta=-1"]  # Hydra's parser takes beginnings
    assert for_hydra(["hydra.sweep.dir=~/it's"]) == [f"hydra.sweep.dir='{Path.home()}/it\\'s'"]


def test_version_is_that_of_the_package(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"rankward {__version__}\n"


def test_traceback_is_shown_on_request(tmp_path):
    done = run("lr.eta=-1", cwd=tmp_path, RANKWARD_TRACEBACK="1")
    assert done.returncode != 0 and "Traceback" in done.stderr


def test_refusal_help_and_config_import_nothing_heavy(tmp_path):
    heavy = (
        "import sys; from rankward import cli; sys.argv = ['rankward', {}]\ntry: cli.main()\nexcept SystemExit: pass\n"
    )
    heavy += "bad = {{'torch', 'numba', 'pytorch_lightning', 'polars', 'matplotlib', 'wandb'}} & set(sys.modules)\nassert not bad, bad"
    for arguments in ("'--help'", "'--cfg', 'job'", "'lr.etta=1'", "'init=guassian'", "'lr.eta=-1'"):
        done = subprocess.run(
            [sys.executable, "-c", heavy.format(arguments)], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_help_names_the_groups(tmp_path):
    text = run("--help", cwd=tmp_path).stdout
    for group in (
        "depth: 1, 2, 3, 4, 5, 6",
        "init: around_one, balanced, between, constant, gaussian, identity, orthogonal",
        "rankward -m",
    ):
        assert group in text


@pytest.mark.slow
def test_a_run_and_the_same_command_again(tmp_path):
    first = run(*QUICK, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "converged" in first.stdout and results.is_complete(tmp_path / "out")
    written = (tmp_path / "out" / "summary.json").stat().st_mtime_ns
    again = run(*QUICK, cwd=tmp_path)
    assert again.returncode == 0 and "kept" in again.stdout
    assert (tmp_path / "out" / "summary.json").stat().st_mtime_ns == written
    other = run(*QUICK, "seed=9", cwd=tmp_path)
    assert other.returncode == 2 and "hydra.run.dir" in other.stderr


@pytest.mark.slow
def test_the_authors_seed_zero_is_a_seed(tmp_path):
    for seed in ("0", "1"):
        run(*QUICK[:-1], f"seed={seed}", f"hydra.run.dir=out{seed}", cwd=tmp_path)
    first, second = (results.read_factors(tmp_path / f"out{seed}")["initial.0"] for seed in "01")
    assert not first.equal(second)


def started(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*RANKWARD, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def trains_on(process: subprocess.Popen[str], checkpoint: Path) -> bool:
    """Wait until the process has saved a checkpoint of its own; False where it ended before."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > before:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_a_checkpoint(tmp_path, number):
    endless = ["logger=none", "lr.eta=1e-9", "max_iterations=4000000000000", "stop_loss=0", "checkpoint.seconds=0.1"]
    with started([*endless, "hydra.run.dir=out"], tmp_path) as process:
        assert trains_on(process, tmp_path / "out" / results.CHECKPOINT)
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert len(process.stderr.read().splitlines()) == 1
    summary = results.read_summary(tmp_path / "out")
    assert summary["status"] == "interrupted" and summary["iterations"] > 0
    assert (tmp_path / "out" / results.CHECKPOINT).is_file()
    assert not results.is_complete(tmp_path / "out")


def test_ctrl_c_while_python_still_imports_is_one_line(tmp_path):
    """The first library that the command line imports is one that interrupts it."""
    interrupting = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    (tmp_path / "hydra.py").write_text(interrupting)
    source = str(Path(rankward.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), source])}
    command = [sys.executable, "-m", "rankward", "logger=none"]
    (tmp_path / "work").mkdir()
    done = subprocess.run(command, cwd=tmp_path / "work", env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "rankward: interrupted\n")
    scripts = tomllib.loads((CONFIG_FOLDER.parent / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"rankward": "rankward.__main__:main"}  # the installed script goes the same way


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path):
    """SIGKILL before training, and at random after a checkpoint; the same command goes on each time."""
    rng = random.Random(0)
    long = ["logger=none", "lr.eta=1e-9", "max_iterations=600000000", "stop_loss=0", "checkpoint.seconds=0.2"]
    assert run(*long, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    with started([*long, "hydra.run.dir=killed"], tmp_path) as process:
        time.sleep(1)
        process.kill()
    kills = 0
    for _ in range(5):
        with started([*long, "hydra.run.dir=killed"], tmp_path) as process:
            if trains_on(process, tmp_path / "killed" / results.CHECKPOINT):
                time.sleep(rng.uniform(0, 0.5))
                process.kill()
                kills += 1
    assert kills >= 2
    run(*long, "hydra.run.dir=killed", cwd=tmp_path)
    assert results.is_complete(tmp_path / "killed")
    for file in ("trace.parquet", "factors.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path):
    with small_disk(tmp_path / "disk", "32k") as disk:
        done = run(
            *QUICK[:-1],
            "stop_loss=0",
            "max_iterations=40000",
            "record.every=50",
            "hydra.run.dir=disk/out",
            cwd=tmp_path,
        )
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert "No space left" in done.stderr and "disk/out" in done.stderr
        assert not results.is_complete(disk / "out")


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file where a folder should be")
    done = run(*QUICK, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        len(done.stderr.splitlines()) == 1 and "'out' is not allowed; expected a folder: this is a file" in done.stderr
    )


@pytest.mark.slow
def test_custom_config(tmp_path):
    """A user's observation set and metric: one file and one YAML each, nothing edited."""
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from rankward.metrics import TraceMetric\n"
        "from rankward.observations import EntryMask\n"
        "def corner(size):\n"
        "    mask = np.zeros((size, size), dtype=bool); mask[0, 0] = True\n"
        "    return EntryMask(mask, mask * 2.0)\n"
        "class Trace(TraceMetric):\n"
        "    def update(self, product): self.measured.append(product.diagonal(dim1=-2, dim2=-1).sum(-1))\n"
        "    def columns(self): return {'mine/trace': self.gathered()}\n"
    )
    for group, text in (
        ("observations/corner", "name: corner\n_target_: mine.corner\nsize: 3\n"),
        ("metrics/trace", "name: trace\ncolumns:\n  trace: {_target_: mine.Trace}\n"),
    ):
        path = tmp_path / "conf" / f"{group}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    mine = ["--config-dir", "conf", "observations=corner", "metrics=trace", "max_iterations=100", "init.scale=0.1"]
    done = run(*mine, "logger=none", "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trace = results.read_trace(tmp_path / "out")
    assert trace.columns == ["iteration", "loss", "mine/trace"]
    assert results.read_factors(tmp_path / "out")["product"].shape == (3, 3)
    wrong = run(*mine, "metrics.columns.trace._target_=mine.Trade", cwd=tmp_path)
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1 and "mine.Trade" in wrong.stderr


@pytest.mark.slow
def test_the_propositions_are_tried_out(tmp_path):
    done = run("propositions", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 45 and all(line.startswith("holds") for line in lines)
    assert all(any(f"Proposition {n} " in line for line in lines) for n in (1, 2, 3, 4))


def test_the_propositions_take_no_arguments(tmp_path):
    wrong = run("propositions", "5", cwd=tmp_path)
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
