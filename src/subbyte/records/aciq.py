"""The files that `subbyte aciq` writes: alphas.csv, the optima; mse.csv, the error at every place
of clipping.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from subbyte.errors import FormatError
from subbyte.io.files import write_text
from subbyte.records.base import Count, Record, read_rows, table_text

PriorName = Literal["laplace", "gauss"]
ALPHAS, ERRORS = "alphas.csv", "mse.csv"
_ADVICE = "`subbyte aciq --force` writes it anew"


class Optimum(Record):
    """The best places to clip for one width: by W(3 n^2) and its like with the number of steps n,
    with the paper's 2^bits, and truly best; the expected error of each; and the error that the
    paper's formula promises.

    Places and errors are in units of b or sigma, and of b^2 or sigma^2.
    """

    prior: PriorName
    one_sided: bool
    bits: Count
    alpha: float
    alpha_paper: float
    alpha_best: float
    mse: float
    mse_paper: float
    mse_best: float
    mse_paper_promises: float


class Clipped(Record):
    """The error at one place of clipping: by the paper's formula, expected, and of values that were
    drawn.

    samples: how many; seed: of their draw.
    """

    prior: PriorName
    one_sided: bool
    bits: Count
    alpha: float
    paper: float
    expected: float
    simulated: float
    samples: Count
    seed: int


@dataclass(frozen=True)
class Clipping:
    """A folder of `subbyte aciq`."""

    optima: list[Optimum]
    errors: list[Clipped]

    def write(self, out: Path) -> None:
        """Write both files, each whole or not at all."""
        write_text(out / ALPHAS, _text(Optimum, self.optima))
        write_text(out / ERRORS, _text(Clipped, self.errors))


R = TypeVar("R", Optimum, Clipped)


def _text(kind: type[R], rows: Sequence[R]) -> str:
    cells = ([f"{v:.8g}" if isinstance(v, float) else v for _, v in row] for row in rows)
    return table_text(list(kind.model_fields), cells)


def read_clipping(folder: Path) -> Clipping:
    """Both files. Raises FormatError, naming the file, when one is missing, damaged or empty."""
    optima = read_rows(folder / ALPHAS, Optimum, _ADVICE)
    errors = read_rows(folder / ERRORS, Clipped, _ADVICE)
    if not optima or _priors(optima) != _priors(errors):
        raise FormatError(
            f"{folder / ERRORS} is damaged (it has not the priors of {ALPHAS}); {_ADVICE}"
        )
    return Clipping(optima, errors)


def _priors(rows: Sequence[R]) -> list[tuple[str, bool]]:
    """The priors and whether they are one-sided, in the order in which they come."""
    return list(dict.fromkeys((row.prior, row.one_sided) for row in rows))
