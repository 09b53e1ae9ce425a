"""Rewriting of a command line's overrides for Hydra's grammar: choices that look like numbers, `geomspace`, paths."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rankward.config.checks import fits_memory
from rankward.config.choices import choices
from rankward.config.errors import ConfigError

DIGITS = 30  # at most, of an integer that is written without an exponent
VALUE_BYTES = 5000  # for a number in a list, while Hydra parses it
LISTS = ("logger", "experiment")  # groups that take several choices at once
FILES = ("observations.path", "observations.ground_truth")
ENDINGS = (
    ".csv",
    ".tsv",
    ".txt",
    ".dat",
    ".data",
    ".gz",
    ".npy",
    ".npz",
    ".pt",
    ".mat",
    ".safetensors",
    ".parquet",
    ".pq",
)
PLAIN = r"[A-Za-z0-9_ ./@%+:-]*"  # a name that Hydra reads without quotes


def quoted(override: str) -> str:
    """Quote a group's choice that looks like a number or null: `depth=3` becomes `depth='3'`.

    `experiment=null` becomes an empty list, with which Hydra's command line chooses no experiment.

    Raises:
        ConfigError: a list of choices for a group that takes one.

    Example:
        >>> quoted("depth=3"), quoted("seed=3"), quoted("depth=2,3"), quoted("logger=[csv,3]")
        ("depth='3'", 'seed=3', 'depth=2,3', "logger=[csv,'3']")
    """
    if override == "experiment=null":
        return "experiment=[]"
    key, _, value = override.partition("=")
    group = key.lstrip("+~").partition("@")[0]
    if not value or (group not in choices() and group != "hydra" and "/" not in group):
        return override
    if one := re.fullmatch(r"(?:shuffle|sort)\(([^,()\[\]]*)\)", value):  # Hydra would make a list of it
        value = one.group(1)
    if not (value.startswith("[") and value.endswith("]")):
        return f"{key}={_name(value)}"
    if group in choices() and group not in LISTS:
        sweep = f"a sweep over several is -m {group}={value[1:-1]}"
        raise ConfigError(group, value, f"one of {', '.join(choices()[group])}; {sweep}")
    return f"{key}=[{','.join(_name(each.strip()) for each in value[1:-1].split(','))}]"


def _name(value: str) -> str:
    """Quote a number or null; leave words, sweeps, and quoted texts as they are."""
    reads_as_value = re.fullmatch(r"[-+]?\.?\d[\w.+-]*|[-+]?inf|nan|null|true|false", value, re.IGNORECASE)
    return f"'{value}'" if reads_as_value else value


def unquoted(override: str) -> str:
    """Remove the quotes of a number, as a user types it: `depth='3'` becomes `depth=3`.

    Example:
        >>> unquoted("depth='3'"), unquoted("seed=3"), unquoted("observations.path='a b'")
        ('depth=3', 'seed=3', "observations.path='a b'")
    """
    return re.sub(r"='(-?\d+)'$", r"=\1", override)


def expanded(override: str) -> str:
    """Expand the tilde of `key=~/path`, which shells leave as it is.

    Example:
        >>> expanded("observations.path=~/w.csv") == f"observations.path='{Path.home()}/w.csv'"
        True
        >>> expanded("seed=0"), expanded("~figures")
        ('seed=0', '~figures')
    """
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"~(/[^,\[\]{}]*)?", value):
        return override
    return f"{key}={in_quotes(Path(value).expanduser())}"


def as_file(override: str) -> str:
    """Quote the name in `observations.path=p(1).csv`, which Hydra would read as a call.

    A name with commas is one file if that file exists; otherwise it is a sweep over several.

    Example:
        >>> as_file("observations.path=p(1).csv"), as_file("observations.path=a.csv,b.csv")
        ("observations.path='p(1).csv'", 'observations.path=a.csv,b.csv')
    """
    key, _, value = override.partition("=")
    if key not in FILES:
        return override
    names = [value] if Path(value).expanduser().is_file() else value.split(",")
    if not all(Path(name).expanduser().is_file() for name in names) and not (
        len(names) == 1 and value.lower().endswith(ENDINGS)
    ):
        return override
    return f"{key}={','.join(name if re.fullmatch(PLAIN, name) else in_quotes(name) for name in names)}"


def in_quotes(value: Path | str) -> str:
    """Quote a text, most often a path, for Hydra's grammar; only `${` keeps its meaning.

    Hydra reads a backslash literally, unless a quote follows.

    Example:
        >>> print(in_quotes(Path("it's here")), in_quotes("back\\\\slash"), in_quotes("end\\\\"))
        'it\\'s here' 'back\\slash' 'end\\\\'
    """
    return "'" + re.sub(r"(\\+)(?='|\Z)", r"\1\1", str(value)).replace("'", "\\'") + "'"


def launcher_setting(override: str) -> str:
    """Quote a setting of the launcher, which a scheduler or a shell reads.

    No sweep varies such a setting, so its commas and equals signs are part of the text. A setting with quotes or `${`
    stays as it is.

    Example:
        >>> launcher_setting("hydra.launcher.partition=a,b"), launcher_setting("hydra.launcher.mem_gb=8")
        ("hydra.launcher.partition='a,b'", 'hydra.launcher.mem_gb=8')
        >>> launcher_setting("hydra.launcher.setup=[module load cuda,export A=1]")
        "hydra.launcher.setup=['module load cuda','export A=1']"
    """
    key, _, value = override.partition("=")
    if not key.lstrip("+").startswith("hydra.launcher.") or re.search(r"""['"{]""", value):
        return override
    if value.startswith("[") and value.endswith("]"):
        lines = [line.strip() for line in value[1:-1].split(",")]
        return f"{key}=[{','.join(in_quotes(line) for line in lines if line)}]" if key.endswith(".setup") else override
    return f"{key}={in_quotes(value)}" if re.search(r"[^\w.:/@%+*?-]", value) else override


def as_value(value: Any) -> str:
    """Write a plain value in Hydra's grammar.

    Example:
        >>> print(as_value(7), as_value(None), as_value("a b"), as_value([1e-3, True]), as_value({"p": 2}))
        7 null 'a b' [0.001,true] {p:2}
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return in_quotes(value) if isinstance(value, str) else repr(value)


def zipped(arguments: Sequence[str]) -> list[str]:
    """Hand paired values, `key,key=[value,value],...`, to the sweeper, since no key of Hydra's has a comma.

    Example:
        >>> zipped(["-m", "lr.eta,init.scale=[1e-3,1],[2e-3,2]", "seed=1,2"])
        ['-m', 'seed=1,2', 'hydra.sweeper.zip=["lr.eta,init.scale=[1e-3,1],[2e-3,2]"]']
    """
    pairs = [text for text in arguments if re.fullmatch(r"[\w./@]+(\s*,\s*[\w./@]+)+=.*", text, re.DOTALL)]
    return _for_sweeper(arguments, {text: text for text in pairs}, "zip")


def selecting(arguments: Sequence[str]) -> list[str]:
    """Hand conditions on a sweep's jobs, `select.KEY=VALUES`, to the sweeper.

    Example:
        >>> selecting(["-m", "experiment=figure1", "select.depth=2,3"])
        ['-m', 'experiment=figure1', 'hydra.sweeper.select=["depth=2,3"]']
    """
    conditions = {text: text.removeprefix("select.") for text in arguments if re.match(r"select\.[^=]+=", text)}
    return _for_sweeper(arguments, conditions, "select")


def _for_sweeper(arguments: Sequence[str], handed: Mapping[str, str], key: str) -> list[str]:
    """Arguments in which those of `handed` are replaced by one list of a key of the sweeper."""
    if not handed:
        return list(arguments)
    values = ",".join(json.dumps(text, ensure_ascii=False) for text in handed.values())
    return [*(text for text in arguments if text not in handed), f"hydra.sweeper.{key}=[{values}]"]


def integers(override: str) -> str:
    """Write the values of `max_iterations=1e6` as integers.

    Example:
        >>> integers("max_iterations=1e6,2.5e6"), integers("lr.eta=1e6"), integers("max_iterations=1e-1")
        ('max_iterations=1000000,2500000', 'lr.eta=1e6', 'max_iterations=1e-1')
    """
    key, _, value = override.partition("=")
    if key != "max_iterations" or not re.fullmatch(r"[\d.e+,]+", value, re.IGNORECASE):
        return override
    try:
        numbers = [Decimal(part) for part in value.split(",")]
    except InvalidOperation:
        return override
    are_integers = all(n.adjusted() < DIGITS and n == n.to_integral_value() for n in numbers)
    return f"{key}={','.join(f'{n:.0f}' for n in numbers)}" if are_integers else override


def spaced(override: str) -> str:
    """Replace `geomspace(first,last,count)` and `linspace` by their numbers.

    Example:
        >>> spaced("lr.eta=geomspace(1e-3,1e-1,3)"), spaced("init.unbalance=linspace(0,1,3)"), spaced("seed=range(0,3)")
        ('lr.eta=0.001,0.01,0.1', 'init.unbalance=0,0.5,1', 'seed=range(0,3)')
    """
    key, _, value = override.partition("=")
    found = re.fullmatch(r"(geomspace|linspace)\((.*)\)", value.strip())
    if found is None:
        return override
    kind, inside = found.groups()
    try:
        *ends, number = inside.split(",")
        (first, last), count = map(float, ends), int(number)
        if count < 1 or (kind == "geomspace" and not (first > 0 and last > 0)):
            raise ValueError
    except ValueError:
        positive = "positive " if kind == "geomspace" else ""
        allowed = f"{kind}(first,last,count): two {positive}numbers and an integer"
        raise ConfigError(key, value, allowed) from None
    fits_memory(key, value, VALUE_BYTES * count)
    shares = [i / max(1, count - 1) for i in range(count)]
    if kind == "linspace":
        return f"{key}=" + ",".join(f"{first + (last - first) * share:.6g}" for share in shares)
    return f"{key}=" + ",".join(f"{first * (last / first) ** share:.6g}" for share in shares)


def as_hydra_has_them(arguments: Sequence[str]) -> list[str]:
    """Rewrite the overrides of a command line for Hydra's grammar.

    Example:
        >>> as_hydra_has_them(["max_iterations=1e6", "observations.path=p(1).csv"])
        ['max_iterations=1000000', "observations.path='p(1).csv'"]
    """
    return [
        quoted(integers(spaced(as_file(expanded(launcher_setting(text)))))) for text in zipped(selecting(arguments))
    ]
