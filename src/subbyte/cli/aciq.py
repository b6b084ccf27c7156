"""subbyte aciq: where to clip what comes from Laplace's and Gauss's distribution, by formula and by
simulation.
"""

from pathlib import Path
from typing import Annotated

import typer

from subbyte.analyses.aciq import compute, optima
from subbyte.cli.answers import Answer, command
from subbyte.cli.common import ForceOption, PageOption, SeedOption, read_bits, write_page
from subbyte.cli.numbers import numeric
from subbyte.cli.progress import progress
from subbyte.cli.tables import plain_table
from subbyte.cli.terminal import console
from subbyte.io.folders import folder
from subbyte.io.numbers import Whole
from subbyte.pages.aciq import tables
from subbyte.pages.write import PAGE
from subbyte.records.aciq import ALPHAS, ERRORS, Optimum

_OWNS = (ALPHAS, ERRORS, PAGE)


@command
def aciq(
    bits: Annotated[str, typer.Option(help="Widths of 1 to 8, such as 1-8 or 2,3,4.")] = "1-8",
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables and a page; must not exist.")
    ] = None,
    samples: Annotated[
        int, numeric(Whole(1, 10**8), "Values to draw for the simulated error.")
    ] = 100_000,
    seed: SeedOption = 0,
    force: ForceOption = False,
    page: PageOption = True,
) -> Answer[list[Optimum]]:
    """Print optimal clipping and its error for each width; with --out also draw the error against
    clipping.
    """
    widths = read_bits(bits)
    if out is not None:
        with folder(out, owns=_OWNS, force=force) as temporary, progress() as report:
            found = compute(
                widths, samples, seed, lambda k, n, what: report("simulate", k, n, what)
            )
            found.write(temporary)
    best = optima(widths)
    for table in tables(best):
        console.print(plain_table(table))
    console.print(
        "alpha: for 2^bits - 1 steps, as grids have; paper's: for 2^bits; best: by exact expected "
        "error",
    )
    if out is None:
        return Answer(best)
    console.print(f"written to {out}", soft_wrap=True)
    return Answer(best, write_page(page, out))
