"""The record of a network that has learned from the float one after its walk."""

from typing import Any

from pydantic import Field

from subbyte.records.base import Count, Record
from subbyte.records.scores import Measured


class Judged(Record):
    """The distance from the float network's outputs after so many steps, on views of samples that
    were kept apart from those that it learned from; where it learned from labels, the loss.
    """

    step: Count
    distance: float


class Tuning(Record):
    """A network that has learned.

    method: with all settings; steps: that were planned; interrupted: whether it was stopped before
    the last; judged: the states on the way, the first that of the start; kept: the step whose state
    came back, 0 for the start; labels: whether it learned from them; before: the network at the
    start, judged on the test images.
    """

    method: dict[str, Any]
    steps: Count
    interrupted: bool = False
    judged: list[Judged] = Field(min_length=1)
    kept: Count
    labels: bool = False
    before: Measured

    @property
    def told(self) -> str:
        """The outcome in a sentence."""
        first, best = self.judged[0], next(one for one in self.judged if one.step == self.kept)
        stopped = f", stopped at step {self.judged[-1].step:,}" if self.interrupted else ""
        if self.labels:
            return (
                f"training: {self.steps:,} steps; loss {first.distance:.4g} to {best.distance:.4g}"
            )
        distances = f"distance {first.distance:.4g} to {best.distance:.4g} on samples kept apart"
        if not self.kept:
            return f"tuning: {self.steps:,} steps{stopped} brought nothing better than the start"
        return f"tuning: {self.steps:,} steps{stopped}; {distances}, at step {self.kept:,}"
