"""subbyte inspect: what is in a file that subbyte wrote."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from subbyte.cli.answers import Answer, command
from subbyte.cli.fitting import Table
from subbyte.cli.progress import stage
from subbyte.cli.quantize import show
from subbyte.cli.tables import plan_table
from subbyte.cli.terminal import console
from subbyte.core import QTensor, compressed_bytes, shannon_entropy
from subbyte.errors import FormatError, RecipeError
from subbyte.exporters import EXPORTERS, contents, seal
from subbyte.exporters.packed import read
from subbyte.learn.training.subject import PACKED
from subbyte.methods import Contents
from subbyte.recipe import Plan
from subbyte.records import RESULT, Result, read_document


@dataclass(frozen=True)
class PackedLayer:
    """A layer in a packed file.

    bits: a number, or a word such as 'ternary'; weights: how many; code_bytes, scale_bytes: that
    they take, the latter with zero points, widths and levels; entropy_bits: of all codes together;
    compressed_bytes: that an entropy coder makes of the codes; sqnr_db: of its output against the
    float network, None where there is no difference or it was not measured.
    """

    name: str
    bits: str
    weights: int
    code_bytes: int
    scale_bytes: int
    entropy_bits: float
    compressed_bytes: int
    sqnr_db: float | None


@dataclass(frozen=True)
class PackedFile:
    """A packed file: its size, the plan as plan.yaml has it, and what else it states (`about`)."""

    bytes: int
    plan: Mapping[str, object]
    layers: list[PackedLayer]
    about: Mapping[str, object]


@dataclass(frozen=True)
class ExportedFile:
    """An exported file: its size, what it holds, and whether it was changed since it was proven."""

    bytes: int
    changed: bool
    contents: Contents


_Found = Plan | Result | PackedFile | ExportedFile


@command
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="model.safetensors, an exported file, plan.yaml, result.json, or their folder."
        ),
    ],
) -> Answer[_Found]:
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
    kinds: dict[str, Callable[[Path], _Found]] = {
        ".safetensors": _packed,
        ".yaml": _plan,
        ".json": _result,
        **{exporter.suffixes[0]: _exported for exporter in EXPORTERS.values()},
    }
    if file.suffix not in kinds:
        raise FormatError(f"{file}: subbyte writes files that end in {', '.join(kinds)}")
    return Answer(kinds[file.suffix](file))


def _packed(file: Path) -> PackedFile:
    with stage("read"):
        packed = read(file)
        stored = [
            layer
            for layer in packed.plan.layers
            if layer.spec and f"layers/{layer.name}/codes" in packed.tensors
        ]
        weights = [packed.weight(layer) for layer in stored]
        sizes = [_Size.of(weight) for weight in weights]
    console.print(plan_table(packed.plan))
    table = Table(title=f"{file}: {file.stat().st_size:,} bytes")
    table.add_column("layer")
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
    findings = packed.header.findings.sqnr_db
    for layer, weight, size in zip(stored, weights, sizes, strict=True):
        sqnr = findings.get(layer.name, inf)
        told = f"{sqnr:.1f}" if isfinite(sqnr) else "exact"
        table.add_row(layer.name, weight.grid.label, *size.cells(), told)
    if sizes:
        table.add_section()
        table.add_row("total", "", *_Size(*map(sum, zip(*sizes, strict=True))).cells(), "")
    console.print(table)
    for key, value in packed.header.about.items():
        console.print(f"{key}: {value}")
    layers = [
        PackedLayer(layer.name, weight.grid.label, *size, findings.get(layer.name))
        for layer, weight, size in zip(stored, weights, sizes, strict=True)
    ]
    return PackedFile(file.stat().st_size, packed.plan.to_dict(), layers, packed.header.about)


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


def _exported(file: Path) -> ExportedFile:
    """The file as its exporter sees it."""
    with stage("read"):
        held = contents(file)
    form = f", {held.form}" if held.form else ""
    table = Table(title=f"{file}: {file.stat().st_size:,} bytes{form}")
    for name in ("tensor", "type", "shape"):
        table.add_column(name)
    table.add_column("bytes", justify="right")
    for one in held.tensors:
        table.add_row(one.name, one.type, "x".join(map(str, one.shape)), f"{one.bytes:,}")
    console.print(table)
    if held.operations:
        counted = (f"{count} {name}" for name, count in held.operations.items())
        console.print(", ".join(counted))
    for key, text in held.about.items():
        console.print(f"{key}: {text}")
    changed = seal(file).broken
    if changed:
        console.print(f"{file} is not the file that was proven: it was changed since")
    return ExportedFile(file.stat().st_size, changed, held)


def _plan(file: Path) -> Plan:
    try:
        plan = Plan.read(file, run=False)
    except RecipeError as error:
        raise FormatError(
            f"{error}; it is no plan that subbyte wrote, or damaged; of other results `subbyte "
            f"report DIR` makes a page"
        ) from error
    console.print(plan_table(plan))
    return plan


def _result(file: Path) -> Result:
    result = read_document(file, Result)
    show(result, file.parent)
    return result
