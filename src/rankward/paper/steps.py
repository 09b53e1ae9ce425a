"""The steps of `rankward paper` in order: commands, and how long each takes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rankward.config.overrides import in_quotes

PAPER, SWEEPS, FIGURES = "paper.html", "sweeps", "figures"
PROPOSITIONS, CIRCUIT = "propositions.json", "circuit.json"


@dataclass(frozen=True)
class Step:
    """A command whose results the page reads.

    Args:
        name: of its folder.
        arguments: of `rankward`, without a folder.
        seconds: on two cores of a server, for the estimate of the time that is left. Finished steps measure the speed
            of this machine.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float

    @property
    def command(self) -> str:
        """The command that repeats the step."""
        return shlex.join(["rankward", *self.arguments])

    def in_folder(self, out: Path) -> list[str]:
        """The arguments with the place where the page looks for the results."""
        if self.arguments[0] == "-m":
            return [*self.arguments, "logger=none", f"hydra.sweep.dir={in_quotes(out / SWEEPS / self.name)}"]
        return [*self.arguments, "--out", str(out / f"{self.name}.json")]


FLOW = "lr=flow lr.coordinates=singular init=balanced init.determinant=positive depth=2,3,4"
CONVERGENCE = "lr=flow lr.coordinates=singular depth=2,3,4,5,6 init=identity,balanced init.scale=1,1e-2 stop_loss=1e-6"
WHOLE = (
    ("propositions", "propositions", 15),
    ("theorem_1", f"-m {FLOW} stop_loss=5e-5 init.scale=1,1e-3,1e-6 seed=range(0,10)", 12),
    ("convergence", f"-m {CONVERGENCE} seed=range(0,3)", 14),
    ("theorem_2", "-m experiment=figure5 lr=flow", 9),
    ("figure1", "-m experiment=figure1", 3),
    ("figure1_float32", "-m experiment=figure1 dtype=float32", 4),
    ("figure1_refined", "-m experiment=figure1_refined", 4),
    ("steps_and_starts", "-m experiment=steps_and_starts", 5),
    ("figure4", "-m experiment=figure4", 15),
    ("figure5", "-m experiment=figure5", 2),
    ("descent_to_flow", "-m experiment=descent_to_flow", 10),
    ("conjectures", "-m experiment=conjectures", 110),
    ("departure", "-m experiment=departure seed=range(0,30)", 60),
    ("figure2", "-m experiment=figure2", 85),
    ("circuit", "circuit", 1),
    ("figure6", "-m experiment=figure6 seed=0,1,2", 345),
)
SMALLER = "observations.dims=[30,30] observations.rank=2 observations.count=200,300,600"
COUNTS = "observations.count=50,100,200,400"
QUICK = (
    ("propositions", "propositions --draws 100000", 9),
    ("theorem_1", f"-m {FLOW} stop_loss=5e-5 init.scale=1,1e-3 seed=range(0,5)", 5),
    ("convergence", f"-m {CONVERGENCE}", 6),
    ("theorem_2", "-m experiment=figure5 lr=flow observations.b_22=0.05,0.1,0.5", 1),
    ("figure1", "-m experiment=figure1", 3),
    ("figure1_refined", "-m experiment=figure1_refined", 4),
    ("steps_and_starts", "-m experiment=steps_and_starts", 5),
    ("figure4", "-m experiment=figure4 init=balanced", 8),
    ("figure5", "-m experiment=figure5", 2),
    ("descent_to_flow", "-m experiment=descent_to_flow", 10),
    ("conjectures", f"-m experiment=conjectures {SMALLER}", 5),
    ("departure", "-m experiment=departure seed=range(0,10)", 20),
    ("figure2", f"-m experiment=figure2_order3 {COUNTS} seed=0,1", 5),
    ("circuit", "circuit", 1),
    ("figure6", f"-m experiment=figure2_order3 observations.rank=3 figures=[figure6] {COUNTS} seed=0,1", 6),
)


def steps(quick: bool = False) -> list[Step]:
    """All of them; the quick ones are smaller where the whole ones take more than seconds.

    Example:
        >>> steps(quick=True)[-1].name, steps(quick=True)[-1].command[:33]
        ('figure6', 'rankward -m experiment=figure2_or')
    """
    return [Step(name, tuple(text.split()), seconds) for name, text, seconds in (QUICK if quick else WHOLE)]


def left_out() -> list[tuple[str, str, str]]:
    """For each step that --quick does not run in full: its name, its command in full, and the quick one ("" for none).

    Example:
        >>> [name for name, _, quick in left_out() if not quick]
        ['figure1_float32']
    """
    quick = {step.name: step.command for step in steps(quick=True)}
    return [
        (step.name, step.command, quick.get(step.name, "")) for step in steps() if quick.get(step.name) != step.command
    ]
