"""Files and runtimes: packed safetensors, and what `EXPORTERS` lists.

To add an exporter, write one file with a `methods.Exporter` in it, and name it in `EXPORTERS`: the
command line, results and reports loop over them.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, RecipeError
from subbyte.exporters.onnx import Onnx
from subbyte.exporters.parity import check_samples
from subbyte.exporters.storage import INT2, INT4, INT8, UINT8, Container
from subbyte.graph import Inputs, Samples
from subbyte.methods import Exported, Exporter, Runner

__all__ = [
    "EXPORTERS",
    "check_exporters",
    "choose_exporters",
    "export",
    "exporter_of",
    "find_exporter",
    "is_exported",
    "runner",
]

_INTEGERS = Onnx(Container("int8", (INT8, UINT8)))
_SMALL = Onnx(Container("compact", (INT2, INT4, INT8, UINT8)))
EXPORTERS: dict[str, Exporter[QuantizedModel]] = {
    exporter.name: exporter for exporter in (_INTEGERS, _SMALL)
}
NOTHING = "none"
"""Stands for no exporter where users name them."""


def export(
    model: QuantizedModel,
    path: str | Path,
    inputs: Tensor | Inputs | Samples,
    *,
    to: str | None = None,
    force: bool = False,
) -> Exported:
    """Write `model` as a file for a runtime, and prove that the runtime computes what the torch
    model computes.

    inputs: n samples to compare both on (the calibration images will do). to: an exporter's
    name; by default onnx-int8 for integer kernels when activations are quantized, else
    onnx-compact.
    Raises ParityError when there is nothing to compare on, or an output differs by more than
    rounding makes it (`exporters.parity`; no file is left), FormatError when `path` exists and
    `force` is not set, or does not end as the exporter's files do, RecipeError when there is no
    such exporter.
    """
    exporter, path = find_exporter(to or default_exporter(model)), Path(path)
    if path.suffix != exporter.suffixes[0]:
        raise FormatError(f"{path}: {exporter.name} writes {exporter.suffixes[0]} files")
    if path.exists() and not force:
        raise FormatError(f"{path} exists; choose another name or pass force=True")
    samples = check_samples(model, inputs)
    return exporter.export(model, path, samples)


def runner(path: str | Path) -> Runner:
    """A function that runs an exported file in its runtime: from the tensors that it takes, in
    order, to the tensor that it gives, or a tuple of them.

    The runtime is known by the file's ending. Raises FormatError when no exporter's files end like
    this, or the runtime can't load it.
    """
    return exporter_of(path).runner(Path(path))


def exporter_of(path: str | Path) -> Exporter[QuantizedModel]:
    """The exporter whose runtime takes a file. Raises FormatError when no exporter's files end like
    this.
    """
    for exporter in EXPORTERS.values():
        if Path(path).suffix == exporter.suffixes[0]:
            return exporter
    known = ", ".join(dict.fromkeys(one.suffixes[0] for one in EXPORTERS.values()))
    raise FormatError(f"{path}: no runtime is known for such a file; exported files end in {known}")


def is_exported(path: str | Path) -> bool:
    """Whether a file's name ends as those that exporters write."""
    return any(Path(path).suffix == exporter.suffixes[0] for exporter in EXPORTERS.values())


def find_exporter(name: str) -> Exporter[QuantizedModel]:
    """The exporter of this name. Raises RecipeError when there is none."""
    if name not in EXPORTERS:
        raise RecipeError(f"unknown exporter {name!r}; known: {', '.join(EXPORTERS)}")
    return EXPORTERS[name]


def default_exporter(model: QuantizedModel) -> str:
    """The exporter for a network whose user names none."""
    return (_INTEGERS if model.plan.taps else _SMALL).name


def check_exporters(names: Sequence[str]) -> None:
    """Raise RecipeError unless these are names of exporters, each once, or 'none' alone."""
    if NOTHING in names and len(names) > 1:
        raise RecipeError(f"{NOTHING} goes with no other exporter, got {', '.join(names)}")
    if len(set(names)) < len(names):
        raise RecipeError(f"an exporter is named twice: {', '.join(names)}")
    for name in set(names) - {NOTHING}:
        find_exporter(name)


def choose_exporters(names: Sequence[str], model: QuantizedModel) -> list[Exporter[QuantizedModel]]:
    """The exporters that a user names: that of the model by default, none for 'none'."""
    wanted = names or [default_exporter(model)]
    return [find_exporter(name) for name in wanted if name != NOTHING]
