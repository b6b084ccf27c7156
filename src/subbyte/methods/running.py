"""The contracts of what touches files and processes: exporters, and engines of sweeps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from subbyte.graph import Samples

from subbyte.records.outcome import Outcome


@dataclass(frozen=True)
class Parity:
    """The certificate of an exported file: its outputs beside those of the torch model.

    max_abs, mean_abs: differences of outputs; agreement: percent of equal top-1 classes; images:
    how many were compared.
    """

    max_abs: float
    mean_abs: float
    agreement: float
    images: int


@dataclass(frozen=True)
class Exported:
    """A file that an exporter wrote, and that its runtime has proved.

    exporter: its name; bytes: of all files that were written; notes: by layer or activation name,
    how the file holds it, where there is anything to say; opset: the one that the file needs, in
    formats that have them.
    """

    exporter: str
    path: Path
    bytes: int
    parity: Parity
    notes: Mapping[str, str] = field(default_factory=dict)
    opset: int | None = None


Runner = Callable[..., Any]
"""An exported file at work: the tensors that it takes, in order, to the tensor that it gives, or a
tuple of them; all on the CPU.
"""

ModelT = TypeVar("ModelT", contravariant=True)


class Exporter(Protocol[ModelT]):
    """Writes quantized networks as files for a runtime (`exporters.EXPORTERS`)."""

    @property
    def name(self) -> str:
        """The name as users write it, such as onnx-int8."""
        ...

    @property
    def runtime(self) -> str:
        """The runtime's name, as users know it."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the files that it writes; the first is that of the file that `runner` takes,
        the others lie beside it.
        """
        ...

    def export(
        self, model: ModelT, path: Path, inputs: Samples, *, min_agreement: float
    ) -> Exported:
        """Write `model` to `path`, run what was written in its runtime on `inputs` [n, ...], and
        only then return.

        Raises ParityError, and leaves what was at `path` as it is, when less than `min_agreement`
        percent of the top-1 classes are those of the torch model.
        """
        ...

    def runner(self, path: Path) -> Runner:
        """Run a file that `export` wrote. Raises FormatError when the runtime can't load it."""
        ...


TaskT = TypeVar("TaskT")


class Engine(Protocol[TaskT]):
    """A place to do the runs of a sweep."""

    def outcomes(self, tasks: Sequence[TaskT]) -> Iterator[tuple[TaskT, Outcome]]:
        """Do all tasks; yields each with its outcome, in whatever order they end.

        What a run raises is an outcome, too. Raises SubbyteError when no run can be done here.
        """
        ...
