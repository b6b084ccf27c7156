"""Helpers that the commands share: options, inputs, and the page about a folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from subbyte.cli.numbers import PIXELS, numeric, usage
from subbyte.cli.progress import stage
from subbyte.cli.terminal import console
from subbyte.data import DataSet, Interpolation, load_data
from subbyte.errors import RecipeError, SubbyteError
from subbyte.io.folders import owned
from subbyte.io.numbers import SEED, Whole
from subbyte.io.processes import check_device
from subbyte.io.texts import parse_yaml
from subbyte.models import load_model
from subbyte.pages.subject import View
from subbyte.pages.write import write_report
from subbyte.tasks import TASKS

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", help="A built-in network, torchvision:NAME, timm:NAME, or file.py:callable."
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="Float weights: .safetensors, a PyTorch state dict, or builtin:NAME."
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, mnist:PATH, fashion-mnist:PATH, cifar10:PATH, imagenet:PATH, "
        "imagefolder:PATH, images:PATH, masks:PATH, npz:PATH, or file.py:callable.",
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"How outputs are judged: {', '.join(TASKS)}, or file.py:Class; one for all outputs, "
        "or one for each by comma. Default: chosen by targets and outputs.",
    ),
]
NormalizeOption = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        help="imagenet, cifar10, mnist, none, or M,M,M/S,S,S. Default: the data set's own.",
    ),
]
ResizeOption = Annotated[
    int | None, numeric(PIXELS, "Shorter side of folder images, in pixels.", "--resize")
]
CropOption = Annotated[
    int | None, numeric(PIXELS, "Centre crop of folder images, in pixels.", "--crop")
]
InterpolationOption = Annotated[
    Interpolation | None,
    typer.Option(
        "--interpolation",
        help=f"With --resize: its filter, of {', '.join(Interpolation)}. Default: bicubic.",
    ),
]
OptimizeOption = Annotated[
    str,
    typer.Option(
        "--optimize",
        help="The good that a file is best at: speed; size (few-bit weights stay packed in "
        "memory); exact (also on x86 processors whose kernels add in saturating int16).",
    ),
]
InputOption = Annotated[
    str,
    typer.Option(
        "--input",
        help="float, as the network takes them, or uint8: the file takes images of 0 to 255 and "
        "normalizes them itself.",
    ),
]
StaticOption = Annotated[
    int | None,
    numeric(
        Whole(1, 2**16),
        "Samples of every call, for accelerators that take fixed sizes alone. Default: any "
        "number; 1 where the target takes fixed sizes.",
        "--static",
    ),
]


def _device(name: str) -> str:
    check_device(name)
    return name


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        parser=usage(_device),
        metavar="DEVICE",
        help="Where the arithmetic runs: cpu or cuda.",
    ),
]
SeedOption = Annotated[
    int, numeric(SEED, "Of all that is drawn at random: images, weights, order.", "--seed")
]
BenchOption = Annotated[
    bool, typer.Option("--bench/--no-bench", help="Time the files against float, for 3 seconds.")
]
PageOption = Annotated[
    bool, typer.Option("--report/--no-report", help="Write report.html, a page to look at.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace --out if it holds an earlier result.")
]


def read_bits(text: str) -> tuple[int, ...]:
    """Widths written as 4, 1-8 or 2,3,6-8. Raises RecipeError for anything else, and for widths not
    from 1 to 8.
    """
    parts = [re.fullmatch(r"([1-8])(?:-([1-8]))?", part.strip()) for part in text.split(",")]
    found = [
        bits for part in parts if part for bits in range(int(part[1]), int(part[2] or part[1]) + 1)
    ]
    if not found or None in parts:
        raise RecipeError(
            f"--bits must be widths from 1 to 8 and ranges of them, such as 1-8 or 2,3,4; got "
            f"{text!r}"
        )
    return tuple(dict.fromkeys(found))


def read_words(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_override(override: str, example: str) -> tuple[str, object]:
    """The name and the YAML value of a `--set`; example: of one, for the message.

    Raises RecipeError for another text.
    """
    name, equals, text = (part.strip() for part in override.partition("="))
    if not equals:
        raise RecipeError(f"--set {override!r}: expected NAME=VALUE, such as {example}")
    return name, parse_yaml(text, f"--set {override!r}")


@dataclass(frozen=True)
class Pixels:
    """How images become inputs, as options say it; None: as the data set has it."""

    normalize: str | None = None
    resize: int | None = None
    crop: int | None = None
    interpolation: Interpolation | None = None

    def load(self, data: str) -> DataSet:
        """The data set of a name. Raises DataError as `load_data` does."""
        return load_data(data, **vars(self))

    @property
    def about(self) -> dict[str, str]:
        """The words that files have for it, "" where nothing is said."""
        return {name: str(value or "") for name, value in vars(self).items()}


def load_inputs(
    model: str, weights: Path | None, data: str, pixels: Pixels
) -> tuple[nn.Module, DataSet]:
    """The float network and the data set that the options name."""
    with stage("read"):
        loaded = pixels.load(data)
        return load_model(model, weights, shape=loaded.image_shape), loaded


def write_page(wanted: bool, out: Path, view: View | None = None) -> tuple[Path, ...]:
    """Write the page about a folder of results where it is wanted; they are whole without one all
    the same. Returns what was written: the folder, and the page in it.
    """
    if not wanted:
        return (out,)
    try:
        with stage("report"), owned(out):
            (path,) = write_report([out], view=view or View())
    except SubbyteError as error:
        console.print(f"no report was written: {error}", soft_wrap=True)
        return (out,)
    console.print(f"to look at: {path}", soft_wrap=True)
    return out, path
