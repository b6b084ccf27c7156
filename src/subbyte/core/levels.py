"""Level sets by name: whole numbers, so that a level is an exact integer times a scale.

    powers   {0, +-1, +-2, +-4, ... +-2^k}, 2k + 3 levels                 L-DNQ (Chen, Wang, Pan
                                                                          2019)
    odd      {+-1, +-3, ... +-(2^b - 1)}, 2^b levels without 0            GPFQ's first alphabet
                                                                          (Lybrand, Saab 2021)
    apot     +-sums of one term of each p_i = {0, 2^-i, 2^-(i+n), ...}    APoT (Li, Dong, Wang 2020)

APoT spends one bit on the sign, 2 on each of n terms and, where the bits are even, the last one on
a term of its own. The powers 1/2, 1/4, ... go to the terms in turn, three times round; the term of
one bit has the power after the second round. So 4 bits are {0, 1/2, 1/4, 1/16} + {0, 1/8}, as the
authors release them.
"""

from collections.abc import Sequence
from itertools import product

from subbyte.errors import RecipeError

POWER_COUNTS = (3, 5, 7, 9, 11)


def powers(count: int) -> tuple[float, ...]:
    """L-DNQ's set with 3, 5, 7, 9 or 11 levels."""
    if count not in POWER_COUNTS:
        raise RecipeError(
            f"levels: powers of two come in sets of {', '.join(map(str, POWER_COUNTS))}, got "
            f"{count}"
        )
    return _signed({float(2**k) for k in range((count - 1) // 2)} | {0.0})


def odd(bits: int) -> tuple[float, ...]:
    """2^bits levels at equal distances, half a step to either side of 0."""
    return tuple(float(2 * code + 1 - 2**bits) for code in range(2**bits))


def centred(count: int) -> tuple[float, ...]:
    """So many levels, a step apart, around 0."""
    return tuple(code - (count - 1) / 2 for code in range(count))


def apot(bits: int) -> tuple[float, ...]:
    """2^bits - 1 levels or fewer; bits from 2 to 8."""
    terms, single = divmod(bits - 1, 2)
    order = [*range(terms), *range(terms), *([terms] if single else []), *range(terms)]
    sets: list[list[int]] = [[0] for _ in range(terms + single)]
    for exponent, term in enumerate(reversed(order)):
        sets[term].append(2**exponent)
    return _signed({float(sum(choice)) for choice in product(*sets)})


def whole(levels: Sequence[float]) -> tuple[float, ...]:
    """The same levels in steps so small that all are whole numbers, as 8-bit integers want them;
    unchanged where no power of two makes them so.
    """
    for factor in (2**exponent for exponent in range(8)):
        if all((level * factor).is_integer() for level in map(float, levels)):
            return tuple(level * factor for level in map(float, levels))
    return tuple(levels)


def _signed(magnitudes: set[float]) -> tuple[float, ...]:
    return tuple(sorted(magnitudes | {-m for m in magnitudes if m}))
