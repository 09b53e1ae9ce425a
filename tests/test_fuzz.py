"""Whatever is typed, and whatever a data file holds: exit code 0 or 2, one line that names the key, nothing written, soon.

`RANKWARD_FUZZ=5000` tries so many command lines and files instead of a hundred.
"""

import contextlib
import io
import os
import pickle
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from helpers.commands import rankward
from helpers.in_process import assert_refused, command_line, shapes_unchecked
from rankward.config import CONFIG_FOLDER, DataError, RunConfig
from rankward.config.choices import choices
from rankward.observations import from_file

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("RANKWARD_FUZZ", "100"))
SECONDS = 10
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # the command line says enough; a smaller one would take minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True, scope="module")
def imported(tmp_path_factory):
    """What a first run imports is in no other run's time."""
    assert command_line("logger=none", cwd=tmp_path_factory.mktemp("first")).code == 0


def keys_of(node: DictConfig, prefix: str) -> list[str]:
    """Keys of a config file, those of nested mappings with dots."""
    found = []
    for key in node:
        inner = OmegaConf.to_container(node, resolve=False)[key]
        found.append(f"{prefix}{key}")
        if isinstance(inner, dict):
            found += keys_of(OmegaConf.create(inner), f"{prefix}{key}.")
    return found


GROUPS = {group: names for group, names in choices().items() if group != "experiment"}
TOP = [name for name in RunConfig.__dataclass_fields__ if name not in GROUPS]
NESTED = ["record.every", "record.iteration_ratio", "record.loss_ratio", "checkpoint.seconds"]
KEYS = {
    (group, name): [
        key
        for key in keys_of(
            OmegaConf.load(CONFIG_FOLDER / group / f"{name}.yaml"),
            f"{group}." if group != "logger" else f"logger.{name}.",
        )
        if not key.endswith(("defaults", ".name")) and "._target_" not in key
    ]
    for group, names in GROUPS.items()
    for name in names
}

# Sizes are small, or far beyond any machine: between them lie runs that are right to take minutes.
INTEGERS = st.one_of(st.integers(-3, 12), st.integers(10**15, 10**40), st.just(2**63), st.just(-(2**63)))
NUMBERS = st.one_of(
    INTEGERS.map(str),
    st.floats(allow_nan=True, allow_infinity=True, width=32).map(str),
    st.sampled_from(
        ["0", "-0.0", "1e-320", "1e400", "-1e400", "1_0", "0x10", "1e", "nan", "inf", "-inf", ".5", "1.", "٣"]
    ),
)
WORDS = st.one_of(
    st.sampled_from(sorted({name for names in GROUPS.values() for name in names})),
    st.sampled_from(
        ["null", "true", "false", "None", "''", '""', "???", "a b", "~", "{}", "[]", "/dev/null", ".", "none.csv"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8),
)
SCALARS = st.one_of(NUMBERS, WORDS)
LISTS = st.lists(SCALARS, max_size=4).map(lambda items: f"[{','.join(items)}]")
MAPPINGS = st.tuples(st.sampled_from(["a", "eta", "layers", "every"]), SCALARS).map(
    lambda pair: f"{{{pair[0]}:{pair[1]}}}"
)
SWEEPS = st.one_of(
    st.lists(SCALARS, min_size=2, max_size=3).map(",".join),
    st.tuples(
        st.sampled_from(["range", "geomspace", "linspace", "choice", "interval", "glob", "sort", "shuffle"]),
        st.lists(NUMBERS, max_size=4),
    ).map(lambda call: f"{call[0]}({','.join(call[1])})"),
)
LIKELY = st.sampled_from(["1", "2", "3", "4", "0.1", "0.5", "1e-3", "true", "[2,3]"])
VALUES = st.one_of(LIKELY, LIKELY, LIKELY, SCALARS, SCALARS, NUMBERS, LISTS, MAPPINGS, SWEEPS)
PREFIXES = st.sampled_from(["", "", "", "", "", "", "+", "++", "~"])


@st.composite
def command_lines(draw):
    """Choices of some groups, and a few keys that they have, or that others have."""
    chosen = draw(st.lists(st.sampled_from(sorted(GROUPS)), max_size=3, unique=True))
    named = {group: draw(st.sampled_from(GROUPS[group])) for group in chosen}
    standing = {"depth": "3", "factorization": "matrix", "init": "gaussian", "lr": "constant", "metrics": "matrix"}
    standing |= {"observations": "paper_2x2", "logger": "wandb", "trainer": "cpu"} | named
    there = [key for choice in standing.items() for key in KEYS[choice]] + TOP + NESTED
    every = st.one_of(
        st.sampled_from(there), st.sampled_from(there), st.sampled_from(there),
        st.sampled_from(sorted({key for keys in KEYS.values() for key in keys})),
        st.sampled_from(sorted(GROUPS)), st.sampled_from(["experiment", "hydra.job.name", "hydra.sweeper.grids", "foo", "lr.foo", "seed.x"]),
    )  # fmt: skip
    keys = draw(st.lists(every, min_size=1, max_size=3, unique=True))
    set_ones = [f"{draw(PREFIXES)}{key}={draw(VALUES)}" for key in keys]
    return [*(f"{group}={name}" for group, name in named.items()), *set_ones]


def check_refusal(err: str, arguments: list[str]) -> None:
    """One line that names a key: one that was given, or one at odds with it."""
    assert err.startswith("rankward: ") and len(err.splitlines()) == 1, err
    keys = {text.partition("=")[0].lstrip("+~") for text in arguments}
    groups = {*GROUPS, *TOP, *(key.split(".")[0] for key in keys), *(key.rpartition(".")[0] for key in keys)} - {""}
    named = re.fullmatch(r"rankward: (?:jobs? [\d, ]+(?:and \d+ more)?(?: \(.*?\))?: )?([^\s:]+): .+", err.strip())
    said = named and re.split(r"[.\[]", named[1].lstrip("+~"))[0]
    assert any(key in err for key in keys) or said in groups, err


@fuzzed
@given(command_lines())
def test_command_lines_of_a_run(tmp_path_factory, arguments):
    note(shlex.join(arguments))
    folder = tmp_path_factory.mktemp("run")
    ended = command_line(*arguments, cwd=folder)
    event(f"exit code {ended.code}")
    assert ended.code in (0, 2), ended
    if ended.code == 2:
        check_refusal(ended.err, arguments)
        assert ended.out == "" and not list(folder.rglob("*")), ended
    assert ended.seconds < SECONDS


@settings(fuzzed, max_examples=EXAMPLES // 3)
@given(
    command_lines(),
    st.lists(st.tuples(st.sampled_from([*TOP, *NESTED, *GROUPS, "lr.eta", "init.scale"]), SWEEPS), max_size=2),
)
def test_command_lines_of_a_sweep(tmp_path_factory, arguments, axes):
    arguments = ["-m", *arguments, *(f"{key}={values}" for key, values in axes), "--dry-run"]
    note(shlex.join(arguments))
    folder = tmp_path_factory.mktemp("sweep")
    ended = command_line(*arguments, cwd=folder)
    event(f"exit code {ended.code}")
    assert ended.code in (0, 2), ended
    assert not list(folder.rglob("*")), ended
    if ended.code == 2:
        lines = ended.err.splitlines()
        assert all(line.startswith("rankward: ") for line in lines), ended
        for line in lines:
            check_refusal(line, arguments[1:-1])
    assert ended.seconds < SECONDS


@st.composite
def texts(draw):
    """CSV files: lists and matrices, more or less."""
    cells = st.one_of(
        st.integers(0, 4).map(str), st.integers(0, 4).map(str), st.integers(0, 4).map(str),
        st.sampled_from(["", "nan", "1.5", "-1", "1e308", "inf", "NA", "x", "1_0", " 2", '"3"', '"', "٣", "9" * 30, "1e-320"]),
        st.text(max_size=4),
    )  # fmt: skip
    width = draw(st.integers(1, 5))
    places = st.tuples(*[st.integers(0, 4).map(str)] * 2, st.floats(-9, 9).map(str))
    row = st.lists(cells, min_size=width, max_size=width)
    lines = draw(
        st.sampled_from(
            [
                st.lists(places, max_size=7, unique_by=lambda p: p[:2]),
                st.lists(row, max_size=7),
                st.lists(st.one_of(row, row, st.lists(cells, max_size=5)), max_size=7),
            ]
        )
    )
    end = draw(st.sampled_from(["\n"] * 6 + ["\r\n", "\n\n", ";"]))
    text = draw(st.sampled_from(["", "", "row,column,value\n", "\ufeff"])) + end.join(
        ",".join(line) for line in draw(lines)
    )
    return text.encode(draw(st.sampled_from(["utf-8"] * 7 + ["utf-16"])), errors="replace")


ARRAYS = st.one_of(
    st.builds(
        lambda shape, kind, seed: (np.random.default_rng(seed).integers(0, 3, shape)).astype(kind),
        st.lists(st.integers(0, 4), max_size=4).map(tuple),
        st.sampled_from(["f8", "f4", "i8", "?", "u1", "f2", ">f8", "c16", "U3", "M8[s]", "O"]),
        st.integers(0, 9),
    ),
    st.builds(
        lambda shape, seed: np.where(np.random.default_rng(seed).random(shape) < 0.3, np.nan, 1.0),
        st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), st.integers(0, 9),
    ),
)  # fmt: skip
NAMES = st.sampled_from(
    ["mask", "values", "ground_truth", "A", "y", "target_matrix", "target_tensor", "train_indices_order", "x"]
)


def sound(shape, kind, seed):
    """Named arrays that belong together."""
    random = np.random.default_rng(seed)
    values, mask = random.standard_normal(shape), random.random(shape) < 0.6
    holed = np.where(mask, values, np.nan)
    return {
        "mask": {"mask": mask, "values": values, "ground_truth": values},
        "holes": {"values": holed},
        "sensing": {"A": random.standard_normal((3, *shape)), "y": random.standard_normal(3), "target_matrix": values},
        "entries": {"A": np.eye(values.size)[:2].reshape(-1, *shape), "y": values.reshape(-1)[:2]},
        "tensor": {"target_tensor": values, "train_indices_order": random.permutation(values.size)[:3]},
    }[kind]


SOUND = st.builds(
    sound,
    st.lists(st.integers(1, 4), min_size=2, max_size=3).map(tuple),
    st.sampled_from(["mask", "holes", "sensing", "entries", "tensor"]), st.integers(0, 9),
)  # fmt: skip
HEADERS = st.builds(
    lambda shape, order, tail: header(shape, order) + bytes(tail),
    st.lists(st.one_of(st.integers(-2, 4), st.integers(0, 10**30)), max_size=40).map(tuple), st.booleans(), st.integers(0, 400),
)  # fmt: skip


def header(shape, order) -> bytes:
    """The beginning of a .npy file that says such a shape."""
    text = str({"descr": "<f8", "fortran_order": order, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + min(len(text), 2**16 - 1).to_bytes(2, "little") + text


@st.composite
def data_files(draw):
    """The ending of a data file, and its bytes: sound, odd, or torn."""
    ending = draw(st.sampled_from([".csv", ".npy", ".npz", ".pt"]))
    stream = io.BytesIO()
    if ending == ".csv":
        stream.write(draw(texts()))
    elif ending == ".npy":
        if not draw(st.integers(0, 3)):
            stream.write(draw(HEADERS))
        else:
            np.save(stream, draw(ARRAYS))
    else:
        arrays = draw(st.one_of(SOUND, SOUND, SOUND, st.dictionaries(NAMES, ARRAYS, max_size=4)))
        if ending == ".pt":
            plain = {}
            for name, array in arrays.items():
                with contextlib.suppress(TypeError, ValueError):
                    plain[name] = torch.from_numpy(array.copy()) if draw(st.integers(0, 5)) else array.tolist()
            torch.save(draw(st.sampled_from([*[plain] * 8, [plain], None, 3])), stream)
        elif draw(st.integers(0, 4)):
            np.savez(stream, **arrays)
        else:
            with zipfile.ZipFile(
                stream, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
            ) as archive:
                archive.writestr(f"{draw(NAMES)}.npy", draw(HEADERS))
                archive.writestr("more.npy", draw(HEADERS))
    content = bytearray(stream.getvalue())
    for _ in range(draw(st.sampled_from([0] * 8 + [1, 3]))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return ending, bytes(content[: draw(st.sampled_from([None] * 8 + [len(content) // 2, len(content) - 1]))])


@settings(fuzzed, max_examples=4 * EXAMPLES)
@given(
    data_files(),
    st.sampled_from([None, None, [2, 3], [3, 3, 3], [10**12, 10**12]]),
    st.sampled_from([None, None, 1, 3]),
)
def test_data_files(tmp_path_factory, file, dims, count):
    ending, content = file
    path = tmp_path_factory.mktemp("data") / f"seen{ending}"
    path.write_bytes(content)
    try:
        with shapes_unchecked():
            read = from_file(str(path), count=count, dims=dims)
    except DataError as error:
        event("refused")
        assert str(error).startswith("observations.path: ") and len(str(error).split("\n")) == 1
    else:
        event("read")
        assert read.count >= 1 and np.isfinite(read.values).all()


@settings(fuzzed, max_examples=EXAMPLES // 2)
@given(data_files(), st.sampled_from(["matrix", "linear", "tensor"]))
def test_data_files_on_the_command_line(tmp_path_factory, file, factorization):
    ending, content = file
    folder = tmp_path_factory.mktemp("data")
    (folder / f"seen{ending}").write_bytes(content)
    metrics = "metrics=tensor" if factorization == "tensor" else "metrics=matrix"
    arguments = ["observations=file", f"observations.path=seen{ending}", f"factorization={factorization}", metrics]
    ended = command_line("logger=none", *arguments, cwd=folder)
    event(f"exit code {ended.code}")
    assert ended.code in (0, 2) and ended.seconds < SECONDS, ended
    if ended.code == 2:
        lines = ended.err.splitlines()
        assert re.match(r"rankward: (observations|factorization|metrics)", lines[-1]), ended
        assert len(lines) <= 2 and not ended.files, ended  # a first line may say what was read


def test_pickles_that_would_run_are_never_run(tmp_path):
    class Touch:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    for ending in (".pt", ".npy", ".npz", ".csv"):
        (tmp_path / f"seen{ending}").write_bytes(pickle.dumps({"values": Touch()}))
        assert_refused(
            command_line("observations=file", f"observations.path=seen{ending}", cwd=tmp_path), "observations.path"
        )
    assert not (tmp_path / "executed").exists()


def test_processes_end_as_calls_in_this_process_do(tmp_path):
    """A few of the same command lines as real processes: the same codes and lines."""
    lines = []

    @settings(fuzzed, max_examples=24)
    @given(command_lines())
    def gather(arguments):
        lines.append(arguments)

    gather()
    for number, arguments in enumerate(lines):
        (tmp_path / f"in{number}").mkdir()
        ended = command_line("logger=none", "max_iterations=50", *arguments, cwd=tmp_path / f"in{number}")
        if ended.code == 0:
            continue  # it would train, as long as these keys say
        folder = tmp_path / f"out{number}"
        folder.mkdir()
        done = rankward("logger=none", "max_iterations=50", *arguments, cwd=folder, timeout=60)
        assert (done.returncode, done.stderr, done.stdout) == (ended.code, ended.err, ended.out), arguments
        assert not list(folder.rglob("*"))
