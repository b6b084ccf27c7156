"""Files and runtimes: packed safetensors, and what `EXPORTERS` lists.

To add an exporter, write one file with a `methods.Exporter` in it, and name it in `EXPORTERS`: the
command line, results and reports loop over them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError, RecipeError, SubbyteError
from subbyte.exporters.executorch import ExecuTorch
from subbyte.exporters.facts import form_in
from subbyte.exporters.feeding import check_inputs, fed
from subbyte.exporters.forms import check_form, find_form, settled
from subbyte.exporters.litert import LiteRT
from subbyte.exporters.onnx import Onnx
from subbyte.exporters.openvino import OpenVino
from subbyte.exporters.parity import check_samples
from subbyte.exporters.storage import BYTES, INT2, INT4, WORDS, Container
from subbyte.exporters.torch_program import TorchProgram
from subbyte.graph import Inputs, Samples
from subbyte.io.files import check_name
from subbyte.io.folders import owned
from subbyte.methods import Contents, Exported, Exporter, Form, InputType, Optimize, Runner, Seal
from subbyte.recipe import Plan
from subbyte.records import About

__all__ = [
    "EXPORTERS",
    "check_exporters",
    "check_free",
    "check_suffix",
    "choose_exporters",
    "contents",
    "default_exporter",
    "export",
    "export_in",
    "exporter_of",
    "find_exporter",
    "form_of",
    "is_exported",
    "network_runner",
    "runner",
    "seal",
]

_INTEGERS = Onnx(Container("int8", (*BYTES, *WORDS)))
_SMALL = Onnx(Container("compact", (INT2, INT4, *BYTES, *WORDS)))
EXPORTERS: dict[str, Exporter[QuantizedModel, Plan]] = {
    exporter.name: exporter
    for exporter in (_INTEGERS, _SMALL, OpenVino(), TorchProgram(), ExecuTorch(), LiteRT())
}
NOTHING_KNOWN, PLAIN = About(), Form()
NOTHING = "none"
"""Stands for no exporter where users name them."""


def export(
    model: QuantizedModel,
    path: str | Path,
    inputs: Tensor | Inputs | Samples,
    *,
    to: str | None = None,
    optimize: str = Optimize.SPEED,
    input: str = InputType.FLOAT,
    static: int | None = None,
    about: About = NOTHING_KNOWN,
    force: bool = False,
) -> Exported:
    """Write `model` as a file for a runtime, and prove that the runtime computes what the torch
    model computes.

    inputs: n samples to compare both on (the calibration images will do). to: an exporter's
    name; by default onnx-int8 for integer kernels when activations are quantized, else
    onnx-compact. optimize: speed on the processors of most users, size (few-bit weights stay packed
    in memory), or exact (also where kernels add in saturating int16; see `Parity.saturating`).
    input: uint8 for a file that takes pixels 0 to 255 and makes inputs of them itself, as
    `about.preprocessing` says. static: samples of every call, for accelerators that take fixed
    sizes alone; targets that want those get files for one sample. about: what the file states of
    preprocessing and classes.
    Raises ParityError when there is nothing to compare on, or an output differs by more than
    rounding makes it (`exporters.parity`; no file is left), FormatError when `path` exists and
    `force` is not set, or does not end as the exporter's files do, RecipeError when there is no
    such exporter, its runtime is not installed, or it refuses the network.
    """
    form = find_form(optimize, input, static, about)
    return export_in(form, model, path, inputs, to=to, force=force)


def export_in(
    form: Form,
    model: QuantizedModel,
    path: str | Path,
    inputs: Tensor | Inputs | Samples,
    *,
    to: str | None = None,
    force: bool = False,
) -> Exported:
    """`export` in a form."""
    exporter, path = find_exporter(to or default_exporter(model.plan)), Path(path)
    form = settled(form, exporter, model.plan)
    _check_plan(exporter, model.plan)
    check_suffix(exporter, path)
    check_name(path)
    with owned(path):
        check_free(exporter, path, force)
        samples = check_samples(model, inputs)
        check_inputs(form, model.signature, samples)
        return exporter.export(model, path, samples, form)


def check_suffix(exporter: Exporter[QuantizedModel, Plan], path: Path) -> None:
    """Raise FormatError where a name does not end as an exporter's files do."""
    ending = exporter.suffixes[0]
    if path.suffix != ending:
        raise FormatError(
            f"{path}: {exporter.name} writes {ending} files; name it {path.stem}{ending}"
        )


def check_free(exporter: Exporter[QuantizedModel, Plan], path: Path, force: bool) -> None:
    """Raise FormatError where a file is in the way of those that an exporter writes."""
    there = [file for file in exporter.files(path) if file.exists()]
    if there and not force:
        raise FormatError(f"{there[0]} exists; choose another name or pass force=True")


def runner(path: str | Path) -> Runner:
    """A function that runs an exported file in its runtime: from the tensors that it takes, in
    order, to the tensor that it gives, or a tuple of them.

    The runtime is known by the file's ending. Raises FormatError when no exporter's files end like
    this, or the runtime can't load it, RecipeError where the runtime is not installed.
    """
    exporter = exporter_of(path)
    exporter.require()
    return exporter.runner(Path(path))


def network_runner(path: str | Path) -> Runner:
    """A function that runs an exported file on what its network takes, whatever the file takes: it
    makes pixels of images, and batches of the file's size. Raises as `runner`.
    """
    return fed(runner(path), form_of(path))


def form_of(path: str | Path) -> Form:
    """The form of a file, as the file states it; that of a file that is not ours is the plain one.

    Raises FormatError when no exporter's files end like this.
    """
    exporter_of(path)
    try:
        stated = contents(path).about
    except FormatError:
        return Form()
    try:
        return form_in(stated)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def seal(path: str | Path) -> Seal:
    """Whether an exported file is the one that was proven. Raises FormatError where it can't be
    read.
    """
    with _foreign(path):
        return exporter_of(path).seal(Path(path))


def exporter_of(path: str | Path) -> Exporter[QuantizedModel, Plan]:
    """The exporter whose runtime takes a file. Raises FormatError when no exporter's files end like
    this.
    """
    for exporter in EXPORTERS.values():
        if _takes(exporter, path):
            return exporter
    known = ", ".join(dict.fromkeys(one.suffixes[0] for one in EXPORTERS.values()))
    raise FormatError(f"{path}: no runtime is known for such a file; exported files end in {known}")


def contents(path: str | Path) -> Contents:
    """The contents of an exported file, as the exporter that wrote it says.

    Raises FormatError when no exporter's files end like this, or none of these wrote it.
    """
    able = [one for one in EXPORTERS.values() if _takes(one, path)] or [exporter_of(path)]
    for exporter in able[:-1]:
        with suppress(FormatError), _foreign(path):
            return exporter.contents(Path(path))
    with _foreign(path):
        return able[-1].contents(Path(path))


@contextmanager
def _foreign(path: str | Path) -> Iterator[None]:
    """Within, readers of other people's formats may raise what they like of a damaged file."""
    try:
        yield
    except SubbyteError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FormatError(f"{path}: not a whole file of its format ({why})") from error


def is_exported(path: str | Path) -> bool:
    """Whether a file's name ends as those that exporters write."""
    return any(_takes(exporter, path) for exporter in EXPORTERS.values())


def _takes(exporter: Exporter[QuantizedModel, Plan], path: str | Path) -> bool:
    return Path(path).suffix == exporter.suffixes[0]


def _check_plan(exporter: Exporter[QuantizedModel, Plan], plan: Plan) -> None:
    """Raise RecipeError where an exporter can't write a network with this plan, or its runtime is
    not installed.
    """
    exporter.require()
    reason = exporter.refusal(plan)
    if reason is not None:
        raise RecipeError(f"exporter {exporter.name}: {reason}")


def find_exporter(name: str) -> Exporter[QuantizedModel, Plan]:
    """The exporter of this name. Raises RecipeError when there is none."""
    if name not in EXPORTERS:
        raise RecipeError(f"unknown exporter {name!r}; known: {', '.join(EXPORTERS)}")
    return EXPORTERS[name]


def default_exporter(plan: Plan) -> str:
    """The exporter for a network whose user names none."""
    return (_INTEGERS if plan.taps else _SMALL).name


def check_exporters(names: Sequence[str]) -> None:
    """Raise RecipeError unless these are names of exporters whose runtimes are installed, each
    once, or 'none' alone.
    """
    if NOTHING in names and len(names) > 1:
        raise RecipeError(f"{NOTHING} goes with no other exporter, got {', '.join(names)}")
    if len(set(names)) < len(names):
        raise RecipeError(f"an exporter is named twice: {', '.join(names)}")
    for name in set(names) - {NOTHING}:
        find_exporter(name).require()


def choose_exporters(
    names: Sequence[str], plan: Plan, form: Form = PLAIN
) -> list[Exporter[QuantizedModel, Plan]]:
    """The exporters that a user names: that of the plan by default, none for 'none'.

    Raises RecipeError for other names, and where one of them can't write a network with the plan
    in a form, or its runtime is not installed.
    """
    check_exporters(names)
    wanted = names or [default_exporter(plan)]
    chosen = [find_exporter(name) for name in wanted if name != NOTHING]
    for exporter in chosen:
        _check_plan(exporter, plan)
        check_form(exporter, form)
    return chosen
