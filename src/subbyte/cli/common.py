"""Helpers that the commands share: options, progress bars, and errors as one clear line."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import nn

from subbyte.data import DataSet, load_data
from subbyte.errors import RecipeError, SubbyteError
from subbyte.models import load_model
from subbyte.pages.write import write_report
from subbyte.tasks import TASKS

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)
F = TypeVar("F", bound=Callable[..., Any])

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
    int | None, typer.Option("--resize", help="Shorter side of folder images, in pixels.")
]
CropOption = Annotated[
    int | None, typer.Option("--crop", help="Centre crop of folder images, in pixels.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where the arithmetic runs: cpu or cuda.")
]
PageOption = Annotated[
    bool, typer.Option("--report/--no-report", help="Write report.html, a page to look at.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace --out if it holds an earlier result.")
]


def command(function: F) -> F:
    """Turn errors the user can mend into one line on stderr and exit code 1; Ctrl-C into exit code
    130.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SubbyteError as error:
            errors.print(
                f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True, highlight=False
            )
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno is None or error.filename is None:
                raise
            errors.print(
                f"[bold red]error:[/] {_plain(_of_files(error))}", soft_wrap=True, highlight=False
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            errors.print("interrupted: nothing was written", highlight=False)
            raise typer.Exit(130) from None

    return wrapped  # type: ignore[return-value]


def _of_files(error: OSError) -> str:
    """A full disk, a folder that can't be written to: what, where, and what to do."""
    assert error.errno is not None
    what = os.strerror(error.errno)
    return (
        f"{error.filename}: {what}; nothing is left half-written. Make room, or choose another "
        f"folder"
    )


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


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


def load_inputs(
    model: str,
    weights: Path | None,
    data: str,
    normalize: str | None,
    resize: int | None,
    crop: int | None,
) -> tuple[nn.Module, DataSet]:
    """The float network and the data set that the options name."""
    loaded = load_data(data, normalize=normalize, resize=resize, crop=crop)
    return load_model(model, weights), loaded


@contextmanager
def progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """A progress bar a stage, with an estimate of the time left, on stderr."""
    columns = [
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
    ]
    with Progress(*columns, console=errors, transient=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, what: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, what="")
            bars.update(
                tasks[stage], completed=done, total=total, what="" if done == total else what
            )

        yield report


def write_page(out: Path) -> None:
    """The page about a folder of results, which are whole without one all the same."""
    try:
        (path,) = write_report([out])
    except SubbyteError as error:
        console.print(
            f"no report was written: {error}", highlight=False, soft_wrap=True, markup=False
        )
    else:
        console.print(f"to look at: {path}", highlight=False, soft_wrap=True, markup=False)
