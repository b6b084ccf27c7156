"""Level sets by name: whole numbers, so that a level is an exact integer times a scale.

    powers   {0, +-1, +-2, +-4, ... +-2^k}, 2k + 3 levels                 L-DNQ (Chen, Wang, Pan 2019)
    odd      {+-1, +-3, ... +-(2^b - 1)}, 2^b levels without 0            GPFQ's first alphabet (Lybrand, Saab 2021)
    apot     +-sums of one term of each p_i = {0, 2^-i, 2^-(i+n), ...}    APoT (Li, Dong, Wang 2020)

APoT spends one bit on the sign and 2 on each of the n terms; where the bits are even the last term has only one:
p_{n-1} = {0, 2^-(n-1)}.
"""

from collections.abc import Sequence
from itertools import product

from subbyte.errors import RecipeError

POWER_COUNTS = (3, 5, 7, 9, 11)


def powers(count: int) -> tuple[float, ...]:
    """L-DNQ's set with 3, 5, 7, 9 or 11 levels."""
    if count not in POWER_COUNTS:
        raise RecipeError(f"levels: powers of two come in sets of {', '.join(map(str, POWER_COUNTS))}, got {count}")
    return _signed({float(2**k) for k in range((count - 1) // 2)} | {0.0})


def odd(bits: int) -> tuple[float, ...]:
    """2^bits levels at equal distances, half a step to either side of 0."""
    return tuple(float(2 * code + 1 - 2**bits) for code in range(2**bits))


def apot(bits: int) -> tuple[float, ...]:
    """2^bits - 1 levels or fewer; bits from 2 to 8."""
    terms = -(-(bits - 1) // 2)
    sets = [[0.0, *(2.0 ** -(i + j * terms) for j in range(3))] for i in range(terms)]
    if bits % 2 == 0:
        sets[-1] = sets[-1][:2]
    sums = {sum(choice) for choice in product(*sets)}
    unit = max(2.0**-exponent for exponent in range(64) if all((s * 2**exponent).is_integer() for s in sums))
    return _signed({s / unit for s in sums})


def whole(levels: Sequence[float]) -> tuple[float, ...]:
    """The same levels in steps so small that all are whole numbers, as 8-bit integers want them; unchanged where no
    power of two makes them so.
    """
    for factor in (2**exponent for exponent in range(8)):
        if all((level * factor).is_integer() for level in map(float, levels)):
            return tuple(level * factor for level in map(float, levels))
    return tuple(levels)


def _signed(magnitudes: set[float]) -> tuple[float, ...]:
    return tuple(sorted(magnitudes | {-m for m in magnitudes if m}))
