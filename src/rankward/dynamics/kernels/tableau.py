"""Embedded Runge-Kutta methods as tables."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction as F

Row = tuple[F, ...]


@dataclass(frozen=True)
class Tableau:
    """An explicit method whose last stage is the first of the next step ("first same as last").

    Args:
        stages: row s combines the directions before stage s + 1; the last row is the step itself.
        error: the step less the embedded one of lower order, over all stages.

    Raises:
        ValueError: rows of the wrong length, or weights that do not sum to 1 (a step) or to 0 (a difference of two).

    Example:
        >>> len(DORMAND_PRINCE.stages), float(sum(DORMAND_PRINCE.stages[0]))
        (6, 0.2)
    """

    stages: tuple[Row, ...]
    error: Row

    def __post_init__(self) -> None:
        if any(len(row) != number + 1 for number, row in enumerate(self.stages)):
            raise ValueError("stages: row s has s + 1 coefficients")
        if sum(self.stages[-1]) != 1 or sum(self.error) != 0 or len(self.error) != len(self.stages) + 1:
            raise ValueError("a step's weights sum to 1, the error's to 0")


# Dormand and Prince (1980), order 5 with an embedded 4: Hairer, Norsett, Wanner, Solving ODEs I, table II.5.2.
DORMAND_PRINCE = Tableau(
    stages=(
        (F(1, 5),),
        (F(3, 40), F(9, 40)),
        (F(44, 45), F(-56, 15), F(32, 9)),
        (F(19372, 6561), F(-25360, 2187), F(64448, 6561), F(-212, 729)),
        (F(9017, 3168), F(-355, 33), F(46732, 5247), F(49, 176), F(-5103, 18656)),
        (F(35, 384), F(0), F(500, 1113), F(125, 192), F(-2187, 6784), F(11, 84)),
    ),
    error=(F(71, 57600), F(0), F(-71, 16695), F(71, 1920), F(-17253, 339200), F(22, 525), F(-1, 40)),
)
