"""subbyte evaluate: accuracy of a float network, a packed file or an ONNX file on a labelled split."""

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
)  # fmt: skip
from subbyte.data import load_data
from subbyte.errors import ModelError
from subbyte.evaluate import evaluate as measure
from subbyte.export.packed import is_packed, load
from subbyte.export.parity import onnx_model
from subbyte.models import load_model


@command
def evaluate(
    data: DataOption,
    weights: Annotated[
        Path | None, typer.Option(help="Float weights, a packed model.safetensors, or an .onnx file.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="As for quantize; not needed for ONNX files.")] = None,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Print loss, top-1 and top-5 on the test split."""
    split = load_data(data, normalize=normalize, resize=resize, crop=crop).test
    function, what, where = _function(model, weights, device)
    with progress() as report:
        found = measure(function, split, device=where, progress=lambda k, n: report("evaluate", k, n, ""))
    accuracy = found.accuracy
    table = Table(title=f"{what} on {accuracy.count:,} images of {data}", title_justify="left")
    for name in ("top-1 %", "top-5 %", "loss"):
        table.add_column(name, justify="right")
    table.add_row(f"{accuracy.top1:.2f}", f"{accuracy.top5:.2f}", f"{accuracy.loss:.4f}")
    console.print(table)


def _function(model: str | None, weights: Path | None, device: str) -> tuple[Callable[[Tensor], Tensor], str, str]:
    if weights is not None and weights.suffix == ".onnx":
        return onnx_model(weights), f"{weights} in ONNX Runtime", "cpu"
    if model is None:
        raise ModelError("--model is needed to evaluate anything but an ONNX file")
    if weights is not None and is_packed(weights):
        packed: nn.Module = load(weights, load_model(model))
        return packed.to(device), f"{weights} (packed {model})", device
    return load_model(model, weights).to(device), f"{model} (float)", device
