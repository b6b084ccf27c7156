"""The record of a search for the best network: what was tried, what was chosen, and why."""

from pydantic import Field

from subbyte.records.base import Count, Percent, Record


class Trial(Record):
    """A network that was tried, judged on samples held apart.

    size: as it was asked for; rounding: the method; steps: of tuning, 0 for none; bytes: of weights
    and what else the network holds; drop: how much worse than the float network its figure is, low
    and high: the ends of the interval, None where they can't be told; distance: of the outputs from
    the float network's; holds: whether the upper end is within the drop that was allowed, None
    where none was stated; chosen: whether it is the result.
    """

    size: str
    rounding: str
    steps: Count = 0
    bytes: Count
    drop: float | None
    low: float | None = None
    high: float | None = None
    distance: float
    holds: bool | None = None
    chosen: bool = False

    @property
    def name(self) -> str:
        """Such as '60KB, adaround, tuned 300 steps'."""
        return f"{self.size}, {self.group}" + (f" {self.steps:,} steps" if self.steps else "")

    @property
    def group(self) -> str:
        """The way in which it was made, whatever its size: 'adaround', or 'adaround, tuned'."""
        return f"{self.rounding}, tuned" if self.steps else self.rounding


class Trials(Record):
    """A search.

    figure, unit: of which drops are, such as top-1 and %; samples: held apart to measure drops on,
    choosing: further ones, by whose distances roundings and tuning were chosen; confidence: percent
    with which all that was decided by drops is right, where a drop was allowed, or of each
    interval; max_drop: the drop that was allowed, None where the size was stated; trials: in their
    order, one of them chosen; left_out: what there was no time for, as trials are named.
    """

    figure: str
    unit: str = ""
    samples: Count
    choosing: Count
    confidence: Percent
    max_drop: float | None = None
    trials: list[Trial] = Field(min_length=1)
    left_out: list[str] = Field(default_factory=list)

    @property
    def chosen(self) -> Trial:
        """The result."""
        return next(trial for trial in self.trials if trial.chosen)

    @property
    def told(self) -> list[str]:
        """The choice, its reason, and what a larger size or more time would bring: sentences."""
        return [self._choice, self._reason, *self._larger, self._time, *self._left_out]

    def points(self, drop: float | None) -> str:
        """A drop in words."""
        if drop is None:
            return "unknown"
        unit = " points" if self.unit == "%" else f" {self.unit}" * bool(self.unit)
        return f"{drop:.2f}{unit}" if self.unit == "%" else f"{drop:.4g}{unit}"

    def below(self, drop: float | None) -> str:
        """A drop in words, as a place."""
        if drop is None:
            return "at an unknown place from float"
        return f"{self.points(abs(drop))} {'below' if drop >= 0 else 'above'} float"

    def interval(self, trial: Trial) -> str:
        """The ends of a drop's interval in words."""
        if trial.low is None:
            return "drop unknown"
        low = self.points(trial.low).partition(" ")[0]
        return f"drop from {low} to {self.points(trial.high)}"

    @property
    def _choice(self) -> str:
        one = self.chosen
        return (
            f"chosen: {one.name}: {one.bytes:,} bytes; its {self.figure} is {self.below(one.drop)} "
            f"({self.interval(one)}) on {self.samples:,} samples held apart"
        )

    @property
    def _reason(self) -> str:
        one = self.chosen
        if self.max_drop is None:
            others = [trial for trial in self.trials if trial.size == one.size and trial is not one]
            beaten = "; ".join(f"{trial.name}: {trial.distance:.4g}" for trial in others)
            return (
                f"why: its outputs are nearest to float's, at {one.distance:.4g} by the task's "
                f"distance on {self.choosing:,} other samples "
                f"({beaten or 'nothing else was tried'})"
            )
        promise = f"{self.points(self.max_drop)} at {self.confidence:g} % confidence"
        if not one.holds and self.left_out:
            return (
                f"NOT HELD: no network that there was time for is shown to lose at most {promise}; "
                f"give a longer --time, allow more, or hold more samples apart"
            )
        if not one.holds:
            return (
                f"NOT HELD: no network of these widths is shown to lose at most {promise}; this is "
                f"the largest; allow more, or hold more samples apart"
            )
        below = [t for t in self.trials if t.holds is False and t.bytes <= one.bytes]
        if not below:
            return f"why: the smallest there is; it loses at most {promise}"
        next_one = max(below, key=lambda trial: trial.bytes)
        return (
            f"why: the smallest that is shown to lose at most {promise}; {next_one.name}, "
            f"{next_one.bytes:,} bytes, may lose {self.points(next_one.high)}"
        )

    @property
    def _larger(self) -> list[str]:
        one = self.chosen
        above = [trial for trial in self.trials if trial.bytes > one.bytes]
        if not above:
            return []
        found = min(above, key=lambda trial: trial.bytes)
        return [
            f"larger: {found.name}, {found.bytes:,} bytes ({found.bytes / one.bytes - 1:+.0%}), is "
            f"{self.below(found.drop)}, its outputs at {found.distance:.4g} in place "
            f"of {one.distance:.4g}"
        ]

    @property
    def _left_out(self) -> list[str]:
        if not self.left_out:
            return []
        return [f"left out, as the time was over: {'; '.join(self.left_out)}"]

    @property
    def _time(self) -> str:
        tuned = [trial for trial in self.trials if trial.steps]
        if not tuned and self.left_out:
            return "more time: nothing was tuned; give a longer --time"
        if not tuned:
            return "more time: nothing was tuned; give --time, such as 5min"
        said = []
        for trial in tuned:
            like = (t for t in self.trials if t.size == trial.size and not t.steps)
            start = min(like, key=lambda t: t.distance)
            said.append(
                f"{trial.steps:,} steps brought {trial.size} from {start.distance:.4g} to "
                f"{trial.distance:.4g}, {self.points(start.drop)} to {self.points(trial.drop)}"
            )
        return f"more time: {'; '.join(said)}"
