"""Every rounding method on grids whose rows have numbers of levels of their own: row by row the
level set's result.
"""

import pytest
import torch

from subbyte.core import Counts, GridSpec, Levels, PerChannel
from subbyte.errors import RecipeError
from subbyte.ranges import GridFitter, Mse
from subbyte.rounding import ROUNDINGS
from subbyte.testing.cases import INPUTS, fitter

REFUSING = [
    name
    for name, cls in ROUNDINGS.items()
    if cls().refusal(GridSpec(Counts((3, 4)), PerChannel())) is not None
]
CASES = (
    "dense, x_q",
    "grouped, x_q",
    "depthwise",
    "few rows, x_q",
    "dead",
    "one weight, x_q",
    "all dead",
)


def counts_of(rows: int) -> tuple[int, ...]:
    return tuple((3, 4, 9, 2, 5, 127)[row % 6] for row in range(rows))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", [name for name in ROUNDINGS if name not in REFUSING])
def test_rows_are_those_of_level_sets(method, case):
    given, rounding = INPUTS[case], ROUNDINGS[method]()
    counts = counts_of(len(given.weight))
    fit = GridFitter(Mse(steps=12), GridSpec(Counts(counts), PerChannel()))
    q = rounding.round(given.weight, fit, given.stats)
    assert q.grid.spec == fit.spec and q.grid.own[:, 0].tolist() == list(counts)
    assert torch.equal(q.grid.encode(q.dequantize()), q.codes)
    assert bool((q.codes < q.grid.own).all())
    for row, count in enumerate(counts):
        levels = GridSpec(Levels(code - (count - 1) / 2 for code in range(count)), PerChannel())
        alone = rounding.round(given.weight, fitter(levels), given.stats)
        assert torch.equal(q.codes[row], alone.codes[row]), count
        torch.testing.assert_close(q.grid.scale[row], alone.grid.scale[row], rtol=1e-5, atol=0)


def test_some_refuse_and_most_do_not():
    assert 0 < len(REFUSING) < len(ROUNDINGS) / 2


@pytest.mark.parametrize("method", REFUSING)
def test_methods_that_choose_levels_themselves_say_so(method):
    given = INPUTS["dense"]
    spec = GridSpec(Counts(counts_of(len(given.weight))), PerChannel())
    fit = GridFitter(Mse(steps=12), spec)
    with pytest.raises(RecipeError, match=method):
        ROUNDINGS[method]().round(given.weight, fit, given.stats)
