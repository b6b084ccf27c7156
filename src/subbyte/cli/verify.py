"""subbyte verify: what a device computed from a file's vectors, beside what it should have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.answers import Answer, command
from subbyte.cli.fitting import Table
from subbyte.cli.terminal import Exit, console
from subbyte.errors import FormatError
from subbyte.exporters.device import Compared, compare
from subbyte.exporters.vectors import VECTORS, read_vectors
from subbyte.io.arrays import read_arrays


@dataclass(frozen=True)
class Verified:
    """A device's numbers beside vectors. samples: of the vectors; values: how many these have;
    compared: those that the device has, in the order of the graph; the first of them with `wrong`
    samples is the first that differs.
    """

    samples: int
    values: int
    compared: list[Compared]


@command
def verify(
    file: Annotated[
        Path, typer.Argument(help="An exported file with vectors beside it, or the vectors.")
    ],
    outputs: Annotated[
        Path,
        typer.Option(
            help="What the device computed from the vectors' inputs: an .npz file, or a folder of "
            ".npy files; quantized values and outputs by their names."
        ),
    ],
) -> Answer[Verified]:
    """Name the first value that a device computes otherwise. Ends with code 1 if there is one."""
    path = file if file.name.endswith(VECTORS) else file.parent / f"{file.stem}{VECTORS}"
    if not path.is_file():
        raise FormatError(f"{path}: no such file; write it with `subbyte export ... --vectors`")
    vectors = read_vectors(path)
    found = compare(vectors, read_arrays(outputs))
    total = len(vectors.values) + len(vectors.outputs)
    told = Verified(vectors.samples, total, found)
    wrong = [one for one in found if one.wrong]
    if wrong:
        console.print(_table(wrong, vectors.samples))
        _say(f"{wrong[0].name} is the first value that differs: {_where(wrong[0])}")
        return Answer(told, code=Exit.ERROR)
    _say(
        f"{len(found)} values compared, of {total} that the vectors hold: equal on "
        f"{vectors.samples} samples, but for near ties in {sum(one.ties for one in found)} of them"
    )
    blind = next((one for one in found if not one.told), None)
    if blind is not None:
        _say(
            f"from {blind.name} on nothing is told: by then every sample has had a near tie, after "
            f"which its numbers may differ"
        )
    return Answer(told)


def _where(one: Compared) -> str:
    unit = f" {one.unit}" if one.unit else ""
    return (
        f"in {one.wrong} of {one.told} samples, {one.numbers:,} of {one.size:,} numbers of these, "
        f"by {one.largest:.4g}{unit} at most; the first at {list(one.place)}"
    )


def _table(wrong: list[Compared], samples: int) -> Table:
    title = f"Values that differ, of {samples} samples each only where nothing before it does"
    table = Table(title=title)
    table.add_column("value")
    for name in ("samples", "numbers", "largest difference"):
        table.add_column(name, justify="right")
    for one in wrong:
        unit = f" {one.unit}" if one.unit else ""
        table.add_row(one.name, f"{one.wrong}", f"{one.numbers:,}", f"{one.largest:.4g}{unit}")
    return table


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)
