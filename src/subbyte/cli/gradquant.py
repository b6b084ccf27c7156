"""subbyte gradquant: which part of the weights' range to keep, by many metrics, and which of them
to believe.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from subbyte.analyses.clips import GRANULARITIES, Search, run
from subbyte.cli.answers import Answer, command
from subbyte.cli.common import (
    CropOption,
    DataOption,
    InterpolationOption,
    ModelOption,
    NormalizeOption,
    PageOption,
    Pixels,
    ResizeOption,
    SeedOption,
    WeightsOption,
    load_inputs,
    read_bits,
    read_words,
    write_page,
)
from subbyte.cli.numbers import USUAL, amount, numeric
from subbyte.cli.progress import progress
from subbyte.cli.tables import plain_table
from subbyte.cli.terminal import console, interrupted
from subbyte.data import Amount
from subbyte.errors import RecipeError
from subbyte.io.numbers import Real, Whole
from subbyte.pages.clips import summaries
from subbyte.pages.subject import View
from subbyte.pages.write import write_report
from subbyte.ranges.metrics import METRICS
from subbyte.records.clips import Search as Clips
from subbyte.records.clips import read_search


@command
def gradquant(
    out: Annotated[
        Path,
        typer.Option(help="Folder for results; the same command goes on where it was stopped."),
    ],
    model: ModelOption = "",
    data: DataOption = "",
    weights: WeightsOption = None,
    bits: Annotated[
        str,
        typer.Option(
            help="Widths of 1 to 8, such as 2,3,4. Default: 1-8, or all that were scanned."
        ),
    ] = "",
    resolution: Annotated[int, numeric(Whole(1, 10**6), "Clips to try.")] = 100,
    clip: Annotated[
        str, typer.Option(help="From:to, fractions of the range; the first is left out.")
    ] = "0:1",
    metrics: Annotated[
        str,
        typer.Option(
            help=f"Of {', '.join(METRICS)} and loss; mse and grad with a power (grad:1.5) or "
            f"signed (grad:1:signed)."
        ),
    ] = ",".join(Search.metrics),
    granularity: Annotated[
        str, typer.Option(help=f"Who shares a clip, one or more of {', '.join(GRANULARITIES)}.")
    ] = "network",
    ends: Annotated[str, typer.Option(help="Lower and upper end together or apart.")] = "together",
    symmetric: Annotated[
        bool, typer.Option("--symmetric/--asymmetric", help="Without a zero point, or with.")
    ] = True,
    labels: Annotated[
        str, typer.Option(help="Of the gradients: true, or sampled from the network's output.")
    ] = "sampled",
    grad_batches: Annotated[
        int, numeric(Whole(1), "Batches of calibration images to take gradients of, at most.")
    ] = 16,
    batch_size: Annotated[int, numeric(Whole(1), "Images of one gradient.")] = 64,
    calibration: Annotated[
        Amount,
        amount("Images to read statistics off, from the training split; or a share of it, 1%."),
    ] = USUAL,
    evaluate: Annotated[
        int, numeric(Whole(0), "Other training images to measure the true loss on; 0: do not.")
    ] = 0,
    base: Annotated[
        list[Path] | None,
        typer.Option(
            "--base",
            help="Folder of an earlier search with the same images: its true losses are taken "
            "over. Repeatable.",
        ),
    ] = None,
    dump: Annotated[
        bool,
        typer.Option(
            "--dump",
            help="Write weights, gradients, second moments and Hessian blocks, too: "
            "evidence.safetensors.",
        ),
    ] = False,
    seed: SeedOption = 0,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    page: PageOption = True,
    plot_only: Annotated[
        bool,
        typer.Option(
            "--plot-only", help="Draw what --out holds, of --bits and --show; scan nothing."
        ),
    ] = False,
    show: Annotated[
        str, typer.Option(help="Curves to draw, of the metrics and loss; all unless given.")
    ] = "",
) -> Answer[Clips]:
    """Scan clips of the weights' range; compare what metrics choose with the true loss.

    --model and --data are needed but for --plot-only.
    """
    view = View(metrics=read_words(show), bits=read_bits(bits) if bits else ())
    if plot_only:
        (path,) = write_report([out], view=view)
        console.print(f"to look at: {path}", soft_wrap=True)
        return Answer(read_search(out), (path,))
    for name, value in (("--model", model), ("--data", data)):
        if not value:
            raise typer.BadParameter("it is needed, but for --plot-only", param_hint=name)
    search = Search(
        bits=read_bits(bits or "1-8"),
        clip=_pair(clip),
        resolution=resolution,
        metrics=read_words(metrics),
        granularities=read_words(granularity),  # type: ignore[arg-type]
        apart=_apart(ends),
        symmetric=symmetric,
        labels=labels,  # type: ignore[arg-type]
        grad_batches=grad_batches,
        batch_size=batch_size,
        evaluate=evaluate,
        seed=seed,
    )
    pixels = Pixels(normalize, resize, crop, interpolation)
    network, images = load_inputs(model, weights, data, pixels)
    search = replace(search, calibration=calibration.of(images))
    about = {"model": model} | pixels.about
    try:
        with progress() as report:
            run(search, network, images, out, report, about, bases=base or (), dump=dump)
    except KeyboardInterrupt as reason:
        left = f"finished rows are kept in {out}; the same command goes on"
        raise interrupted(reason, left) from None
    found = read_search(out)
    for table in summaries(found):
        console.print(plain_table(table))
    return Answer(found, write_page(page, out, view))


def _pair(text: str) -> tuple[float, float]:
    parts = text.split(":")
    try:
        start, end = (Real(0, 10**6).read(part.strip()) for part in parts)
    except ValueError:
        raise RecipeError(f"--clip must be two numbers such as 0:1, got {text[:100]!r}") from None
    return start, end


def _apart(text: str) -> bool:
    if text not in ("together", "apart"):
        raise RecipeError(f"--ends must be together or apart, got {text!r}")
    return text == "apart"
