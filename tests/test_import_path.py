"""A folder or a working directory that somebody else has filled: commands that read run nothing from it, resolve nothing
of the reader's, and do not wait for what never comes."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import rankward as library
from helpers.commands import rankward
from helpers.received import received
from rankward import results
from rankward.config import ConfigError
from rankward.config.build import build
from rankward.import_path import enter_directory, leave_directory
from rankward.loggers.workspace import section_lines
from rankward.report.collect import collect
from rankward.report.pack import unpack
from rankward.report.page import write_report
from rankward.results import ResultsError
from rankward.sweeps.command import command_of, foreign_code
from rankward.sweeps.status_command import show_status
from rankward.sweeps.watch import watch

TRAP = "from pathlib import Path\nPath({!r}).touch()\n"
OPTIONAL = (
    "dill",
    "cuda",
    "_polars_runtime_64",
    "_polars_runtime_32",
    "mine",
    "yaml",
    "hydra",
    "polars",
    "numpy",
    "tqdm",
)
SECRET = "a-secret-of-the-reader"


class Trap:
    """Executes something where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def trapped(folder, sprung, names=OPTIONAL):
    for name in names:
        (folder / f"{name}.py").write_text(TRAP.format(str(sprung)))
    return folder


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("RANKWARD_SECRET", SECRET)
    return "${oc.env:RANKWARD_SECRET}"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "."], ids=["an empty entry of PYTHONPATH", "a dot there"])
def test_reading_commands_import_nothing_from_the_working_directory(tmp_path, path):
    """In a folder with a module of every name that something tries to import, its own figure's among them."""
    sweep = trapped(received(tmp_path / "s", figures=["mine"]), tmp_path / "sprung")
    (sweep / "0" / "summary.json").touch()  # newer than the table, which there is none of: it is gathered
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), path])
    for arguments in (["status", "."], ["watch", ".", "--once"], ["report", "."])[: None if path else 1]:
        done = rankward(*arguments, cwd=sweep, env=os.environ | {"PYTHONPATH": paths})
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()


def test_the_working_directory_leaves_the_path_and_comes_last_again(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    here, above = str(tmp_path / "here"), str(tmp_path)
    monkeypatch.setattr(sys, "path", [here, "", "/lib", ".", str(tmp_path / "link"), above])
    leave_directory()
    assert sys.path == ["/lib", above]
    enter_directory()
    enter_directory()
    assert sys.path == ["/lib", above, here]


@pytest.mark.slow
def test_the_working_directory_is_last_where_one_trains(tmp_path):
    """A user's own metric is found there, and a module of an installed one's name is not."""
    trapped(tmp_path, tmp_path / "sprung", ("yaml", "numpy", "hydra"))
    (tmp_path / "mine.py").write_text("from rankward.metrics import SchattenNorm as Mine\n")
    more = ["+metrics.columns.mine._target_=mine.Mine", "+metrics.columns.mine.p=[1]"]
    done = rankward("logger=none", "metrics=few", "max_iterations=50", "hydra.run.dir=run", *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()
    asked = rankward("resume", "run", cwd=tmp_path)
    assert asked.returncode == 0 and "complete, kept" in asked.stdout
    assert asked.stderr == "rankward: run runs code that is not Rankward's: mine.Mine\n"


def test_status_draws_no_figure_that_is_not_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(trapped(tmp_path, tmp_path / "sprung", ["mine"]))
    assert show_status(received(tmp_path / "s", figures=["mine"])) == 0
    assert not (tmp_path / "sprung").exists()
    assert "not drawn: mine, a module that is not Rankward's; rankward resume" in capsys.readouterr().out


def test_status_unpickles_nothing(tmp_path, capsys):
    sweep = received(tmp_path / "s")
    (sweep / "1" / "summary.json").unlink()
    (sweep / "tasks.json").write_text(json.dumps({"cluster": "local", "tasks": {"999999999": ["1"]}}))
    (sweep / ".submitit").mkdir()
    (sweep / ".submitit" / "999999999_0_result.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert show_status(sweep) == 1 and watch(sweep, 1, once=True) == 1
    assert not (tmp_path / "sprung").exists()
    assert "run 1: task 999999999 ended before the run was complete" in capsys.readouterr().out
    (sweep / ".submitit" / "999999999_wrong.json").write_text('{"1": "no space"}')
    assert show_status(sweep) == 1 and "run 1: no space" in capsys.readouterr().out
    (sweep / "1" / "checkpoint.ckpt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert watch(sweep, 1, once=True) == 1 and not (tmp_path / "sprung").exists()


def test_status_stays_offline(tmp_path, monkeypatch):
    sweep = received(tmp_path / "s", logger={"wandb": {"project": "p", "offline": False}})
    asked = []
    monkeypatch.setattr("rankward.sweeps.summary.finish", lambda folder, figures, wandb: asked.append(wandb))
    assert show_status(sweep) == 0
    assert asked == [{"project": "p", "offline": True}]


def test_environment_of_the_reader_is_not_resolved(tmp_path, secret, capsys):
    config = {
        "init": {"name": secret, "scale": "${lr.eta}"},
        "lr": {"eta": 0.25},
        "logger": {"wandb": {"project": secret}},
    }
    config |= {"tricks": ["\\" + secret, "${oc.decode:" + secret + "}", "${${key}}", "x${lr.eta}"], "key": "lr.eta"}
    sweep = received(tmp_path / "s", stored=[f"+a={secret}"], config=config, figures=[secret])
    run = results.read_config(sweep / "0")
    assert run["init"] == {"name": secret, "scale": 0.25}
    assert run["tricks"] == ["\\" + secret, "${oc.decode:" + secret + "}", "${lr.eta}", "x0.25"]
    runs = library.load(sweep).runs
    assert runs["init.name"].to_list() == [secret] * 2 and runs["init.scale"].to_list() == [0.25] * 2
    assert show_status(sweep) == 0 and watch(sweep, 1, once=True) == 0 and section_lines(sweep)
    path, _ = write_report(sweep)
    header, _ = unpack(collect(sweep, 10**6).packed)
    assert header["constant"]["init.name"] == secret and secret in path.read_text()
    assert command_of(sweep)[1] == f"+a={secret}"
    for text in (str(run), str(runs.rows()), path.read_text(), str(header), capsys.readouterr().out):
        assert SECRET not in text
    assert results.read_config(sweep / "0", trusted=True)["init"]["name"] == SECRET  # of a folder that one trains in


BLOCKED = ["os.system", "posix.system", "builtins.eval", "builtins.exec", "subprocess.run", "subprocess.Popen"]
BLOCKED += ["importlib.import_module", "pickle.loads", "shutil.rmtree", "runpy.run_path"]


@pytest.mark.parametrize("target", [*BLOCKED, "pathlib.os.system", "os:system", "timeit.timeit"])
def test_blocked_targets_are_never_called(tmp_path, target, monkeypatch):
    with pytest.raises(ConfigError, match="blocklist") as refused:
        build("metrics.columns.x", {"_target_": target, "command": f"touch {tmp_path}/sprung"})
    assert refused.value.key == "metrics.columns.x._target_"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", BLOCKED)
@pytest.mark.parametrize(
    "override",
    [
        "+metrics.columns.x._target_={}",
        "+metrics.columns.x={{_target_: {}, command: ls}}",
        "+metrics.columns.x._target_='{}',b.c",
        "+hydra.callbacks.x={{a: [{{b: {{_target_: '{}'}}}}]}}",
    ],
)
def test_resume_refuses_the_blocklist_before_anything_runs(tmp_path, target, override):
    command = command_of(received(tmp_path / "s", stored=[override.format(target)]))
    with pytest.raises(ConfigError, match=f"'{target}' is not allowed; .*blocklist"):
        foreign_code(command)


def test_resume_lists_what_it_will_run(tmp_path):
    conf = tmp_path / "conf" / "factorization"
    conf.mkdir(parents=True)
    (conf / "own.yaml").write_text("name: own\n_target_: own.Factorization\ninner: {_target_: own.Inner}\n")
    stored = ["depth=3", "+metrics.columns.x._target_=my.Metric,my.Other", "figures=[figure1,my_figure]"]
    stored += ["+metrics.columns.y={_target_: rankward.metrics.TensorNorm}", "hydra.launcher.setup=[curl x]"]
    stored += ['hydra.sweeper.zip=["metrics.columns.x._target_,seed=[a.B,1]"]']
    command = command_of(received(tmp_path / "s", stored=stored))
    assert foreign_code([f"--config-dir={tmp_path / 'conf'}", *command]) == [
        "own.Factorization",
        "own.Inner",
        f"the YAML files of {tmp_path / 'conf'}",
        "my.Metric",
        "my.Other",
        "my_figure",
        "hydra.launcher.setup=[curl x]",
        stored[-1],
    ]
    assert foreign_code(command_of(received(tmp_path / "t", stored=["depth=3", "init=balanced"]))) == []


def test_resume_takes_no_flag_from_a_folder(tmp_path):
    """`--experimental-rerun` is a flag of Hydra's that loads a pickle."""
    sweep = received(tmp_path / "s", stored=["--experimental-rerun=x.pickle"])
    with pytest.raises(ResultsError, match="'--experimental-rerun=x.pickle' is not an override"):
        command_of(sweep)


BOMB = "a: &a [1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 8)}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "it has aliases"),
        ("a: &a {b: *a}\n", "it has aliases"),
        ("a: " + "[" * 100_000 + "]" * 100_000, "it is nested too deep"),
        ("- " * 10_000 + "a", "it is nested too deep"),
        ("\n".join(" " * k + "a:" for k in range(500)), "it is nested too deep"),
        ("? " * 10_000 + "a", "it is nested too deep"),
    ],
    ids=["aliases of aliases", "an alias of itself", "brackets", "dashes", "mappings", "keys"],
)
def test_bombs_of_yaml_are_a_line(tmp_path, text, why):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ResultsError, match=f"cannot read .*f.yaml: {why}"):
        results.read_yaml(tmp_path / "f.yaml")


def test_references_do_not_grow(tmp_path):
    """The same bomb of references to other keys: each is put in at most once."""
    config = {"a0": "lol", **{f"a{k}": f"${{a{k - 1}}}" * 8 for k in range(1, 30)}}
    read = results.read_config(received(tmp_path / "s", config=config) / "0")
    assert read["a1"] == "lol" * 8 and read["a2"] == "${a1}" * 8 and len(str(read)) < 5000


def test_a_text_with_a_star_is_no_bomb(tmp_path):
    (tmp_path / "f.yaml").write_text("path: '*.csv & more'\nlist: [1, 2]\n")
    assert results.read_yaml(tmp_path / "f.yaml") == {"path": "*.csv & more", "list": [1, 2]}


PIPES = ["0/summary.json", "1/.hydra/config.yaml", "1/.hydra/overrides.yaml", "0/failure.txt", ".jobs", "tasks.json"]
PIPES += ["0/checkpoint.ckpt", "0/trace.parquet", "runs.parquet", "multirun.yaml"]
LOOK = """
import sys
from pathlib import Path
from rankward.config import RankwardError
from rankward.results import gather
from rankward.sweeps.status import SweepMonitor
from rankward.sweeps.status_command import show_status

for folder in sys.argv[1:]:
    for call in (lambda folder: SweepMonitor(folder).look(), show_status, gather):
        try:
            call(Path(folder))
        except RankwardError as error:
            print(error)
"""


@pytest.mark.slow
def test_pipes_and_bombs_in_a_folder_block_no_reader(tmp_path):
    """Of each folder one file is a pipe to which nobody writes."""
    sweeps = [received(tmp_path / name.replace("/", "_").strip(".")) for name in PIPES]
    for sweep, name in zip(sweeps, PIPES, strict=True):
        (sweep / "1" / "summary.json").unlink()  # one has stopped: why is asked of its files
        (sweep / name).unlink(missing_ok=True)
        os.mkfifo(sweep / name)
    sweeps.append(received(tmp_path / "bombs"))
    for name in ("config", "overrides"):
        (sweeps[-1] / "1" / ".hydra" / f"{name}.yaml").write_text(BOMB)
    done = subprocess.run([sys.executable, "-c", LOOK, *sweeps], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_torn_table_or_trace_is_a_line(tmp_path):
    for name in ("runs.parquet", "1/trace.parquet"):
        sweep = received(tmp_path / name.replace("/", "_"))
        results.write_runs(sweep)
        for kept in (0, 100):
            os.truncate(sweep / name, kept)
            for read in (write_report, lambda sweep: (library.load(sweep).runs, library.load(sweep).traces())):
                with pytest.raises(ResultsError, match=f"cannot read {sweep}/{name}: ") as torn:
                    read(sweep)
                assert "\n" not in str(torn.value)


def test_a_trace_torn_within_is_a_line(tmp_path):
    """Its end, which polars reads first, is whole."""
    sweep = received(tmp_path / "s")
    path = sweep / "1" / "trace.parquet"
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)
    with pytest.raises(ResultsError, match="cannot read"):
        collect(sweep, 10**6)
    with pytest.raises(ResultsError, match="cannot read"):
        library.load(sweep).curves("norm/nuclear")


@pytest.mark.parametrize(
    "text", ["[]", '"a"', '{"status": 1}', '{"metrics": []}', "[" * 5000, '{"iterations": "\\u001b"}']
)
def test_a_summary_of_something_else_is_torn(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ResultsError, match="cannot read"):
        results.read_summary(tmp_path)


def test_the_page_of_trust_is_linked():
    docs = Path(__file__).parents[1] / "docs"
    assert "howto/trust\n" in (docs / "index.md").read_text()
    for page in ("howto/resume.md", "howto/report.md"):
        assert "(trust.md)" in (docs / page).read_text()
