"""The files that are measured: those given, the exports of result folders, the float network, and
what ONNX Runtime's own tool makes of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from subbyte.errors import FormatError, RecipeError, SubbyteError
from subbyte.exporters import is_exported
from subbyte.exporters.float_onnx import write_float, write_static
from subbyte.exporters.packed import read
from subbyte.exporters.sessions import inputs_of, made_up, open_session, output_sizes
from subbyte.graph import unwrapped
from subbyte.models import input_shape, new_model
from subbyte.records import RESULT, Result, read_result
from subbyte.records.speed import FLOAT

PACKED = "model.safetensors"
STATIC = "onnxruntime static"
RANDOM_WEIGHTS = "the float network has random weights, of which its speed does not depend"
_CALIBRATION = 8  # samples for ONNX Runtime's own tool


@dataclass(frozen=True)
class Subject:
    """A file to measure. name: in tables."""

    name: str
    path: Path

    @property
    def bytes(self) -> int:
        """The file's size, with the files of constants beside it."""
        beside = self.path.parent.glob(f"{self.path.name}.*")
        return self.path.stat().st_size + sum(one.stat().st_size for one in beside)


@dataclass
class Subjects:
    """The files of one comparison, the reference first; notes: what was left out, and why."""

    files: list[Subject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """The name of the file that the others are compared with."""
        return self.files[0].name


def gather(
    paths: Sequence[Path], place: Path, *, static: bool, sizes: Mapping[str, int]
) -> Subjects:
    """The files that `paths` name, with those that are made of them in the folder `place`.

    static: whether to let ONNX Runtime's own tool quantize the float network; sizes: of axes of
    inputs that may differ, by name.
    Raises FormatError for what is neither an exported file nor a folder of `subbyte quantize`,
    RecipeError when folders hold different networks.
    """
    if not paths:
        raise RecipeError("no file was given to measure")
    given = [one for path in paths for one in _given(path)]
    named = [Subject(name, path) for name, path in zip(_names(given), given, strict=True)]
    found = Subjects()
    folders = list(dict.fromkeys(path.parent for path in given if _is_result(path)))
    if folders:
        _add_float(found, folders, place)
    if found.files and static:
        _add_static(found, place, sizes)
    found.files += named
    if found.files[0].name != FLOAT and len(named) > 1:
        found.notes.append(f"compared with {found.reference}, the first file")
    return found


def _given(path: Path) -> Iterator[Path]:
    """The files that a path stands for."""
    if not path.is_dir():
        if not path.is_file():
            raise FormatError(f"{path}: no such file or folder")
        if not is_exported(path):
            raise FormatError(f"{path}: no exporter's files end like this")
        yield path
        return
    if not (path / RESULT).is_file():
        raise FormatError(
            f"{path} holds no {RESULT}; give a folder of `subbyte quantize`, or a file"
        )
    exports = read_result(path).exports
    if not exports:
        raise FormatError(f"{path} holds no exported file; quantize with --export NAME")
    for one in exports:
        if not (path / one.file).is_file():
            raise FormatError(f"{path / one.file}: no such file, though {RESULT} names it")
        yield path / one.file


def _is_result(path: Path) -> bool:
    """Whether a file is one that the result in its folder names."""
    if not (path.parent / RESULT).is_file():
        return False
    return path.name in {one.file for one in read_result(path.parent).exports}


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest tails of paths that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(path for k, path in enumerate(paths) if parts[k] in parts[:k])
        raise RecipeError(f"{twice} is given twice")
    length = 1
    while len({own[-length:] for own in parts}) < len(parts):
        length += 1
    return [str(Path(*own[-length:])) for own in parts]


def _add_float(found: Subjects, folders: Sequence[Path], place: Path) -> None:
    """The float network of result folders, built anew from its name."""
    results = [read_result(folder) for folder in folders]
    if len({(one.model, tuple(one.heads)) for one in results}) > 1:
        names = ", ".join(dict.fromkeys(one.model for one in results))
        raise RecipeError(f"files of one network can be compared, got those of {names}")
    path = place / f"{FLOAT}.onnx"
    try:
        rebuilt(folders[0], results[0], path)
    except SubbyteError as error:
        found.notes.append(f"the float network can't be compared: {error}")
        return
    found.notes.append(RANDOM_WEIGHTS)
    found.files.append(Subject(FLOAT, path))


def rebuilt(folder: Path, result: Result, path: Path) -> None:
    """Write the float network of a result folder as an ONNX file, with random weights.

    Raises SubbyteError when the network can't be built, or has no ONNX form.
    """
    signature = read(folder / PACKED).signature
    classes = None
    if input_shape(result.model) is not None:  # their number is said by weights alone
        exported = [folder / one.file for one in result.exports]
        ends = [output_sizes(one)[0][-1] for one in exported if one.suffix == path.suffix]
        classes = next((size for size in ends if isinstance(size, int)), None)
    network = unwrapped(new_model(result.model, classes, signature.image_shape))
    write_float(network, signature, result.heads, path)


def _add_static(found: Subjects, place: Path, sizes: Mapping[str, int]) -> None:
    """Add what ONNX Runtime's own tool makes of the float network."""
    source, path = found.files[0].path, place / "static.onnx"
    takes = inputs_of(open_session(source), source)
    samples = [made_up(takes, 1, sizes, seed) for seed in range(_CALIBRATION)]
    try:
        write_static(source, samples, path)
    except SubbyteError as error:
        found.notes.append(str(error))
        return
    found.files.append(Subject(STATIC, path))
    found.notes.append(
        f"{STATIC}: onnxruntime.quantization.quantize_static of the same float file, pairs "
        f"(QDQ), int8 weights by channel"
    )
