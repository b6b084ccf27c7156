"""subbyte report: one page about what subbyte wrote, to look at without a network or a server."""

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.common import command, console
from subbyte.pages.write import write_report


@command
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR",
            help="Folders of quantize, sweep, train or gradquant, or folders of such folders.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page. Default: report.html in DIR, with several DIRs in the current folder."
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Folder for each figure as a PNG picture.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Folder for each table and figure as a CSV file.")
    ] = None,
) -> None:
    """Write one page about quantized networks, sweeps, training runs and clip searches, or a
    comparison of several.
    """
    written = write_report(folders, out, png=png, tables=csv)
    for path in (written[0], *filter(None, (png, csv))):
        console.print(str(path), highlight=False, soft_wrap=True, markup=False)
