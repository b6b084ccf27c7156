"""Contents of result.json, which `subbyte quantize` writes: scores, sizes, and a ledger of layers
and activation tensors.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from subbyte.io.texts import read_text
from subbyte.records.base import Count, Document, Percent, Record, Seconds, Word, read_document
from subbyte.records.parity import Parity
from subbyte.records.scores import Measured
from subbyte.records.speed import FLOAT, Kernels, Ratio, Timing
from subbyte.records.trials import Trials
from subbyte.records.tuning import Tuning

RESULT, PLAN = "result.json", "plan.yaml"
_SPEED, _FLOAT = "speed", "float"  # the plain form of a file


class Exported(Measured):
    """A file that an exporter wrote. Its outputs are compared with those of the torch model.

    name: of the exporter; file: in the folder of the result; bytes: of the file; holds: of the
    numbers alone, as its format has types for them, 0 where the exporter does not say; opset: None
    where the format has none; kernels: what the runtime made of it, None where it does not tell;
    timing: against the float network, None where it was not measured; optimize: what the file is
    best at; input: float, or uint8 where it takes pixels; batch: samples of every call, None for
    any; digest: that the file states, "" where its format has no place for one; usage: lines of
    Python that run it, "" where it is not run from Python.
    """

    name: str
    file: str
    bytes: Count
    holds: Count = 0
    opset: int | None = None
    parity: Parity
    kernels: Kernels | None = None
    timing: Timing | None = None
    optimize: str = _SPEED
    input: str = _FLOAT
    batch: int | None = None
    digest: str = ""
    usage: str = ""

    @property
    def form(self) -> str:
        """Its form in words, "" for the plain one."""
        told = [f"for {self.optimize}"] if self.optimize != _SPEED else []
        told += [f"takes {self.input} images"] if self.input != _FLOAT else []
        told += [] if self.batch is None else [f"batches of {self.batch}, sizes fixed"]
        return ", ".join(told)

    @property
    def speed(self) -> Ratio | None:
        """Its seconds over those of the float network; None where they were not measured."""
        return None if self.timing is None else self.timing.against[FLOAT]


class Sizes(Record):
    """Bytes of the float network's tensors; packed: of the quantized network's, that is codes,
    scales, zero points, biases and what stays float; file: of the packed file.
    """

    float: Count
    packed: Count
    file: Count


class LedgerEntry(Record):
    """The outcome for a layer's weight, or for an activation tensor.

    asked, bits: a number, or a word such as 'ternary' and 'float'; reason: why they differ or what
    else to know; bytes: of codes, scales and zero points; sqnr_db: of the layer's output or the
    tensor's value against the float network, None where there is no difference or it was not
    measured; zeros: percent of a layer's weights that are exactly 0; multiplications: for one
    image; integer: whether both factors of them are on grids; exports: how an exporter's file holds
    it, by the exporter's name.
    """

    name: str
    asked: str
    bits: Word
    reason: str = ""
    bytes: Count
    sqnr_db: float | None = None
    zeros: Percent | None = None
    multiplications: Count = 0
    integer: bool = False
    exports: dict[str, str] = Field(default_factory=dict)

    @property
    def notes(self) -> str:
        """The reason, and how exported files hold it, as one line; exporters are named where their
        files differ.
        """
        alike = len(set(self.exports.values())) == 1
        held = [note if alike else f"{name}: {note}" for name, note in self.exports.items()]
        return "; ".join(filter(None, dict.fromkeys((self.reason, *held))))


class Target(Record):
    """A target whose rules the plan obeys. Nothing was run on it: structure alone was checked.

    misses: what it does not take of an exported file, by the exporter's name, in words.
    """

    name: str
    about: str
    misses: dict[str, list[str]] = Field(default_factory=dict)

    @property
    def told(self) -> str:
        """The check in a sentence or two."""
        sentences = [
            f"The plan obeys the rules of {self.name}; this was checked by structure alone, "
            f"nothing was run on such a device."
        ]
        for exporter, found in self.misses.items():
            sentences.append(f"It does not take {exporter} as it is: {'; '.join(found)}.")
        return " ".join(sentences)


class Option(Record):
    """A layer in one width, as a budget weighs it.

    bytes: of its codes, scales and zero points; bops: bit-operations an image; divergence: relative
    square error of the network's output; chosen: whether it was taken, by all or some of its output
    channels; rows: how many of them.
    """

    layer: str
    width: str
    bytes: Count
    bops: float = 0.0
    divergence: float
    chosen: bool = False
    rows: Count = 0


class Effect(Record):
    """The effect of a layer's weight, or of an activation quantizer, by itself: of the network with
    nothing else quantized.

    feeds: layers that multiply the quantizer's value; bits: in which it is, in words; width: whole
    bits that hold a code, or their mean over channels; more_bytes: what 8 bits would take beyond
    what it takes, 0 for activations; error: relative square error of the network's output, None
    where that is not finite; images: that were looked at.
    """

    name: str
    kind: Literal["weight", "activation"]
    feeds: list[str] = Field(default_factory=list)
    bits: Word
    width: float
    more_bytes: Count = 0
    error: float | None
    images: Count


class Skipped(Record):
    """A tensor that stays float, and why. bytes: of its numbers."""

    name: str
    reason: str
    bytes: Count = 0


Real = float  # inside `Result`, `float` is the float network


class Result(Document):
    """One network, quantized and measured.

    data_path: the data as they were named, for commands that read them again; task: how outputs are
    judged; heads: names of the network's outputs; calibration, images: how many of each;
    not_exported: reasons by exporter; not_timed: why speed was not measured though it was asked
    for; bits_per_weight: with scales and zero points;
    zeros_percent: of the quantized weights; seconds: by stage; fold_error: relative difference that
    folding batch-norms made; target: what the network is for, where that was said; tuning: what the
    network learned after its walk, where it did; trials: what was tried, where the best network was
    searched for; settings: of the recipe, as it takes them; about:
    weights, data and whatever else tells this result from others; versions: of the software.
    """

    VERSION: ClassVar[int] = 4
    WRITER: ClassVar[str] = "subbyte quantize"

    model: str
    data: str
    data_path: str = ""
    recipe: str
    task: str
    heads: list[str] = Field(min_length=1)
    seed: int
    calibration: Count
    images: Count
    float: Measured
    quantized: Measured
    exports: list[Exported] = Field(default_factory=list)
    not_exported: dict[str, str] = Field(default_factory=dict)
    not_timed: str = ""
    bits_per_weight: Real
    zeros_percent: Percent | None = None
    bytes: Sizes
    options: list[Option] = Field(default_factory=list)
    effects: list[Effect] = Field(default_factory=list)
    seconds: dict[str, Seconds] = Field(default_factory=dict)
    fold_error: Real | None = None
    layers: list[LedgerEntry] = Field(min_length=1)
    products: list[LedgerEntry] = Field(default_factory=list)
    activations: list[LedgerEntry] = Field(default_factory=list)
    skipped: list[Skipped] = Field(default_factory=list)
    target: Target | None = None
    tuning: Tuning | None = None
    trials: Trials | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    about: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _judged(self) -> "Result":
        """There is at least one figure, every network has the same, and outputs have names."""
        if not self.quantized.comparison or (not self.float.scores) != (not self.quantized.scores):
            raise ValueError("figures of the float or the quantized network are missing")
        if not all(one.comparison for one in self.exports):
            raise ValueError("exports: figures of a file beside the torch model are missing")
        for one in (self.float, self.quantized, *self.exports):
            for score in (*one.scores, *one.comparison):
                if score.head >= len(self.heads):
                    raise ValueError(
                        f"output {score.head} has no name: there are {len(self.heads)}"
                    )
        return self

    @property
    def gained(self) -> Real:
        """The quantized network's first score less the float one's; 0 without scores."""
        before, after = self.float.scores, self.quantized.scores
        return after[0].above(before[0]) if before and after else 0.0


def read_result(folder: Path) -> Result:
    """The result in a folder. Raises FormatError, naming the file, when it is missing, damaged or
    of another version.
    """
    return read_document(folder / RESULT, Result)


def read_plan(folder: Path) -> str | None:
    """The text of plan.yaml; None where there is none. Raises FormatError when it can't be read."""
    path = folder / PLAN
    return read_text(path) if path.exists() else None
