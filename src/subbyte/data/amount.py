"""How many images are drawn: so many, or a share of those that there are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from subbyte.data.dataset import DataSet
from subbyte.io.numbers import Real, Whole

_PERCENT = Real(0, 100, above=True)


class Amount(ABC):
    """A number of images to draw from a data set."""

    @abstractmethod
    def of(self, data: DataSet) -> int:
        """The number for this data set, 1 or more; it may be more than there are."""

    @staticmethod
    def read(text: str) -> "Amount":
        """The amount that a text such as 500 or 1% says. Raises RecipeError for another."""
        if text.endswith("%"):
            return Percent(_PERCENT.read(text.removesuffix("%").strip()))
        return Images(Whole(1).read(text))


@dataclass(frozen=True)
class Images(Amount):
    """So many."""

    count: int

    def of(self, data: DataSet) -> int:
        """See `Amount`."""
        return self.count

    def __str__(self) -> str:
        return str(self.count)


@dataclass(frozen=True)
class Percent(Amount):
    """A share of those that images are drawn from, in percent."""

    percent: float

    def of(self, data: DataSet) -> int:
        """See `Amount`; rounded to a whole number."""
        return max(1, round(self.percent / 100 * len(data.drawn_from)))

    def __str__(self) -> str:
        return f"{self.percent:g}%"
