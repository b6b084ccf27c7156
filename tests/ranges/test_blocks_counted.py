"""Ranges of rows with numbers of levels of their own are those of level sets."""

import pytest
import torch

from subbyte.core import Counts, GridSpec, Levels, PerChannel
from subbyte.ranges import GridFitter, Mse, Percentile

COUNTS = (3, 4, 2, 9, 4, 127)


@pytest.mark.parametrize("scalar", [1.0, 0.8])
@pytest.mark.parametrize("weighted", ["no", "rows", "all"])
@pytest.mark.parametrize("method", [Mse(), Percentile()], ids=["mse", "percentile"])
def test_rows_have_the_scale_of_their_level_set(method, weighted, scalar):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 30, generator=generator) ** 3
    importance = {
        "no": None,
        "rows": torch.rand(1, 30, generator=generator) ** 4,
        "all": torch.rand(6, 30),
    }[weighted]
    grid = GridFitter(method, GridSpec(Counts(COUNTS), PerChannel()), importance, scalar)(x)
    assert grid.own[:, 0].tolist() == list(COUNTS)
    for row, count in enumerate(COUNTS):
        spec = GridSpec(Levels(code - (count - 1) / 2 for code in range(count)), PerChannel())
        alone = GridFitter(method, spec, importance, scalar)(x)
        assert torch.equal(grid.scale[row], alone.scale[row]), count
