"""Shell completion, in a real Bash: what the docs say to put into ~/.bashrc."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
eval "$(rankward -sc install=bash)"
complete -p rankward >&2
for line in "$@"; do
  COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
  hydra_bash_completion
  echo "${COMPREPLY[*]}"
done
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="no Bash here")
def test_groups_choices_and_keys_are_completed(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = [
        "rankward init=ba",
        "rankward -m experiment=figure1",
        "rankward observations=random_matrix observations.co",
        "rankward lr.e",
    ]
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", *lines],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "hydra_bash_completion rankward" in done.stderr
    assert done.stdout.splitlines() == [
        "init=balanced",
        "experiment=figure1 experiment=figure1_flow experiment=figure1_refined",
        "observations.count=",
        "lr.eta=",
    ]
    assert not list(tmp_path.iterdir())
