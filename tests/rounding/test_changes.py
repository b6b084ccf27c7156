"""A sweep from change to change is the sweep over all columns: same codes, same slope."""

import pytest
import torch

from subbyte.core import GridSpec, Levels, PerChannel, QTensor, Uniform
from subbyte.rounding.changes import change_in_turn, worth_it
from subbyte.rounding.sweeps import _Stack
from subbyte.testing.cases import INPUTS, fitter

SPECS = {
    "even": GridSpec(Uniform(3, signed=False, symmetric=False), PerChannel()),
    "levels": GridSpec(Levels((-4.0, -1.0, 0.0, 1.0, 4.0)), PerChannel()),
    "ternary": GridSpec(Uniform(2, narrow=True), PerChannel()),
}


@pytest.mark.parametrize("spec", list(SPECS))
@pytest.mark.parametrize(
    "case", ["dense, x_q", "grouped, x_q", "depthwise", "dead", "one weight, x_q"]
)
def test_codes_and_slope_are_those_of_a_sweep_over_columns(case, spec):
    given = INPUTS[case]
    grid = fitter(SPECS[spec])(given.weight)
    linear = given.stats.grouped(given.weight) @ given.stats.H

    def stack():
        grids = [grid.with_scale(grid.scale * factor) for factor in (0.7, 1.1)]
        return _Stack(
            linear, [QTensor.nearest(0 * given.weight, one) for one in grids], given.stats
        )

    one, other = stack(), stack()
    changes = one._visit_all()
    found = change_in_turn(other._units, other._slope, other._steps, other._columns)
    assert torch.equal(one._units, other._units) and torch.equal(changes, found)
    largest = one._pulls.abs().max()
    torch.testing.assert_close(other._slope, one._slope, rtol=0, atol=1e-5 * float(largest))


def test_it_is_worth_it_where_little_is_left():
    few, many = torch.Size((576, 1, 100)), torch.Size((4608, 1, 1536))
    assert worth_it(20, few) and not worth_it(300, few) and not worth_it(133, many)
    assert worth_it(0, many)
