"""The outcome of one run of a sweep, runs/HASH.json: measurements, or why there are none."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from subbyte.errors import FormatError
from subbyte.io.texts import parse_json, read_text
from subbyte.records.base import Count, Percent, Record, Seconds, first_error

TOP1 = "top-1 accuracy"


def name_of(scored: str) -> str:
    """A score's name as it stands behind a percentage."""
    return "top-1" if scored == TOP1 else scored


class Metrics(Record):
    """The measurements of a run; the names of GPFQ's log among them. Seconds are the only ones that
    differ by machine.

    Top-1 and top-5 are there where labels tell of classes; else settings are compared by a score,
    `Done.score`. output_error: relative, against the float network.
    """

    images: Count
    original_top1_percent: Percent | None = None
    quantized_top1_percent: Percent | None = None
    original_top5_percent: Percent | None = None
    quantized_top5_percent: Percent | None = None
    agreement_percent: Percent | None = None
    original_score_percent: Percent | None = None
    quantized_score_percent: Percent | None = None
    output_error: float | None = None
    original_sparsity_percent: Percent
    quantized_sparsity_percent: Percent
    bits_per_weight: float
    packed_bytes: Count
    capture_seconds: Seconds
    walk_seconds: Seconds
    evaluate_seconds: Seconds

    @property
    def numbers(self) -> dict[str, float]:
        """Those that were measured, by name."""
        return self.model_dump(include=set(METRICS), exclude_none=True)

    @property
    def headline(self) -> Percent:
        """The number that settings are compared by."""
        found = (self.quantized_top1_percent, self.quantized_score_percent)
        return next(number for number in found if number is not None)

    @model_validator(mode="after")
    def _compared(self) -> "Metrics":
        if self.quantized_top1_percent is None and self.quantized_score_percent is None:
            raise ValueError("neither top-1 nor a score is there")
        return self


METRICS = tuple(Metrics.model_fields)
UNCOMPARED = ("images", "capture_seconds", "walk_seconds", "evaluate_seconds")
"""Metrics that settings are not compared by."""


class Done(Metrics):
    """A run that ended well. score: the name of the score that settings are compared by."""

    status: Literal["done"] = "done"
    score: str = TOP1


class Failed(Record):
    """A run that could not be done. error: why."""

    status: Literal["failed"] = "failed"
    error: str


Outcome = Done | Failed
"""The outcome of a run of a sweep."""
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Annotated[Outcome, Field(discriminator="status")])


def read_outcome(path: Path) -> Outcome:
    """Read the outcome of a run. Raises FormatError when its file is damaged."""
    try:
        return _OUTCOME.validate_python(parse_json(read_text(path), "its text"))
    except (FormatError, ValidationError) as error:
        why = first_error(error) if isinstance(error, ValidationError) else error
        raise FormatError(
            f"{path} is damaged ({why}); delete it, and the run is done again"
        ) from error
