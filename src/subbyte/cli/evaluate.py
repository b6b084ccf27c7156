"""subbyte evaluate: accuracy of a float network, a packed file or an exported file on a labelled
split, by class.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from torch import Tensor, nn

from subbyte.cli.common import (
    CropOption,
    DataOption,
    DeviceOption,
    NormalizeOption,
    ResizeOption,
    command,
    console,
    progress,
)
from subbyte.data import load_data
from subbyte.errors import ModelError
from subbyte.exporters import exporter_of, is_exported
from subbyte.exporters.packed import is_packed, load
from subbyte.models import load_model, new_model
from subbyte.tasks import ClassAccuracy, class_accuracy
from subbyte.tasks import evaluate as measure


@command
def evaluate(
    data: DataOption,
    weights: Annotated[
        Path | None,
        typer.Option(help="Float weights, a packed model.safetensors, or an exported file."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As for quantize; not needed for exported files.")
    ] = None,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    device: DeviceOption = "cpu",
    per_class: Annotated[
        int, typer.Option(help="Classes to show, those with the lowest accuracy; 0: none.")
    ] = 20,
) -> None:
    """Print loss, top-1 and top-5 on the test split, and top-1 by class."""
    images = load_data(data, normalize=normalize, resize=resize, crop=crop)
    split = images.test
    function, what, where = _function(model, weights, device, len(images.classes))
    with progress() as report:
        found = measure(
            function, split, device=where, progress=lambda k, n: report("evaluate", k, n, "")
        )
    accuracy = found.accuracy
    table = Table(title=f"{what} on {accuracy.count:,} images of {data}", title_justify="left")
    for name in ("top-1 %", "top-5 %", "loss"):
        table.add_column(name, justify="right")
    table.add_row(f"{accuracy.top1:.2f}", f"{accuracy.top5:.2f}", f"{accuracy.loss:.4f}")
    console.print(table)
    if per_class:
        console.print(_by_class(class_accuracy(found, split), images.classes, per_class))


def _by_class(rows: list[ClassAccuracy], names: tuple[str, ...], most: int) -> Table:
    """A row a class, in order; where there are more than `most`, the worst of them, the worst
    first.
    """
    shown, title = rows, "by class"
    if len(rows) > most:
        shown = sorted(rows, key=lambda row: row.top1)[:most]
        title = f"the {most} classes of {len(rows)} with the lowest accuracy"
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("images", "top-1 %", "most often taken for"):
        table.add_column(name, justify="right")
    for row in shown:
        mistaken = f"{_named(names, row.mistaken_for)} ({row.mistakes})" if row.mistakes else ""
        table.add_row(_named(names, row.label), f"{row.count:,}", f"{row.top1:.2f}", mistaken)
    return table


def _named(names: tuple[str, ...], label: int) -> str:
    """Networks may have more classes than the data."""
    return names[label] if label < len(names) else f"class {label}"


def _function(
    model: str | None, weights: Path | None, device: str, classes: int
) -> tuple[Callable[[Tensor], Tensor], str, str]:
    if weights is not None and is_exported(weights):
        exporter = exporter_of(weights)
        return exporter.runner(weights), f"{weights} in {exporter.runtime}", "cpu"
    if model is None:
        raise ModelError("--model is needed to evaluate anything but an exported file")
    if weights is not None and is_packed(weights):
        packed: nn.Module = load(weights, new_model(model, classes))
        return packed.to(device), f"{weights} (packed {model})", device
    return load_model(model, weights).to(device), f"{model} (float)", device
