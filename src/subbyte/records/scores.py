"""Figures by which outputs are judged."""

from math import inf

from pydantic import Field

from subbyte.records.base import Count, Record


class Score(Record):
    """A figure by which outputs are judged.

    name, unit: such as top-1, %; the unit of a plain number is ''. higher: whether more is better;
    value: None where there was nothing to measure it on; error: one standard error, None where it
    is not known; head: number of the network's output.
    """

    name: str
    unit: str = ""
    higher: bool = True
    value: float | None
    error: float | None = None
    head: Count = 0

    def is_of(self, other: "Score") -> bool:
        """Whether it measures the same of the same output."""
        return (self.name, self.unit, self.head) == (other.name, other.unit, other.head)

    def above(self, other: "Score") -> float:
        """Its value less the other's; 0 where one is unknown."""
        return 0.0 if self.value is None or other.value is None else self.value - other.value

    @property
    def within(self) -> tuple[float, float]:
        """The least and the largest value that it can have."""
        return (0.0, 100.0) if self.unit == "%" else (-inf, inf)

    @property
    def merit(self) -> float:
        """A number that is larger where it is better."""
        if self.value is None:
            return -inf
        return self.value if self.higher else -self.value


class Measured(Record):
    """A network's outputs on the test images, judged.

    scores: by the data's targets, none where there are none; comparison: with the outputs of the
    float network, none for the float network itself.
    """

    scores: list[Score] = Field(default_factory=list)
    comparison: list[Score] = Field(default_factory=list)

    @property
    def headline(self) -> Score:
        """The figure that stands for all: the first score, or else the first comparison."""
        return (self.scores or self.comparison)[0]
