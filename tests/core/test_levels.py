"""The named sets of levels, against their definitions enumerated otherwise."""

from fractions import Fraction
from itertools import pairwise, product

import pytest

from subbyte.core import Levels
from subbyte.core.levels import POWER_COUNTS, apot, odd, powers, whole
from subbyte.errors import RecipeError

RELEASED = {  # exponents of each term's powers of 1/2, as the authors' code has them
    2: [[1]],
    3: [[1, 2, 3]],
    4: [[1, 2, 4], [3]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[1, 3, 6], [2, 4, 7], [5]],
    7: [[1, 4, 7], [2, 5, 8], [3, 6, 9]],
    8: [[1, 4, 8], [2, 5, 9], [3, 6, 10], [7]],
}


def additive_powers(bits: int) -> set[Fraction]:
    """Every sum of one number of each term, 0 among them, with either sign."""
    terms = [[Fraction(0), *(Fraction(1, 2**k) for k in exponents)] for exponents in RELEASED[bits]]
    sums = {sum(choice, Fraction(0)) for choice in product(*terms)}
    return sums | {-s for s in sums}


ALL = {
    **{f"powers {count}": powers(count) for count in POWER_COUNTS},
    **{f"odd {bits}": odd(bits) for bits in range(1, 9)},
    **{f"apot {bits}": apot(bits) for bits in range(2, 9)},
}
every_set = pytest.mark.parametrize("levels", ALL.values(), ids=ALL)


@pytest.mark.parametrize("bits", range(2, 9))
def test_apot_is_its_definition_in_whole_numbers(bits):
    wanted = additive_powers(bits)
    ratios = {Fraction(level) / Fraction(max(apot(bits))) for level in apot(bits)}
    assert ratios == {number / max(wanted) for number in wanted}


@pytest.mark.parametrize(
    ("bits", "positive"), [(2, [1]), (3, [1, 2, 4]), (4, [1, 2, 3, 4, 6, 8, 10]), (5, None)]
)
def test_small_apot_sets_by_hand(bits, positive):
    found = [level for level in apot(bits) if level > 0]
    assert found == positive if positive else len(found) == 15


@pytest.mark.parametrize("bits", range(2, 9))
def test_apot_fits_in_its_bits(bits):
    assert len(apot(bits)) <= 2**bits - 1
    assert Levels(apot(bits)).width == bits


def test_powers_by_hand():
    assert powers(3) == (-1, 0, 1)
    assert powers(5) == (-2, -1, 0, 1, 2)
    assert powers(7) == (-4, -2, -1, 0, 1, 2, 4)
    assert powers(9) == (-8, -4, -2, -1, 0, 1, 2, 4, 8)
    assert powers(11) == (-16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16)


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 4, 6, 13])
def test_other_numbers_of_powers_are_refused(count):
    with pytest.raises(RecipeError, match=f"3, 5, 7, 9, 11, got {count}"):
        powers(count)


@pytest.mark.parametrize("bits", range(1, 9))
def test_odd_levels_are_equally_spaced_without_zero(bits):
    levels = odd(bits)
    assert len(levels) == 2**bits and 0 not in levels and levels[-1] == 2**bits - 1
    assert {b - a for a, b in pairwise(levels)} == {2}


@every_set
def test_levels_are_whole_numbers_rising_and_symmetric_without_common_factor(levels):
    assert all(isinstance(level, float) and level.is_integer() for level in levels)
    assert all(a < b for a, b in pairwise(levels))
    assert tuple(-level for level in reversed(levels)) == levels
    assert not all(level % 2 == 0 for level in levels)


@every_set
def test_levels_make_a_grid_that_whole_numbers_reach(levels):
    alphabet = Levels(levels)
    assert (alphabet.positions, alphabet.count) == (levels, len(levels))
    assert alphabet.integers == (levels[0], levels[-1], 1)


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        ((-1, 0, 3), (-1, 0, 3)),
        ((-0.5, 0.5), (-1, 1)),
        ((-1.5, -0.25, 0, 2), (-6, -1, 0, 8)),
        ((0, 2**-7), (0, 1)),
        ((0, 2**-8), (0, 2**-8)),
        ((-0.1, 0, 0.5), (-0.1, 0, 0.5)),
    ],
)
def test_levels_become_whole_by_the_least_power_of_two_up_to_128(levels, wanted):
    assert whole(levels) == wanted
    assert all(isinstance(level, float) for level in whole([float(level) for level in levels]))


@every_set
def test_named_sets_are_whole_already(levels):
    assert whole(levels) == levels
