"""subbyte inspect: what is in a file that subbyte wrote."""

from math import inf, isfinite
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from subbyte.cli.quantize import show
from subbyte.cli.tables import plan_table
from subbyte.cli.terminal import command, console
from subbyte.core import QTensor, compressed_bytes, shannon_entropy
from subbyte.errors import FormatError, RecipeError
from subbyte.exporters import EXPORTERS, contents, seal
from subbyte.exporters.packed import read
from subbyte.learn.training.subject import PACKED
from subbyte.recipe import Plan
from subbyte.records import RESULT, Result, read_document


@command
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="model.safetensors, an exported file, plan.yaml, result.json, or their folder."
        ),
    ],
) -> None:
    """Show the plan, layers, bits and sizes of any file that subbyte wrote."""
    if file.is_dir():
        known = [file / name for name in (RESULT, PACKED) if (file / name).is_file()]
        if not known:
            raise FormatError(
                f"{file} holds neither {RESULT} nor {PACKED}; give a file, or see `subbyte report "
                f"{file}`"
            )
        file = known[0]
    if not file.is_file():
        raise FormatError(f"{file}: no such file")
    exported = {exporter.suffixes[0]: _exported for exporter in EXPORTERS.values()}
    kinds = {".safetensors": _packed, ".yaml": _plan, ".json": _result} | exported
    if file.suffix not in kinds:
        raise FormatError(f"{file}: subbyte writes files that end in {', '.join(kinds)}")
    kinds[file.suffix](file)


def _packed(file: Path) -> None:
    packed = read(file)
    console.print(plan_table(packed.plan))
    table = Table(title=f"{file}: {file.stat().st_size:,} bytes", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("bits")
    for name in (
        "weights",
        "code\nbytes",
        "scale\nbytes",
        "bits/\nweight",
        "entropy\nbits",
        "compressed\nbytes",
    ):
        table.add_column(name, justify="right")
    table.add_column("SNR dB", justify="right")
    stored = [
        layer
        for layer in packed.plan.layers
        if layer.spec and f"layers/{layer.name}/codes" in packed.tensors
    ]
    weights = [packed.weight(layer) for layer in stored]
    sizes = [_Size.of(weight) for weight in weights]
    for layer, weight, size in zip(stored, weights, sizes, strict=True):
        sqnr = packed.header.findings.sqnr_db.get(layer.name, inf)
        told = f"{sqnr:.1f}" if isfinite(sqnr) else "exact"
        table.add_row(layer.name, weight.grid.label, *size.cells(), told)
    if sizes:
        table.add_section()
        table.add_row("total", "", *_Size(*map(sum, zip(*sizes, strict=True))).cells(), "")
    console.print(table)
    for key, value in packed.header.about.items():
        console.print(f"{key}: {value}")


class _Size(NamedTuple):
    """The number of weights of one layer, or of several, and the bytes that they take; entropy:
    bits of all weights together.
    """

    weights: int
    codes: int
    scales: int
    entropy: float
    compressed: int

    @classmethod
    def of(cls, weight: QTensor) -> "_Size":
        """scales: with zero points, widths and levels."""
        codes, scales = weight.codes, weight.grid.nbytes
        entropy = codes.numel() * shannon_entropy(codes)
        return cls(codes.numel(), weight.nbytes - scales, scales, entropy, compressed_bytes(codes))

    def cells(self) -> tuple[str, ...]:
        """Bytes, and bits a weight."""
        bits, entropy = 8 * (self.codes + self.scales) / self.weights, self.entropy / self.weights
        return (
            f"{self.weights:,}",
            f"{self.codes:,}",
            f"{self.scales:,}",
            f"{bits:.2f}",
            f"{entropy:.2f}",
            f"{self.compressed:,}",
        )


def _exported(file: Path) -> None:
    """The file as its exporter sees it."""
    held = contents(file)
    form = f", {held.form}" if held.form else ""
    table = Table(title=f"{file}: {file.stat().st_size:,} bytes{form}", title_justify="left")
    for name in ("tensor", "type", "shape"):
        table.add_column(name, overflow="fold")
    table.add_column("bytes", justify="right")
    for one in held.tensors:
        table.add_row(one.name, one.type, "x".join(map(str, one.shape)), f"{one.bytes:,}")
    console.print(table)
    if held.operations:
        counted = (f"{count} {name}" for name, count in held.operations.items())
        console.print(", ".join(counted))
    for key, text in held.about.items():
        console.print(f"{key}: {text}")
    if seal(file).broken:
        console.print(f"{file} is not the file that was proven: it was changed since")


def _plan(file: Path) -> None:
    try:
        plan = Plan.read(file, run=False)
    except RecipeError as error:
        raise FormatError(
            f"{error}; it is no plan that subbyte wrote, or damaged; of other results `subbyte "
            f"report DIR` makes a page"
        ) from error
    console.print(plan_table(plan))


def _result(file: Path) -> None:
    show(read_document(file, Result), file.parent)
