"""subbyte bench: how fast exported files are, how much memory they take, and why."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.answers import Answer, command
from subbyte.cli.common import ForceOption
from subbyte.cli.fitting import Table
from subbyte.cli.numbers import LONGEST, PIXELS, numeric, read_numbers
from subbyte.cli.progress import progress
from subbyte.cli.tables import finding_lines
from subbyte.cli.terminal import console
from subbyte.errors import FormatError, RecipeError
from subbyte.io.folders import owned
from subbyte.io.numbers import Real, Whole
from subbyte.records import BENCH, Bench, FileSpeed, Kernels, write_document
from subbyte.speed import bench as measure

_BATCH = Whole(1, 2**16)
_FINDINGS, _NODES = 5, 5  # that are printed
_MIB = 2**20


@command
def bench(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR", help="Exported files, or folders of quantize."),
    ],
    threads: Annotated[int, numeric(Whole(1, 1024), "Threads of a run.")] = 1,
    batches: Annotated[str, typer.Option(help="Batch sizes, by comma.")] = "1",
    pairs: Annotated[int, numeric(Whole(1), "Turns of each file.")] = 30,
    seconds: Annotated[
        float,
        numeric(
            Real(0, LONGEST, above=True),
            "Time for all turns of a batch size; fewer pairs fit then.",
        ),
    ] = 120.0,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Of an axis that may differ, such as height=224. Repeatable."),
    ] = None,
    static: Annotated[
        bool, typer.Option("--static/--no-static", help="Compare ONNX Runtime's own int8 tool.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"JSON file to write. Default: {BENCH} in DIR, where one DIR is all that is given."
        ),
    ] = None,
    force: ForceOption = False,
) -> Answer[Bench]:
    """Measure exported files in turns: speed against the float network and ONNX Runtime's own
    static quantization, memory, sizes, and which nodes compute with integers.
    """
    if out is None and len(paths) == 1 and paths[0].is_dir():
        out, force = paths[0] / BENCH, True  # one of ours, as the whole folder is
    with nullcontext() if out is None else owned(out), progress() as report:
        _check_free(out, force)
        found = measure(
            *paths,
            threads=threads,
            batches=tuple(dict.fromkeys(read_numbers("--batches", batches, _BATCH))),
            pairs=pairs,
            limit=seconds,
            sizes=_sizes(size or ()),
            static=static,
            progress=report,
        )
        if out is not None:
            _check_free(out, force)  # what appeared meanwhile stays
            write_document(out, found)
    show(found)
    if out is None:
        return Answer(found)
    console.print(f"written to {out}", soft_wrap=True)
    return Answer(found, (out,))


def _check_free(out: Path | None, force: bool) -> None:
    if out is not None and out.exists() and not force:
        raise FormatError(f"{out} exists; choose another name or pass --force")


def _sizes(texts: Sequence[str]) -> Mapping[str, int]:
    found = {}
    for text in texts:
        name, equals, size = text.partition("=")
        if not equals or not name.strip():
            raise RecipeError(f"--size must be NAME=NUMBER, such as height=224; got {text[:100]!r}")
        (found[name.strip()],) = read_numbers(f"--size {name.strip()[:100]}", size, PIXELS)
    return found


def show(found: Bench) -> None:
    """Print what was measured."""
    for batch in found.batches:
        console.print(_times(found, batch))
    console.print(_sizes_table(found))
    for one in found.files:
        if one.kernels is not None and one.kernels.quantizes:
            _show_kernels(one.name, one.kernels)
        if one.nodes:
            shown = one.nodes[:_NODES]
            told = [f"{node.node} ({node.operation}) {node.percent:.0f} %" for node in shown]
            _say(f"slowest nodes of {one.name}: {', '.join(told)}")
    for note in found.notes:
        _say(f"note: {note}")


def _say(text: str) -> None:
    console.print(text)


def _show_kernels(name: str, kernels: Kernels) -> None:
    _say(f"{name}: {kernels.summary}")
    for line in finding_lines(kernels, _FINDINGS):
        _say(line)


def _times(found: Bench, batch: int) -> Table:
    many = "" if found.threads == 1 else "s"
    table = Table(
        title=f"batch {batch}, {found.threads} thread{many}: how many times as fast, with the 95 % "
        "interval of the median",
    )
    table.add_column("file")
    measured = [(one.name, t) for one in found.files for t in one.timings if t.batch == batch]
    others = found.compared
    columns = [f"against {name}" for name in others]
    for name in ("ms a run", "quartiles", "images/s", *columns, "pairs"):
        table.add_column(name, justify="right")
    for name, timing in measured:
        low, high = (1000 * one for one in timing.quartiles)
        ratios = [own.faster if (own := timing.against.get(other)) else "" for other in others]
        pairs = max((one.pairs for one in timing.against.values()), default=0)
        table.add_row(
            name,
            f"{1000 * timing.seconds:.3f}",
            f"{low:.3f}, {high:.3f}",
            f"{batch / timing.seconds:,.0f}",
            *ratios,
            str(pairs or ""),
        )
    return table


def _sizes_table(found: Bench) -> Table:
    table = Table(title="sizes, memory, kernels")
    table.add_column("file")
    for name in (
        "bytes",
        "weights,\nloaded MiB",
        "load s",
        "resident\nMiB",
        "peak\nMiB",
        "values alive\nMiB, batch 1",
        "multiplications",
        "of integers\n%",
        "integer\nnodes %",
    ):
        table.add_column(name, justify="right")
    for one in found.files:
        table.add_row(one.name, f"{one.bytes:,}", *_cells(one))
    return table


def _cells(one: FileSpeed) -> list[str]:
    resident, kernels = one.resident, one.kernels
    memory = ["", "", ""]
    if resident is not None:
        memory = [
            f"{resident.load:.2f}",
            f"{resident.loaded / _MIB:.1f}",
            f"{resident.peak / _MIB:.1f}",
        ]
    if kernels is None:
        return ["", *memory, "", "", "", ""]
    return [
        f"{kernels.loaded / _MIB:.2f}",
        *memory,
        f"{kernels.activations / _MIB:.2f}",
        f"{kernels.multiplications:,}",
        f"{kernels.multiplied_percent:.1f}",
        f"{kernels.integer_percent:.1f}",
    ]
