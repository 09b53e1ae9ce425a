"""Every private interface of another library that Rankward uses.

A failure here says which library has changed; `constraints.txt` has the version that worked.
"""

import ast
import inspect
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from rankward import private_apis

ROOT = Path(__file__).parents[1]
DOCUMENTED = ("_exit", "_target_")  # of `os`, and a key of Hydra's configs
TESTED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())


@pytest.fixture
def library(request):
    """Print the installed version of the library under test beside the tested one, for the report of a failure."""
    name = request.param
    if name == "numba-cuda":  # the only one that is an extra
        pytest.importorskip("numba_cuda")
    print(f"{name}: version {version(name)} is installed, rankward.private_apis was tested with {TESTED[name]}")


def of(name):
    return pytest.mark.parametrize("library", [name], indirect=True)


@pytest.fixture
def parser():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


@of("hydra-core")
def test_hydra_flags(library):
    flags = private_apis.hydra_flags()
    assert {"--multirun", "-m", "--run", "--cfg", "-c", "--config-dir", "--config-name", "--hydra-help"} <= set(flags)
    assert all(flag.startswith("-") for flag in flags)


@of("hydra-core")
def test_authorize_target(library):
    from hydra.errors import InstantiationException

    private_apis.authorize_target("no.such.module.Name", "metrics.x")  # not imported
    with pytest.raises(InstantiationException, match="blocklist"):
        private_apis.authorize_target("os.system", "metrics.x")


@of("hydra-core")
def test_apply_overrides(library, parser):
    from omegaconf import OmegaConf

    config = OmegaConf.create({"seed": 0, "lr": {"eta": 1.0}})
    private_apis.apply_overrides(parser.parse_overrides(["seed=3", "lr.eta=0.5"]), config)
    assert config == {"seed": 3, "lr": {"eta": 0.5}}


@of("hydra-core")
def test_override_dirname(library, parser):
    settings = SimpleNamespace(kv_sep="=", item_sep=",", exclude_keys=["seed"])
    overrides = parser.parse_overrides(["lr.eta=0.5", "depth=2", "seed=1"])
    assert private_apis.override_dirname(overrides, settings) == "depth=2,lr.eta=0.5"


@of("hydra-core")
def test_with_integer(library, parser):
    first, other = parser.parse_overrides(["seed=3", "seed=-12"])
    made = private_apis.with_integer(first, -12, "seed=-12")
    assert made == other and made.value() == -12 and made.input_line == "seed=-12"


@of("omegaconf")
def test_string_representer(library):
    import yaml
    from omegaconf import OmegaConf

    class Dumper(yaml.Dumper):
        pass

    Dumper.add_representer(str, private_apis.string_representer())
    values = {"a": "1e-3", "b": "yes", "c": "plain", "d": "x: y"}
    text = yaml.dump(values, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=Dumper)
    assert text == OmegaConf.to_yaml(OmegaConf.create(values))


@of("numba")
def test_disk_cache(library):
    import numba
    from numba.core.caching import FunctionCache
    from numba.core.ccallback import CFunc
    from numba.core.dispatcher import Dispatcher

    calls = []

    class Cache(FunctionCache):
        def save_overload(self, sig, data):
            calls.append(sig)

        def load_overload(self, sig, target_context):
            calls.append(sig)

    def plus_one(x):
        return x + 1

    function = numba.njit(cache=True)(plus_one)
    assert isinstance(function, Dispatcher) and type(private_apis.disk_cache(function)) is FunctionCache
    private_apis.set_disk_cache(function, Cache(plus_one))
    assert function(1) == 2 and len(calls) == 2
    signature = numba.int64(numba.int64)
    compiled = CFunc(plus_one, (signature.args, signature.return_type), {}, {"nopython": True})
    private_apis.set_disk_cache(compiled, Cache(plus_one))
    compiled.compile()
    assert len(calls) == 4 and compiled.address


@of("numba-cuda")
def test_nvvm(library):
    assert [*inspect.signature(private_apis.nvvm().compile_ir).parameters][:1] == ["llvmir"]


@of("torch")
def test_dispatch_modes(library):
    import torch

    seen = []

    class Mode(private_apis.dispatch_mode()):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        one = torch.ones(2)
        with private_apis.without_dispatch_modes():
            torch.zeros(2)
        one.add_(one)
        one + one
    assert [private_apis.operator_name(func) for func in seen] == ["aten::ones", "aten::add_", "aten::add"]
    assert [private_apis.changes_arguments(func) for func in seen] == [False, True, False]
    assert [list(private_apis.written_arguments(func)) for func in seen] == [[], [(0, "self")], []]


@of("torch")
def test_stored_entries(library):
    import torch

    twice = torch.sparse_coo_tensor([[0, 0, 1]], [1.0, 2.0, 3.0], (4,), check_invariants=True)
    assert private_apis.stored_entries(twice) == 3 and private_apis.stored_entries(twice.coalesce()) == 2


def private_names(tree):
    """Private names that a module takes from objects other than its own `self`, `cls` and `super()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls", "super")):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and not node.module.startswith("rankward"):
            yield from [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split("."))


def test_no_other_module_uses_private_names():
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        if path.name != "private_apis.py"
        for name in private_names(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED
    ]
    assert found == []
