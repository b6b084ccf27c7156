"""subbyte report: one page about what subbyte wrote, to look at without a network or a server."""

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.answers import Answer, command
from subbyte.cli.common import read_bits, read_words
from subbyte.cli.numbers import numeric
from subbyte.cli.progress import stage
from subbyte.cli.terminal import console
from subbyte.io.numbers import Real, Whole
from subbyte.pages.subject import View
from subbyte.pages.write import write_report

_USUAL = View()


@command
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR",
            help="Folders of quantize, demo, sweep, train, gradquant or aciq, or folders of such "
            "folders.",
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
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a folder, once for each. Default: the tail of its path."),
    ] = None,
    shared_assets: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the 5 MB that draw plots, once for many pages. Default: in the page."
        ),
    ] = None,
    smooth: Annotated[
        int,
        numeric(
            Whole(1),
            "Training: logged rows in the running mean of loss and moved codes; 1: no smoothing.",
        ),
    ] = _USUAL.smooth,
    epochs: Annotated[
        int, numeric(Whole(0), "Training: epochs to draw, from the first; 0: all.")
    ] = _USUAL.epochs,
    window: Annotated[
        float,
        numeric(
            Real(0, 10**6),
            "Clip searches: clips drawn to either side of the best by true loss; 0: all.",
        ),
    ] = _USUAL.window,
    metrics: Annotated[
        str,
        typer.Option(
            help="Clip searches: metrics to draw, by comma, or loss alone; all unless given."
        ),
    ] = "",
    bits: Annotated[
        str, typer.Option(help="Clip searches: widths to show, such as 2-4; all unless given.")
    ] = "",
) -> Answer[None]:
    """Write one page about quantized networks, sweeps, training runs and clip searches, or a
    comparison of several.
    """
    view = View(smooth, epochs, window, read_words(metrics), read_bits(bits) if bits else ())
    names, assets = name or (), shared_assets
    with stage("report"):
        page, *_ = write_report(
            folders, out, names=names, view=view, png=png, tables=csv, assets=assets
        )
    written = (page, *filter(None, (png, csv)))
    for path in written:
        console.print(str(path), soft_wrap=True)
    return Answer(None, written)
