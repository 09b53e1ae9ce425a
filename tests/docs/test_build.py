"""The pages as a whole: every key, command and name is there, they build without a warning, and read without a network."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from helpers.browser import opened
from rankward.commands import COMMANDS
from rankward.config import CONFIG_FOLDER, register

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generated():
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(DOCS))
    try:
        import _generated
    finally:
        sys.path.remove(str(DOCS))
    return _generated


def keys(node, prefix):
    """Of a composed config, down to values, lists, and what a metrics YAML names."""
    for key in node:
        value = None if OmegaConf.is_missing(node, key) else node[key]
        if key in ("name", "_target_"):
            continue
        if isinstance(value, DictConfig) and key not in ("columns", "certificates"):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_key_of_every_choice_is_listed_with_what_it_is(generated):
    register()
    page = generated.config_page()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        for group in generated.GROUPS:
            for file in sorted((CONFIG_FOLDER / group).glob("*.yaml")):
                assert f"### `{group}={file.stem}`" in page
                if group in ("experiment", "metrics"):
                    continue
                override = f"{group}='{file.stem}'" if file.stem.isdigit() else f"{group}={file.stem}"
                own = compose("config", [override])
                for key in keys(own[group], f"{group}."):
                    assert key in rows, key
                    assert rows[key].count("|") >= 5 and rows[key].split("|")[-2].strip(), f"{key} is not explained"
        top = compose("config")
    for key in keys(OmegaConf.masked_copy(top, [key for key in top if key not in generated.GROUPS]), ""):
        assert rows[key].split("|")[-2].strip(), f"{key} is not explained"


def test_every_command_is_listed(generated):
    page = generated.commands_page()
    assert all(f"## rankward {name}\n" in page for name in [*COMMANDS, "resume"])


def test_every_public_class_and_function_is_on_a_page(generated):
    modules = {package: importlib.import_module(package) for package in generated.PACKAGES}
    public = {
        p: [name for name in getattr(module, "__all__", []) if is_api(getattr(module, name))]
        for p, module in modules.items()
    }
    listed = {id(getattr(modules[p], name)) for p in modules for name in generated.documented(p)[0]}
    assert {"run", "sweep", "load", "Run", "Sweep"} <= set(public["rankward"])
    for package, names in public.items():
        for name in names:
            assert id(getattr(modules[package], name)) in listed, f"{package}.{name} is on no page"
            assert inspect.getdoc(getattr(modules[package], name)), f"{package}.{name} has no docstring"


def is_api(each):
    return inspect.isclass(each) or inspect.isfunction(each)


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_read_without_a_network(generated, tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run([*command, DOCS, tmp_path / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = tmp_path / "html"
    for package in generated.PACKAGES:
        module, page = importlib.import_module(package), (built / f"api/{package}.html").read_text(encoding="utf-8")
        for name in generated.documented(package)[0]:
            assert not is_api(getattr(module, name)) or f'id="{package}.{name}"' in page, f"{package}.{name}"
    notebook = (built / "notebook.html").read_text(encoding="utf-8")
    assert notebook.count("<img") >= 3 and "Run(" in notebook and "Traceback" not in notebook
    with opened(built / "mathematics.html", "math", alone=False) as page:
        assert page.locator("math").count() > 40
        assert page.locator("math").first.bounding_box()["width"] > 5
    with opened(built / "index.html", "h1", alone=False, viewport={"width": 390, "height": 844}) as page:
        assert page.locator("img").first.evaluate("picture => picture.naturalWidth") > 500
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
    with opened(built / "search.html", alone=False) as page:
        page.get_by_role("textbox", name="Search").fill("geomspace")
        page.keyboard.press("Enter")
        page.locator("#search-results a", has_text="Sweep").first.wait_for(timeout=20_000)
