"""subbyte gradquant: which part of the weights' range to keep, by many metrics, and which of them
to believe.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from subbyte.analyses.clips import GRANULARITIES, Search, run
from subbyte.cli.common import (
    CropOption,
    DataOption,
    ModelOption,
    NormalizeOption,
    ResizeOption,
    WeightsOption,
    command,
    console,
    errors,
    load_inputs,
    progress,
    read_bits,
)
from subbyte.cli.tables import plain_table
from subbyte.errors import RecipeError
from subbyte.pages.clips import draw, summaries
from subbyte.ranges.metrics import METRICS


@command
def gradquant(
    out: Annotated[
        Path,
        typer.Option(help="Folder for results; the same command goes on where it was stopped."),
    ],
    model: ModelOption = "",
    data: DataOption = "",
    weights: WeightsOption = None,
    bits: Annotated[str, typer.Option(help="Widths of 1 to 8, such as 1-8 or 2,3,4.")] = "1-8",
    resolution: Annotated[int, typer.Option(help="Clips to try.")] = 100,
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
        int, typer.Option(help="Batches of calibration images to take gradients of, at most.")
    ] = 16,
    batch_size: Annotated[int, typer.Option(help="Images of one gradient.")] = 64,
    calibration: Annotated[
        int, typer.Option(help="Images to read statistics off, from the training split.")
    ] = 500,
    evaluate: Annotated[
        int, typer.Option(help="Other training images to measure the true loss on; 0: do not.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the draw of images and labels.")] = 0,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    plots: Annotated[
        bool,
        typer.Option("--plots/--no-plots", help="Pictures and an HTML page beside the tables."),
    ] = True,
    window: Annotated[
        float, typer.Option(help="Clips drawn to either side of the best by true loss; 0: all.")
    ] = 0.15,
    show: Annotated[str, typer.Option(help="Metrics to draw, by comma; all unless given.")] = "",
    plot_only: Annotated[
        bool, typer.Option("--plot-only", help="Draw what --out holds, and search nothing.")
    ] = False,
) -> None:
    """Scan clips of the weights' range; compare what metrics choose with the true loss."""
    if window < 0:
        raise RecipeError(f"--window must be 0 or more, got {window:g}")
    if not plot_only:
        if not model or not data:
            raise typer.BadParameter("--model and --data are needed (unless with --plot-only)")
        search = Search(
            read_bits(bits),
            _pair(clip),
            resolution,
            _words(metrics),
            _words(granularity),
            _apart(ends),
            symmetric,
            labels,  # type: ignore[arg-type]
            grad_batches,
            batch_size,
            calibration,
            evaluate,
            seed,
        )
        pixels = {
            "normalize": normalize or "",
            "resize": str(resize or ""),
            "crop": str(crop or ""),
        }
        network, images = load_inputs(model, weights, data, normalize, resize, crop)
        _run(search, network, images, out, {"model": model} | pixels)
    for table in summaries(out):
        console.print(plain_table(table))
    if plots or plot_only:
        written = draw(out, window, _words(show))
        console.print(
            f"drawn: {', '.join(path.name for path in written)} in {out}", highlight=False
        )


def _run(search: Search, network: Any, images: Any, out: Path, about: dict[str, str]) -> None:
    try:
        with progress() as report:
            run(search, network, images, out, report, about)
    except KeyboardInterrupt:
        errors.print(
            f"interrupted: finished rows are kept in {out}; the same command goes on",
            highlight=False,
        )
        raise typer.Exit(130) from None


def _words(text: str) -> tuple[Any, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pair(text: str) -> tuple[float, float]:
    try:
        start, end = map(float, text.split(":"))
    except ValueError:
        raise RecipeError(f"--clip must be two numbers such as 0:1, got {text!r}") from None
    return start, end


def _apart(text: str) -> bool:
    if text not in ("together", "apart"):
        raise RecipeError(f"--ends must be together or apart, got {text!r}")
    return text == "apart"
