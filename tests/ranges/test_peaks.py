"""The steps of GPFQ's alphabets: rules on the sizes of weights."""

import numpy as np
import pytest
import torch

from subbyte.core import GridSpec, PerChannel, PerGroup, Uniform
from subbyte.ranges import GridFitter, Median, RowMax
from subbyte.ranges.peaks import quantile

WIDE = GridSpec(Uniform(4, wide=True))
CHANNEL = GridSpec(Uniform(4, wide=True), PerChannel())


def weights(rows: int = 5, columns: int = 12) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("percentile", [0.3, 0.5, 1.0])
def test_rowmax_is_the_mean_over_rows_of_a_quantile(percentile):
    w = weights()
    w[2] = 0  # such as behind a batch-norm's gamma of 0
    wanted = np.quantile(np.abs(w.numpy()), percentile, axis=1).mean() / 8
    assert float(GridFitter(RowMax(percentile), WIDE)(w).scale) == pytest.approx(wanted, rel=1e-6)
    each = np.quantile(np.abs(w[[0, 1, 3, 4]].numpy()), percentile, axis=1) / 8
    scale = GridFitter(RowMax(percentile), CHANNEL)(w).scale[[0, 1, 3, 4], 0]
    np.testing.assert_allclose(scale.numpy(), each, rtol=1e-6)


def test_median_is_that_of_all_weights():
    w = weights()
    assert float(GridFitter(Median(), WIDE)(w).scale) == pytest.approx(
        np.median(np.abs(w.numpy())) / 8, rel=1e-6
    )


@pytest.mark.parametrize("method", [RowMax(), RowMax(0.5), Median()])
def test_columns_without_input_count_like_the_others(method):
    w, importance = weights(), torch.ones(5, 12)
    importance[:, 3:9] = 0
    for spec in (WIDE, CHANNEL):
        assert torch.equal(
            GridFitter(method, spec, importance)(w).scale, GridFitter(method, spec)(w).scale
        )


@pytest.mark.parametrize("method", [RowMax(), RowMax(0.5), Median()])
def test_the_last_group_of_a_row_is_not_filled_up_with_zeros(method):
    w = weights()
    groups = GridFitter(method, GridSpec(Uniform(4), PerGroup(5)))(w).scale
    alone = GridFitter(method, GridSpec(Uniform(4), PerChannel()))(w[:, 10:]).scale
    torch.testing.assert_close(groups[:, 2:], alone)


def test_the_scalar_multiplies_what_the_range_chooses():
    w = weights()
    plain, scaled = (GridFitter(RowMax(), WIDE, scalar=c)(w).scale for c in (1.0, 1.16))
    assert float(scaled / plain) == pytest.approx(1.16)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9, 1.0])
def test_quantiles_are_those_of_numpy_over_what_counts(share):
    sizes = weights(4, 9).abs()
    counts = torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) > 0.4
    found = quantile(sizes, share, counts.float())
    wanted = [
        np.quantile(row[keep].numpy(), share) for row, keep in zip(sizes, counts, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)
