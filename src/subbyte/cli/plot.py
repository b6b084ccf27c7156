"""subbyte plot: loss, accuracy and resolution of training runs, as pictures and as one page."""

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.common import command, console
from subbyte.errors import RecipeError
from subbyte.pages.training import draw


@command
def plot(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folders that `subbyte train` wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures and trends.html. Default: DIR itself, if there is one."
        ),
    ] = None,
    smooth: Annotated[
        int,
        typer.Option(
            help="Logged rows in the running mean of training loss and moved codes; 1: no "
            "smoothing."
        ),
    ] = 1,
    points: Annotated[int, typer.Option(help="Epochs to draw, from the first; 0: all.")] = 0,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a run, once for each DIR. Default: the tail of its path."),
    ] = None,
) -> None:
    """Draw training runs side by side: loss, accuracy, and resolution where updates were
    quantized.
    """
    if out is None and len(runs) > 1:
        raise RecipeError(f"--out is needed to draw {len(runs)} runs together")
    for path in draw(runs, out or runs[0], names=name or (), smooth=smooth, points=points):
        console.print(str(path), highlight=False, soft_wrap=True, markup=False)
