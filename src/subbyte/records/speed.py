"""Speed of files: the kernels that the runtime chose, and measured times, memory and sizes."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from subbyte.records.base import Count, Document, Percent, Record, Seconds, read_document

BENCH = "bench.json"
FLOAT = "float"
"""The float network's name among files."""


class Cost(StrEnum):
    """The kinds of findings, the costliest first."""

    FLOAT_LAYER = "layer in float"
    UNSIGNED = "unsigned weight"
    FLOAT_BETWEEN = "float between integers"
    TWICE = "quantized twice"
    PAD = "pad"


class Finding(Record):
    """Something in the runtime's graph that costs time.

    name: of the layer or activation quantizer, as the ledger has it, or of the node where it is of
    neither; node, operation: in the runtime's graph; reason: why it is so; advice: what to change.
    """

    cost: Cost
    name: str
    node: str
    operation: str
    reason: str
    advice: str

    @property
    def summary(self) -> str:
        """The finding in one sentence, without the advice."""
        return f"{self.name} ({self.operation}): {self.reason}"


class Kernels(Record):
    """The graph that the runtime made of a file.

    integers, floats, conversions: nodes that compute with integers, in float, and that turn one
    into the other; multiplications: of layers and products, for one sample, and how many of them
    are of integers; weights: bytes of the constants in the file; loaded: the same in the runtime's
    graph, where weights may be float again; activations: peak bytes of the values alive at a time,
    for one sample.
    """

    integers: Count
    floats: Count
    conversions: Count
    multiplications: Count
    integer_multiplications: Count
    weights: Count
    loaded: Count
    activations: Count
    findings: list[Finding] = Field(default_factory=list)

    @property
    def integer_percent(self) -> Percent:
        """Nodes that compute with integers, of all nodes."""
        nodes = self.integers + self.floats + self.conversions
        return 100 * self.integers / nodes if nodes else 0.0

    @property
    def multiplied_percent(self) -> Percent:
        """Multiplications of integers, of all."""
        whole = self.multiplications
        return 100 * self.integer_multiplications / whole if whole else 0.0

    @property
    def alike(self) -> list[list[Finding]]:
        """Findings of one kind and reason together, in their order."""
        found: dict[tuple[Cost, str], list[Finding]] = {}
        for one in self.findings:
            found.setdefault((one.cost, one.reason), []).append(one)
        return list(found.values())

    @property
    def quantizes(self) -> bool:
        """Whether values are quantized on the way; a file of quantized weights alone is float."""
        return self.integers + self.conversions > 0

    @property
    def summary(self) -> str:
        """The shares in one line."""
        told = (
            f"{self.integers} of {self.integers + self.floats + self.conversions} nodes and "
            f"{self.multiplied_percent:.1f} % of the multiplications are of integers"
        )
        counts = [
            f"{count} x {cost.value}"
            for cost in Cost
            if (count := sum(one.cost is cost for one in self.findings))
        ]
        return f"{told}; {', '.join(counts)}" if counts else told


class Ratio(Record):
    """Seconds of one file over those of another, in interleaved pairs of runs.

    low, high: the ends of the 95 % confidence interval of the median.
    """

    median: float
    low: float
    high: float
    pairs: Count

    @property
    def faster(self) -> str:
        """How many times as fast the first file is, in words."""
        return f"{1 / self.median:.2f} x ({1 / self.high:.2f} to {1 / self.low:.2f})"


class Timing(Record):
    """Seconds of one run of a file at one batch size: median, quartiles; against: ratios by name of
    the file that it was run in turns with.
    """

    batch: Count
    threads: Count
    seconds: Seconds
    quartiles: tuple[Seconds, Seconds]
    against: dict[str, Ratio] = Field(default_factory=dict)


class Resident(Record):
    """A process that loads a file and runs it once: seconds and CPU seconds to load, bytes of
    resident memory that loading added, and the most that were added at any time.
    """

    load: Seconds
    load_cpu: Seconds
    loaded: int
    peak: int


class NodeTime(Record):
    """A node of the runtime's graph; seconds: of one run, percent: of all nodes'."""

    node: str
    operation: str
    seconds: Seconds
    percent: Percent


class FileSpeed(Record):
    """One file as it was measured.

    name: in tables; file: its path; bytes: with what lies beside it; resident: None where it could
    not be measured; kernels: None where the runtime tells nothing of its graph; nodes: the slowest
    first, at the first batch size.
    """

    name: str
    file: str
    bytes: Count
    timings: list[Timing]
    resident: Resident | None = None
    kernels: Kernels | None = None
    nodes: list[NodeTime] = Field(default_factory=list)

    def timing(self, batch: int) -> Timing:
        """The times at a batch size. Raises KeyError when there are none."""
        return {one.batch: one for one in self.timings}[batch]


class Bench(Document):
    """Files measured against each other.

    reference: name of the file that the others are compared with; notes: what was left out, and
    why; versions: of the software.
    """

    VERSION: ClassVar[int] = 1
    WRITER: ClassVar[str] = "subbyte bench"

    reference: str
    threads: Count
    batches: list[int]
    files: list[FileSpeed] = Field(min_length=1)
    notes: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def compared(self) -> Sequence[str]:
        """Names of the files that others are compared with, the reference first."""
        found = [name for one in self.files for time in one.timings for name in time.against]
        return list(dict.fromkeys([self.reference, *found])) if found else []


def read_bench(path: Path) -> Bench:
    """The record in a file. Raises FormatError, naming it, when it is missing or damaged."""
    return read_document(path, Bench)
