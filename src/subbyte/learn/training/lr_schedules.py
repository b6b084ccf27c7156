"""Learning-rate schedules: a factor on `lr`, as a function of the share of the run that is over.

    constant   1
    cosine     (1 + cos(pi p)) / 2                                              (Loshchilov, Hutter
                                                                                2017, eq. 5)
    restarts   0.1 + 0.9 (1 + cos(pi q)) / 2, q from 0 to 1 in cycles of 10, 20, 40, ... epochs
               (the same)
    step       1, 0.1 from half of the run, 0.01 from three quarters            (He et al. 2016,
                                                                                section 4.2)
    quarters   0.618^(0, 2, 4, 6) in the quarters of the run
    linear     1 - p
    exp        0.95^epoch
    cyclic     0.1 up to 1 and down again in every 4 epochs                      (Smith 2017,
                                                                                 triangular)

p: share of the run from 0 to 1, epoch: the same in epochs, both with fractions. A warm-up
multiplies this by a line from 0 to 1 over its epochs.
"""

from dataclasses import dataclass
from math import cos, pi

from subbyte.io.registry import Registry
from subbyte.methods import LrSchedule

_FLOOR = 0.1  # of the learning rate, where a cycle does not end at 0
_FIRST = 10.0  # epochs of the first cosine cycle; each is twice as long as the one before
_CYCLE = 4.0  # epochs of a triangle


@dataclass(frozen=True)
class Constant(LrSchedule):
    """The same from beginning to end."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        return 1.0


@dataclass(frozen=True)
class Cosine(LrSchedule):
    """Half a cosine, down to 0."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        return (1 + cos(pi * epoch / epochs)) / 2


@dataclass(frozen=True)
class Restarts(LrSchedule):
    """Half a cosine down to a tenth, again and again, each twice as long as the one before."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        length = _FIRST
        while epoch >= length:
            epoch, length = epoch - length, 2 * length
        return _FLOOR + (1 - _FLOOR) * (1 + cos(pi * epoch / length)) / 2


@dataclass(frozen=True)
class Step(LrSchedule):
    """A tenth from half of the run on, a hundredth from three quarters."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        return 1.0 if 2 * epoch < epochs else 0.1 if 4 * epoch < 3 * epochs else 0.01


@dataclass(frozen=True)
class Quarters(LrSchedule):
    """Less in each quarter of the run."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        return float(0.618 ** (2 * min(3, int(4 * epoch / epochs))))


@dataclass(frozen=True)
class Linear(LrSchedule):
    """A line down to 0."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        return 1 - epoch / epochs


@dataclass(frozen=True)
class Exponential(LrSchedule):
    """Five percent less every epoch."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        return float(0.95**epoch)


@dataclass(frozen=True)
class Cyclic(LrSchedule):
    """Triangles of four epochs."""

    def factor(self, epoch: float, epochs: float) -> float:
        """See `LrSchedule`."""
        place = (epoch % _CYCLE) / _CYCLE
        return _FLOOR + (1 - _FLOOR) * (1 - abs(2 * place - 1))


LR_SCHEDULES: Registry[LrSchedule] = Registry(
    "lr_schedule",
    LrSchedule,
    {
        "constant": Constant,
        "cosine": Cosine,
        "restarts": Restarts,
        "step": Step,
        "quarters": Quarters,
        "linear": Linear,
        "exp": Exponential,
        "cyclic": Cyclic,
    },
)


def warmed_up(schedule: LrSchedule, epoch: float, epochs: float, warmup: float) -> float:
    """The factor on the learning rate when `epoch` of `epochs` are over, after a warm-up of so many
    epochs.
    """
    return schedule.factor(epoch, epochs) * (min(1.0, epoch / warmup) if warmup else 1.0)
