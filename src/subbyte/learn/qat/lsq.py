"""LSQ: learned step sizes (Esser et al. 2020, eq. 3 and section 2.2); see `qat.rounded`."""

from dataclasses import dataclass

from subbyte.learn.qat.rounded import BehindRounded


@dataclass(frozen=True)
class Lsq(BehindRounded):
    """Float weights behind rounded ones, on a scale that is trained with them."""

    learned = True
