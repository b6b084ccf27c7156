"""The contracts of what touches files and processes: exporters, and engines of sweeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from subbyte.errors import RecipeError
from subbyte.graph import Samples
from subbyte.methods.refusal import Refusing
from subbyte.records.about import About
from subbyte.records.outcome import Outcome
from subbyte.records.parity import Parity
from subbyte.records.speed import Kernels


class Optimize(StrEnum):
    """The good that an exported file is best at, where a runtime makes one choose.

    speed: on the processors that most of its users have. size: in memory, too: few-bit weights stay
    packed until they are used. exact: on every processor, to the bit, whatever its kernels can't
    add.
    """

    SPEED = "speed"
    SIZE = "size"
    EXACT = "exact"


class InputType(StrEnum):
    """The numbers that a file takes. float: those that the network takes; uint8: pixels of images
    as they are stored, from 0 to 255.
    """

    FLOAT = "float"
    UINT8 = "uint8"


@dataclass(frozen=True)
class Form:
    """The form of an exported file, where a user may choose.

    input: uint8 for pixels, which the file itself makes inputs of, as `about` says; batch: how many
    samples every call has, of fixed sizes; None: any number; about: what the file states.
    """

    optimize: Optimize = Optimize.SPEED
    input: InputType = InputType.FLOAT
    batch: int | None = None
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class Exported:
    """A file that an exporter wrote, and that its runtime has proved.

    exporter: its name; bytes: of all files that were written; notes: by layer or activation name,
    how the file holds it, where there is anything to say; opset: the one that the file needs, in
    formats that have them; kernels: what the runtime made of the file, None where it does not tell;
    holds: bytes of the numbers alone, as its format has types for them, 0 where the exporter does
    not say; form: that the file has; digest: that it states (`Exporter.seal`), "" for none.
    """

    exporter: str
    path: Path
    bytes: int
    parity: Parity
    notes: Mapping[str, str] = field(default_factory=dict)
    opset: int | None = None
    kernels: Kernels | None = None
    holds: int = 0
    form: Form = field(default_factory=Form)
    digest: str = ""


Runner = Callable[..., Any]
"""An exported file at work: the tensors that it takes, in order, to the tensor that it gives, or a
tuple of them; all on the CPU.
"""


@dataclass(frozen=True)
class Seal:
    """The mark by which a file is known as the one that was proven. stated: the sha256 that was put
    into it then, "" where there is none; found: that of what it holds now.
    """

    stated: str = ""
    found: str = ""

    @property
    def broken(self) -> bool:
        """Whether the file was changed since it was proven."""
        return bool(self.stated) and self.stated != self.found


@dataclass(frozen=True)
class Stored:
    """A tensor in a file. type: as the format calls it; bytes: that it takes there."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Contents:
    """The contents of an exported file, for people.

    form: the version of its format, "" where there is nothing to say; tensors: those worth a row;
    operations: how many there are of each, by name; about: whatever else it states, by name.
    """

    form: str = ""
    tensors: Sequence[Stored] = ()
    operations: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


ModelT = TypeVar("ModelT", contravariant=True)
PlanT = TypeVar("PlanT", contravariant=True)


class Exporter(Refusing[PlanT], ABC, Generic[ModelT, PlanT]):
    """Writes quantized networks as files for a runtime (`exporters.EXPORTERS`).

    refuses: plans of networks that it can't write, which the command line says before the walk.
    package: the module of its runtime, "" where there is none to import; extra: the extra of this
    package that brings the runtime, "" where it comes along; optimizes: what its files can be best
    at; takes: the numbers that they can take; fixes: whether they can be made for batches of one
    size; usage: lines of Python that load the file FILE and compute `outputs` of `inputs`, a list
    of arrays or tensors in the network's order; "" where it is not run from Python.
    """

    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    optimizes: ClassVar[tuple[Optimize, ...]] = (Optimize.SPEED,)
    takes: ClassVar[tuple[InputType, ...]] = (InputType.FLOAT,)
    fixes: ClassVar[bool] = False
    usage: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name as users write it, such as onnx-int8."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """The runtime's name, as users know it."""

    @property
    @abstractmethod
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the files that it writes; the first is that of the file that `runner` takes,
        the others lie beside it, under the same name, where there is need of them.
        """

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files that `export` may write where it is told `path`, which is the first."""
        return tuple(path.with_suffix(suffix) for suffix in self.suffixes)

    def require(self) -> None:
        """Raise RecipeError, saying what to install, where its runtime is missing."""
        if self.package and find_spec(self.package) is None:
            raise RecipeError(
                f"exporter {self.name} needs {self.runtime}, which is not installed: pip install "
                f"'subbyte[{self.extra}]'"
            )

    @abstractmethod
    def export(self, model: ModelT, path: Path, inputs: Samples, form: Form) -> Exported:
        """Write `model` to `path` in a form, run what was written in its runtime on `inputs` [n,
        ...], and only then return.

        All its files are written, or none. Raises ParityError, and leaves what was at `path` as it
        is, when the runtime does not compute what the torch model computes; RecipeError as
        `require`.
        """

    @abstractmethod
    def runner(self, path: Path) -> Runner:
        """Run a file that `export` wrote. Raises FormatError when the runtime can't load it."""

    @abstractmethod
    def contents(self, path: Path) -> Contents:
        """Read what `subbyte inspect` shows of a file that `export` wrote.

        Raises FormatError when it is none.
        """

    def seal(self, path: Path) -> Seal:
        """The digest that a file states, and that of what it holds: graph, numbers and what it says
        of itself. Raises FormatError when it can't be read.
        """
        return Seal()


TaskT = TypeVar("TaskT")


class Engine(Protocol[TaskT]):
    """A place to do the runs of a sweep."""

    def outcomes(self, tasks: Sequence[TaskT]) -> Iterator[tuple[TaskT, Outcome]]:
        """Do all tasks; yields each with its outcome, in whatever order they end.

        What a run raises is an outcome, too. Raises SubbyteError when no run can be done here.
        """
        ...
