"""subbyte aciq: where to clip what comes from Laplace's and Gauss's distribution, by formula and by
simulation.
"""

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.common import ForceOption, command, console, progress, read_bits
from subbyte.cli.tables import plain_table
from subbyte.errors import RecipeError
from subbyte.io.folders import folder
from subbyte.pages.priors import KINDS, optima, table, write_priors

_OWNS = ("alphas.csv", "mse.csv", "aciq.html", *(f"{prior}-*.png" for prior, _ in KINDS))


@command
def aciq(
    bits: Annotated[str, typer.Option(help="Widths of 1 to 8, such as 1-8 or 2,3,4.")] = "1-8",
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables, pictures and a page; must not exist.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Values to draw for the simulated error.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    force: ForceOption = False,
) -> None:
    """Print optimal clipping and its error for each width; with --out also draw the error against
    clipping.
    """
    widths = read_bits(bits)
    if samples < 1:
        raise RecipeError(f"--samples must be at least 1, got {samples}")
    if out is not None:
        with folder(out, owns=_OWNS, force=force) as temporary, progress() as report:
            write_priors(
                temporary, widths, samples, seed, lambda k, n, what: report("simulate", k, n, what)
            )
    for prior, one_sided in KINDS:
        console.print(plain_table(table(optima(prior, one_sided, widths), prior, one_sided)))
    console.print(
        "alpha: for 2^bits - 1 steps, as grids have; paper's: for 2^bits; best: by exact expected "
        "error",
        highlight=False,
    )
    if out is not None:
        console.print(f"written to {out}", highlight=False)
