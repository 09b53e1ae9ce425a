"""Values of another kind than a key takes: one line that names the key, whatever the value is."""

import re
import sys
from dataclasses import replace

import pytest

from helpers.in_process import assert_refused, command_line
from helpers.runs import composed
from rankward.config import ConfigError, InputError
from rankward.config.choices import CONFIG_FOLDER, choices
from rankward.config.groups import Depth, Metrics, Trainer, WandbLogger, as_rate

HUGE = 10**26  # more than 64 bits hold


def test_choices_are_the_yaml_files():
    assert choices()["lr"] == sorted(path.stem for path in (CONFIG_FOLDER / "lr").iterdir())
    assert "config" not in choices()


@pytest.mark.parametrize("group", ["depth", "factorization", "init", "lr", "metrics", "observations", "trainer"])
def test_group_with_a_number_null_or_a_list_is_refused_with_its_choices(tmp_path, group):
    for value in ("0.5", "null", "[1]"):
        assert_refused(command_line(f"{group}={value}", cwd=tmp_path), f"rankward: {group}: ", choices()[group][0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("lr=0", "lr: '0' is not a choice; choose from adaptive, constant, cosine, flow"),
        ("depth=[1]", "depth: '[1]' is not allowed; expected one of 1, 2, 3, 4, 5, 6; a sweep over several is -m depth=1"),
        ("depth=''", "depth: '' is not a choice"),
        ("logger=null", "logger: 'null' is not a choice; choose from csv, none, tensorboard, wandb"),
        ("logger=[csv,3]", "logger: '3' is not a choice"),
        ("hydra/launcher=0", "hydra/launcher: '0' is not a choice; choose from basic, batched"),
        ("-m lr=0,constant", "job 0 (lr=0): lr: '0' is not a choice"),
        ("-m depth=1,[2]", "depth: '[2]' is not allowed"),
        ("record=3", "record: 3 is not allowed; expected record.every, record.iteration_ratio, record.loss_ratio, record.product"),
        ("seed=null", "seed: null is not allowed; expected a value"),
        ("logger.wandb=null", "logger.wandb: None is not allowed; expected a logger's settings"),
        ("logger=wandb logger.wandb=3", "logger.wandb: 3 is not allowed"),
    ],
)  # fmt: skip
def test_values_of_another_kind_name_the_key(tmp_path, arguments, words):
    assert_refused(command_line(*arguments.split(), cwd=tmp_path), words)


@pytest.mark.parametrize(
    "key",
    [
        "seed", "max_iterations", "check_every", "stop_checks", "record.every", "depth.layers", "factorization.hidden",
        "trainer.threads", "trainer.devices",
        "observations=random_matrix observations.seed", "observations=random_matrix observations.count",
        "observations=sensing observations.count", "factorization=tensor factorization.components",
    ],
)  # fmt: skip
def test_integers_that_64_bits_do_not_hold_name_the_key(tmp_path, key):
    ended = command_line(*f"{key}={HUGE}".split(), cwd=tmp_path)
    why = "does not fit into memory" if "hidden" in key else "is not allowed; expected "
    assert_refused(ended, f"rankward: {key.split()[-1]}: {HUGE} {why}")


def test_allowed_values_of_groups_are_accepted(tmp_path):
    for arguments in (["logger=[csv,tensorboard]"], ["logger=none"], ["lr={eta:1}"], [f"seed={2**63 - 1}"]):
        ended = command_line(*arguments, cwd=tmp_path)
        assert ended.code == 0 and ended.err == "", ended


GIB = r"it needs [\d,.e+]+ GiB, this machine has [\d.]+ GiB"
TENSOR = "factorization=tensor observations=tensor_order3 metrics=tensor"


@pytest.mark.parametrize(
    "arguments",
    [
        "observations=random_matrix observations.dims=[1000000,1000000]",
        "observations=dimensions observations.dims=[99999999999999999999,3]",
        f"observations=random_matrix observations.dims=[{'9' * 400},3]",
        f"{TENSOR} observations.dims=[{','.join(['4'] * 25)}]",
        "observations=sensing observations.dims=[1000,1000] observations.count=100000",
        "depth=2 factorization.hidden=1000000000",
        "depth=2 factorization.hidden=[1000000000]",
        "observations=random_matrix observations.dims=[1000,1000] depth.layers=9000",
        f"{TENSOR} factorization.components=1000000000",
        "-m --dry-run seed=range(0,10000000000)",
        "-m --dry-run seed=shuffle(range(0,10000000000))",
        "-m --dry-run stop_loss=range(0,1,1e-12)",
        "-m --dry-run lr.eta=geomspace(1e-3,1,1000) seed=range(0,100000000)",
        "-m --dry-run init.scale=geomspace(1,2,99999999999)",
        "init.scale=linspace(1,2,99999999999)",
    ],
)
def test_memory_is_checked_before_it_is_allocated(tmp_path, arguments):
    ended = command_line(*arguments.split(), cwd=tmp_path)
    key = arguments.split()[-1].partition("=")[0]
    assert_refused(ended, f"rankward: {key}: ", " does not fit into memory: it needs ")
    assert re.search(GIB + "$", ended.err.strip()), ended.err
    assert ended.seconds < 10


def test_runs_too_large_to_start_are_refused(tmp_path):
    axes = ",".join(["2"] * 30)
    assert_refused(
        command_line("depth.layers=1000000", cwd=tmp_path),
        "depth.layers: 1000000 is not allowed; expected at most 10,000",
    )
    assert_refused(
        command_line(*TENSOR.split(), f"observations.dims=[{axes}]", cwd=tmp_path), "integers of at least 1, 25 at most"
    )


def test_memory_of_factors_for_a_file_is_checked(tmp_path):
    (tmp_path / "seen.csv").write_text("0,0,1\n1,1,2\n")
    arguments = ["observations=file", "observations.path=seen.csv", "depth=2", "factorization.hidden=1000000000"]
    assert_refused(command_line(*arguments, cwd=tmp_path), "factorization.hidden: 1000000000", "GiB")


@pytest.mark.parametrize(
    "node, message",
    [
        ({"eta": 0.1, "beat": 0.9}, "lr.beat: 0.9 is not allowed; expected one of eta"),
        ({"eta": 0.1, "beta": 0.9, "epss": 1}, "lr.epss: 1 is not allowed; expected one of eta, beta, eps"),
        ({"beta": 0.9, "eps": 1.0}, "lr.eta is not set"),
        ({}, "lr.eta is not set"),
        ({"eta": -1}, "lr.eta: -1 is not allowed; expected a positive finite number"),
        ({"rtol": 1e-6}, "lr.atol is not set"),
    ],
)
def test_a_learning_rate_of_a_yaml_that_names_no_schema_is_checked_like_the_others(node, message):
    with pytest.raises(InputError) as refused:
        as_rate({"name": "mine", **node})
    assert str(refused.value).startswith(message)


def test_a_learning_rate_of_a_yaml_that_names_no_schema_is_refused_or_taken_by_the_command(tmp_path):
    (tmp_path / "conf" / "lr").mkdir(parents=True)
    mine = tmp_path / "conf" / "lr" / "mine.yaml"
    mine.write_text("name: mine\neta: 0.1\nbeat: 0.9\n")
    command = ("--config-dir", "conf", "lr=mine", "logger=none")
    assert_refused(command_line(*command, cwd=tmp_path), "lr.beat: 0.9 is not allowed")
    mine.write_text("name: mine\neta: 0.1\nbeta: 0.9\neps: 1e-3\n")
    assert command_line(*command, cwd=tmp_path).code == 0


def test_choices_of_yamls_that_name_no_schema_become_dataclasses():
    run = replace(
        composed("logger=none")[0],
        depth={"name": "two", "layers": 2},
        factorization={"name": "own", "_target_": "own.Factorization", "arguments": 3, "keys": 4},
        init={"name": "own", "_target_": "own.Init", "determinant": "positive", "scale": 0.1},
        observations={"name": "own", "_target_": "own.observations", "dims": [2, 3], "path": "seen.csv"},
        metrics={"name": "few", "columns": {"norm": {"_target_": "own.Norm"}, "left_out": None}},
        trainer={"name": "four", "threads": 4},
        logger={"wandb": {"project": "mine"}, "own": {"_target_": "own.Logger"}},
    )
    assert (run.depth, run.trainer) == (Depth("two", 2), Trainer("four", "cpu", 4))
    assert run.factorization.arguments() == {"arguments": 3, "keys": 4}
    assert (run.init.name, run.init._target_, run.init.determinant) == ("own", "own.Init", "positive")
    assert (run.observations.known_dims, run.observations.file) == ([2, 3], "seen.csv")
    assert run.metrics == Metrics("few", {"norm": {"_target_": "own.Norm"}})
    assert run.logger == {"wandb": WandbLogger(project="mine"), "own": {"_target_": "own.Logger"}}
    assert replace(run, seed=1).factorization == run.factorization


@pytest.mark.parametrize(
    "groups, message",
    [
        ({"depth": {"layer": 2}}, "depth.layer: 2 is not allowed; expected one of layers (did you mean 'layers'?)"),
        ({"metrics": {"colums": {}}}, "metrics.colums: {} is not allowed; expected one of columns, certificates"),
        ({"trainer": {"thread": 1}}, "trainer.thread: 1 is not allowed; expected one of accelerator, threads, devices"),
        (
            {"logger": {"wandb": {"tag": []}}},
            "logger.wandb.tag: [] is not allowed; expected one of project, group, tags",
        ),
        ({"init": None}, "init: None is not allowed; expected a mapping"),
    ],
)
def test_misspelt_keys_of_yamls_that_name_no_schema_are_refused(groups, message):
    run = composed("logger=none")[0]
    with pytest.raises(ConfigError) as refused:
        replace(run, **groups)
    assert str(refused.value).startswith(message)


def test_an_error_under_a_debugger_is_the_same_line(tmp_path):
    """OmegaConf makes its errors their own causes where the process is traced."""
    arguments = (["lr.foo=1"], ["depth.layers=0.5"], ["metrics.columns.nuclear={layers:1}"])
    plain = [command_line(*each, cwd=tmp_path).err for each in arguments]
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        traced = [command_line(*each, cwd=tmp_path).err for each in arguments]
    finally:
        sys.settrace(before)
    assert traced == plain and "not allowed; expected an integer" in plain[1]


def test_a_group_is_taken_away_by_name(tmp_path):
    assert_refused(command_line("~logger=[wandb]", cwd=tmp_path), "~logger: ", "by its name")
