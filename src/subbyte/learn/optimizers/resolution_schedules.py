"""When the resolution rises: the index h over a run; steps of the lattice are 1 / Qp, Qp = eta b^h.

    fixed      h = h_0
    table      h = the value beside the last step number that is not above t
    annealing  h >= 1/2 log2(n ln(t + 2) / (24 eta^2 C)) - beta / (t + 2)       (Seok, Kim 2021: the
               lower bound under which the noise 1 / (24 Qp^2) cools no faster than C / ln(t + 2))
    epochs     h = h_0 + floor(log_b ln(t / B + 2)), B: steps an epoch           (the form of 2023)
    on-stall   h rises by 1 when at most a share of the update's codes is not 0, of all tensors
               together or of each; measured at each of the first `window` steps and at every
               `window`-th from there; updates that are 0 before rounding do not count

The index never falls, and never exceeds the cap. The first four depend on time alone. The published
on-stall rule tests whether the codes sum to 0, which the gradients of a softmax's bias do by
themselves, so that the resolution runs away (`qsgd-2021` has it); this one counts.
"""

from dataclasses import dataclass, replace
from math import ceil, floor, log, log2
from typing import Annotated, Literal

from subbyte.errors import RecipeError
from subbyte.io.numbers import Count, Natural, NotNegative, Positive, Real
from subbyte.io.registry import Method, Registry
from subbyte.methods import ResolutionSchedule


@dataclass(frozen=True)
class Fixed(ResolutionSchedule):
    """The same resolution from beginning to end."""

    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """See `ResolutionSchedule`."""
        return start


@dataclass(frozen=True)
class Table(ResolutionSchedule):
    """The index rises at given steps: at[k] steps into the run it has risen by k + 1."""

    at: tuple[Natural, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.at or list(self.at) != sorted(set(self.at)):
            raise RecipeError(
                f"table: 'at' must be step numbers in rising order, one or more, got "
                f"{list(self.at)}"
            )

    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """See `ResolutionSchedule`."""
        return start + sum(step >= change for change in self.at)


@dataclass(frozen=True)
class Annealing(ResolutionSchedule):
    """The annealing bound, rounded up; `temperature` is C, `speed` beta, `dimension` n."""

    temperature: Positive = 1e-6
    speed: NotNegative = 20.0
    dimension: Count = 1

    def bound(self, step: int, eta: float = 1.0) -> float:
        """The bound h_inf(t) of the paper, before it is rounded up."""
        signal = self.dimension * log(step + 2) / (24 * eta**2 * self.temperature)
        return log2(signal) / 2 - self.speed / (step + 2)

    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """See `ResolutionSchedule`."""
        return max(start, ceil(self.bound(step, eta) / log2(base)))


@dataclass(frozen=True)
class Epochs(ResolutionSchedule):
    """Rises with the logarithm of the logarithm of time; `steps`: steps an epoch, those of the run
    unless said.
    """

    steps: Count | None = None

    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """See `ResolutionSchedule`; h_0 - 1 in the first 0.718 epochs for b = 2, as published."""
        return start + floor(log(log(step / (self.steps or 1) + 2)) / log(base))

    def for_run(self, steps: int) -> "Epochs":
        """See `ResolutionSchedule`."""
        return replace(self, steps=steps) if self.steps is None else self


@dataclass(frozen=True)
class OnStall(ResolutionSchedule):
    """Rises when at most `share` of the codes move, at every `window`-th step; scope: all together,
    or each tensor.
    """

    measured = True

    share: Annotated[float, Real(0, 1, below=True)] = 0.01
    window: Count = 20
    scope: Literal["global", "tensor"] = "global"

    @property
    def by_tensor(self) -> bool:
        """See `ResolutionSchedule`."""
        return self.scope == "tensor"

    def due(self, steps: int) -> bool:
        """See `ResolutionSchedule`."""
        return 0 < steps <= self.window or (steps > 0 and steps % self.window == 0)

    def index(self, start: int, step: int, base: int, eta: float) -> int:
        """See `ResolutionSchedule`."""
        return start


RESOLUTION_SCHEDULES: Registry[ResolutionSchedule] = Registry(
    "schedule",
    ResolutionSchedule,
    {
        "on-stall": OnStall,
        "annealing": Annealing,
        "epochs": Epochs,
        "table": Table,
        "fixed": Fixed,
    },
)


def schedule_from(method: Method) -> ResolutionSchedule:
    """The schedule that settings name. Raises RecipeError for an unknown one."""
    return RESOLUTION_SCHEDULES.build(method)


def schedule_for_run(method: Method, steps: int) -> Method:
    """The same as settings again, for a run whose epochs have so many steps."""
    return RESOLUTION_SCHEDULES.settings(schedule_from(method).for_run(steps))
