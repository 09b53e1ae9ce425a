"""What a folder keeps of a config: values from elsewhere, digests of data files; hashes that do not change."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import rankward as package
from helpers.in_process import command_line
from helpers.runs import composed
from rankward import results
from rankward.config import CONFIG_FOLDER, DataError, config_hash, register
from rankward.config.choices import choices
from rankward.config.recording import closed, open_values, recorded, resolved, with_digests
from rankward.sweeps.grid import GridSearch
from rankward.training.preflight import refuse_changed

SHORT = ["logger=none", "depth=2", "max_iterations=50"]
# Made by the version before there were digests: what names no file keeps its hash.
OLD = {
    (): "ad8eb49d46a0c6e7",
    ("depth='4'", "init=balanced", "seed=3"): "feb721a626338372",
    ("factorization=tensor", "observations=tensor_order3", "lr=adaptive", "metrics=tensor"): "b71327c073f1b057",
    ("observations=random_matrix", "observations.dims=[3,4]", "observations.count=7"): "402669c768017bac",
}

FIRST_JOBS = {  # of each experiment, made when it was added, or before the groups of a config were typed
    "atlas": "6fc948ce68adafdd",
    "conjectures": "4a0928731c3f785d",
    "connectivity": "79a23d93310fb8aa",
    "critical_periods": "89faee514df69700",
    "deep_completion": "f3eff9407f31de66",
    "departure": "6606b81e5077089b",
    "depths": "821ce352e34c2958",
    "descent_to_flow": "238b08cdcb8bfc98",
    "diagonal_networks": "47b7c4fd218a6762",
    "dynamics_matrix": "bf50a4238cc72591",
    "escape_times": "e40335778e02c977",
    "figure1": "f97a42a4ac9f695a",
    "figure1_flow": "f97a42a4ac9f695a",
    "figure1_refined": "8ce30e5665916e26",
    "figure2": "08ec6ac3a6550473",
    "figure2_order3": "08ec6ac3a6550473",
    "figure4": "ca039a41e3f6e5c1",
    "figure5": "f1ecb393e2654d90",
    "figure6": "74a4eace9ad9c1d4",
    "grokking": "daea0d04a730aff8",
    "incremental": "47ee5aad6f899a9e",
    "incremental_small": "d40430016910691d",
    "incremental_starts": "92a877f5ca526ca7",
    "label_noise": "454f451c0ca36d70",
    "locality": "4b743957e58c4543",
    "natural_data": "4c54f6b326b05366",
    "natural_images": "60db616990e0646b",
    "optimizers": "581da2a7c796db5e",
    "phase_diagram": "b45ffd1222f78159",
    "same_norm_other_rank": "9310fa4de1591d46",
    "steps_and_starts": "5465c4f0218aa28e",
}


@pytest.mark.parametrize(
    ("overrides", "metrics"),
    [
        (["factorization=tensor", "observations=tensor_order3"], "tensor"),
        (["factorization=hierarchical", "observations=tensor_order4"], "hierarchical"),
        (["factorization=tensor", "observations=random_matrix"], "matrix"),
    ],
)
def test_tensors_and_trees_bring_their_metrics_with_the_hash_of_the_explicit_choice(overrides, metrics):
    plain = composed(*overrides)[1]
    assert plain == composed(*overrides, f"metrics={metrics}")[1]
    assert plain["metrics"]["name"] == metrics


def test_hashes_of_the_experiments_first_jobs_stay():
    assert choices()["experiment"] == list(FIRST_JOBS)
    register()
    for experiment, expected in FIRST_JOBS.items():
        chosen = f"experiment={experiment}"
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            sweep = compose("config", overrides=[chosen], return_hydra_config=True)
            search = GridSearch({}, OmegaConf.to_container(sweep.hydra.sweeper.grids), None)
            search.parser = OverridesParser.create()
            first = compose("config", overrides=[chosen, *search.jobs([])[0]])
        assert config_hash(resolved(first)) == expected, experiment


@pytest.mark.parametrize("overrides", OLD)
def test_hashes_of_configs_without_a_file_stay(overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("paper_2x2").touch()  # a file that is called as the choice is: no data
    plain = composed(*overrides)[1]
    assert config_hash(plain) == OLD[overrides]
    assert config_hash(resolved(OmegaConf.create(plain))) == OLD[overrides]


@pytest.mark.parametrize("given", [[], ["observations.holdout=null"], ["observations.holdout_seed=null"]], ids=str)
def test_a_config_without_held_out_entries_is_recorded_as_before_there_were_any(tmp_path, given):
    register()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = compose("config", overrides=["observations=random_matrix", *given])
    plain = resolved(cfg)
    assert list(plain["observations"]) == ["name", "_target_", "dims", "rank", "count", "noise", "seed"]
    assert list(recorded(cfg, plain)["observations"]) == list(plain["observations"])
    assert config_hash(plain) == config_hash(composed("observations=random_matrix")[1])


def test_a_holdout_makes_another_config_and_its_file_has_a_digest(tmp_path):
    (tmp_path / "h.csv").write_text("0,1,1\n", encoding="utf-8")
    hashes = [
        config_hash(composed(*given)[1])
        for given in ([], ["observations.holdout=1"], ["observations.holdout=1", "observations.holdout_seed=0"])
    ]
    assert len(set(hashes)) == 3
    node = composed(f"observations.holdout={tmp_path}/h.csv")[1]["observations"]
    assert list(with_digests(node)["file_sha256"]) == ["holdout"]


@pytest.mark.slow
def test_sweeps_without_held_out_entries_leave_no_such_keys(tmp_path):
    for more in (["logger=none"], ["logger=none", "hydra/launcher=basic"]):
        folder = f"s{len(more)}"
        done = rankward("-m", *SHORT, *more, "seed=0,1", f"hydra.sweep.dir={folder}", cwd=tmp_path)
        assert done.code == 0, done.err
        texts = [file.read_text(encoding="utf-8") for file in (tmp_path / folder).rglob("*.yaml")]
        assert len(texts) == 7 and not any("holdout" in text for text in texts)
        assert not [name for name in load(tmp_path / folder).columns if "holdout" in name]


def test_a_digest_is_sha256_of_each_file_that_is_named(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"0,1,1\n")
    (tmp_path / "t.npy").write_bytes(b"truth")
    node = {"name": "file", "path": str(tmp_path / "d.csv"), "ground_truth": str(tmp_path / "t.npy"), "count": None}
    digests = {
        key: hashlib.sha256(text).hexdigest()[:16] for key, text in (("path", b"0,1,1\n"), ("ground_truth", b"truth"))
    }
    assert with_digests(node) == {**node, "file_sha256": digests}
    (tmp_path / "d.csv").write_bytes(b"0,1,2\n")  # of the same size
    changed = with_digests(with_digests(node))["file_sha256"]
    assert changed == digests | {"path": hashlib.sha256(b"0,1,2\n").hexdigest()[:16]}
    assert "file_sha256" not in with_digests(
        {"path": "nowhere", "other": str(tmp_path), "odd": "a\0b", "long": "x" * 5000}
    )
    config = {"observations": with_digests(node)}
    refuse_changed(config)
    (tmp_path / "t.npy").unlink()
    with pytest.raises(DataError, match=r"observations\.ground_truth: .*t\.npy' has changed or gone since"):
        refuse_changed(config)


def test_values_from_elsewhere_are_kept_typed_and_references_as_written(monkeypatch):
    monkeypatch.setenv("RANKWARD_A", "7")
    monkeypatch.setenv("RANKWARD_B", "it's here")
    cfg = OmegaConf.create(
        {
            "seed": "${oc.decode:${oc.env:RANKWARD_A}}",
            "init": {"scale": "${seed}", "path": "${oc.env:RANKWARD_B}/x", "list": [1, "${oc.env:RANKWARD_A}"]},
            "logger": {"mine": {"key": "${oc.env:RANKWARD_B}"}},
            "text": "\\${oc.env:RANKWARD_A}",
        }
    )
    kept = recorded(cfg, resolved(cfg))
    assert kept["seed"] == 7 and kept["init"] == {"scale": "${seed}", "path": "it's here/x", "list": [1, "7"]}
    assert kept["logger"] == {"mine": {"key": "${oc.env:RANKWARD_B}"}}  # it may be a password
    assert kept["text"] == "\\${oc.env:RANKWARD_A}"
    values = open_values(cfg)
    assert values == {"seed": 7, "init.path": "it's here/x", "init.list": [1, "7"]}
    made = closed(["+init.path=${oc.env:RANKWARD_B}/x", "seed=${oc.decode:x}"], values)
    assert made == ["+init.path='it\\'s here/x'", "seed=7", "init.list=[1,'7']"]


def load(folder):
    return package.load(folder).runs


def rankward(*arguments, cwd):
    return command_line(*arguments, cwd=cwd, trains=True)


def test_run_records_and_resumes_with_values_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MYSEED", "7")
    monkeypatch.setenv("START", "balanced")
    words = ["seed=${oc.env:MYSEED}", "init=${oc.env:START}", *SHORT, "hydra.run.dir=o"]
    assert rankward(*words, cwd=tmp_path).code == 0
    monkeypatch.delenv("MYSEED")
    monkeypatch.delenv("START")
    runs = load(tmp_path / "o")
    assert runs["seed"].to_list() == [7] and runs["seed"].dtype.is_integer() and "seed=7" in runs["overrides"][0]
    assert results.read_config(tmp_path / "o")["seed"] == 7 and runs["init.name"].to_list() == ["balanced"]
    again = rankward("resume", "o", cwd=tmp_path)
    assert again.code == 0 and "complete, kept" in again.out, again.err
    monkeypatch.setenv("MYSEED", "9")
    monkeypatch.setenv("START", "balanced")
    other = rankward(*words, cwd=tmp_path)
    assert other.code == 2 and "there seed is 7, not 9" in other.err


def test_sweep_records_and_resumes_with_values_of_the_environment(tmp_path, monkeypatch):
    """On the command line, among swept values, and in a YAML file of the user's."""
    (tmp_path / "mine" / "observations").mkdir(parents=True)
    base = "defaults: [paper_2x2]\nb_22: ${oc.decode:${oc.env:B22}}\n"
    (tmp_path / "mine" / "observations" / "own.yaml").write_text(base)
    for name, value in (("A", "3"), ("B22", "0.25"), ("ETA", "0.02"), ("START", "balanced")):
        monkeypatch.setenv(name, value)
    words = ["-m", "--config-dir=mine", "seed=${oc.env:A},8", "lr.eta=${oc.env:ETA}", "observations=own", *SHORT]
    words += ["init=${oc.env:START},gaussian"]
    assert rankward(*words, "hydra.sweep.dir=s", cwd=tmp_path).code == 0
    assert rankward(*words, "hydra/launcher=basic", "hydra.sweep.dir=b", cwd=tmp_path).code == 0
    for name in ("A", "B22", "ETA", "START"):
        monkeypatch.delenv(name)
    for sweep in "sb":
        runs = load(tmp_path / sweep)
        assert runs["seed"].to_list() == [3, 3, 8, 8] and runs["init.name"].to_list() == 2 * ["balanced", "gaussian"]
        assert runs["lr.eta"].to_list() == 4 * [0.02] and runs["observations.b_22"].to_list() == 4 * [0.25]
    for run in "0123":
        texts = [(tmp_path / sweep / run / ".hydra" / "config.yaml").read_text() for sweep in "sb"]
        assert texts[0] == texts[1] and "${oc" not in texts[0]
    (tmp_path / "s" / "1" / "summary.json").unlink()  # one is to be done again
    before = (tmp_path / "s" / "1" / "trace.parquet").read_bytes()
    again = rankward("resume", "s", cwd=tmp_path)
    assert again.code == 0 and again.out.count("complete, kept") == 3, again.err
    assert (tmp_path / "s" / "1" / "trace.parquet").read_bytes() == before


def test_a_group_that_only_some_jobs_choose_keeps_the_value_in_their_folders(tmp_path, monkeypatch):
    (tmp_path / "mine" / "observations").mkdir(parents=True)
    base = "defaults: [paper_2x2]\nb_22: ${oc.decode:${oc.env:B22}}\n"
    (tmp_path / "mine" / "observations" / "own.yaml").write_text(base)
    monkeypatch.setenv("B22", "0.25")
    words = ["-m", "--config-dir=mine", "observations=own,paper_2x2", *SHORT, "hydra.sweep.dir=s"]
    assert rankward(*words, cwd=tmp_path).code == 0
    monkeypatch.setenv("B22", "0.5")
    assert load(tmp_path / "s")["observations.b_22"].to_list() == [0.25, 0.0]
    other = rankward(*words, cwd=tmp_path)
    assert other.code == 2 and "there observations.b_22 is 0.25, not 0.5" in other.err


@pytest.mark.parametrize("sweep", [False, True])
def test_working_directory_does_not_change(tmp_path, sweep):
    (tmp_path / "there").mkdir()
    (tmp_path / "d.csv").write_text("0,1,1\n1,0,1\n1,1,0.25\n")
    file = ["observations=file", "observations.path=${hydra:runtime.cwd}/d.csv", *SHORT]
    words = ["-m", "seed=0,1", "hydra.sweep.dir=o"] if sweep else ["hydra.run.dir=o"]
    assert rankward(*file, *words, cwd=tmp_path).code == 0
    assert load(tmp_path / "o")["observations.path"].to_list() == (1 + sweep) * [f"{tmp_path}/d.csv"]
    again = rankward("resume", "../o", cwd=tmp_path / "there")
    assert again.code == 0 and again.out.count("complete, kept") == 1 + sweep, again.err


def test_changed_data_is_another_run(tmp_path):
    text = "0,1,1\n1,0,1\n1,1,0.25\n"
    (tmp_path / "d.csv").write_text(text)
    words = ["observations=file", "observations.path=d.csv", *SHORT]
    assert rankward(*words, "hydra.run.dir=o", cwd=tmp_path).code == 0
    assert rankward("-m", *words, "seed=0,1", "hydra.sweep.dir=s", cwd=tmp_path).code == 0
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert load(tmp_path / "s")["observations.file_sha256.path"].to_list() == [digest, digest]
    apart = ("ckpt_path", "logger", "checkpoint", "figures", "trainer", "results", "max_seconds")
    apart += ("optimizer", "loss")  # those of its defaults
    hashed = {key: value for key, value in results.read_config(tmp_path / "o").items() if key not in apart}
    assert hashed["observations"]["file_sha256"] == {"path": digest}
    expected = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]
    assert results.read_summary(tmp_path / "o")["config_hash"] == expected
    before = {path: path.read_bytes() for folder in "os" for path in (tmp_path / folder).rglob("*") if path.is_file()}
    told = "there the content of observations.path=d.csv is"
    for content, why in ((text.replace("0.25", "-5"), told), (None, "'d.csv' is not a file")):
        (tmp_path / "d.csv").unlink()
        if content:
            (tmp_path / "d.csv").write_text(content)
        for folder in "os":
            again = rankward("resume", folder, cwd=tmp_path)
            assert again.code == 2 and again.out == "" and why in again.err.splitlines()[-1], again
    for path, content in before.items():
        assert path.read_bytes() == content
    assert load(tmp_path / "s")["status"].to_list() == 2 * ["max_iterations"]  # read without the data


def test_sweep_over_data_files_records_each_digest(tmp_path):
    """Composed as models of each other: thousands of jobs are."""
    for name, value in (("a", "0.25"), ("b", "-1")):
        (tmp_path / f"{name}.csv").write_text(f"0,1,1\n1,0,1\n1,1,{value}\n")
    words = ["observations=file", "observations.path=a.csv,b.csv", "seed=range(0,3)", *SHORT]
    assert rankward("-m", *words, "hydra.sweep.dir=s", cwd=tmp_path).code == 0
    assert rankward("-m", *words, "results=table", "hydra.sweep.dir=t", cwd=tmp_path).code == 0
    wanted = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16] for name in ("a.csv", "b.csv")]
    for sweep in "st":
        assert load(tmp_path / sweep)["observations.file_sha256.path"].to_list() == [*3 * wanted[:1], *3 * wanted[1:]]
    assert load(tmp_path / "s")["config_hash"].to_list() == load(tmp_path / "t")["config_hash"].to_list()
    (tmp_path / "b.csv").write_text("0,1,1\n1,0,1\n1,1,7\n")
    for sweep in "st":
        again = rankward("resume", sweep, cwd=tmp_path)
        assert again.code == 2 and "another config" in again.err.splitlines()[-1], again


def test_a_folder_reads_the_same_in_every_locale(tmp_path):
    """Non-ASCII texts in a config, in overrides, in a failure and in a sweep's keys, written and read under C."""
    (tmp_path / "d.csv").write_text("0,1,1\n1,0,1\n1,1,0.25\n")
    code = (
        "import locale, sys; from pathlib import Path; import rankward; from rankward import results\n"
        "from rankward.sweeps.execution.ensembles import Job, failed_outcome, failure_reason; from types import SimpleNamespace\n"
        "assert locale.getencoding() != 'UTF-8', locale.getencoding()\n"
        "folder = Path('s') / '0'; results.write_config(folder, {'seed': 3, 'who': 'Gr\\u00f6\\u00dfe \\u2192'})\n"
        "(folder / '.hydra' / 'overrides.yaml').write_text('- who=Gr\\u00f6\\u00dfe', encoding='utf-8')\n"
        "failed_outcome(Job(0, None, SimpleNamespace(folder=folder)), ValueError('Gr\\u00f6\\u00dfe'))\n"
        "results.write_job_list(Path('s'), 1, ['+gr\\u00f6\\u00dfe'])\n"
        "runs = rankward.load('s').runs\n"
        "assert runs['who'].to_list() == ['Gr\\u00f6\\u00dfe \\u2192'] and 'Gr\\u00f6' in runs['overrides'][0]\n"
        "assert failure_reason(folder) == 'ValueError: Gr\\u00f6\\u00dfe' and results.read_varying_keys(Path('s')) == ['+gr\\u00f6\\u00dfe']\n"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Größe →" in (tmp_path / "s" / "0" / ".hydra" / "config.yaml").read_text(encoding="utf-8")
