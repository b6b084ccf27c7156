"""Quantized matrices: what they store, by hand."""

import pytest
import torch

from subbyte.core import Grid, GridSpec, QTensor, unpack

SIZES = [  # of a 6 x 10 matrix: 60 codes; 4 bytes a scale, 1 a zero point
    (GridSpec(4), 30 + 4),
    (GridSpec(4, symmetric=False), 30 + 4 + 1),
    (GridSpec(4, granularity="channel"), 30 + 6 * 4),
    (GridSpec(4, symmetric=False, granularity="channel"), 30 + 6 * 5),
    (GridSpec(4, granularity="group", group_size=4), 30 + 6 * 3 * 4),
    (GridSpec(4, symmetric=False, granularity="group", group_size=4), 30 + 6 * 3 * 5),
    (GridSpec(3, granularity="group", group_size=10), 23 + 6 * 4),
    (GridSpec(1, signed=False), 8 + 4),
    (GridSpec(8), 60 + 4),
    (GridSpec.ternary(), 12 + 6 * 4),
    (GridSpec.ternary("tensor"), 12 + 4),
    (GridSpec.level_set((-4, -2, -1, 0, 1, 2, 4), "channel"), 22 + 6 * 4 + 7 * 4),
    (GridSpec(2, symmetric=False, levels=(-1.0, 0.0, 1.0, 3.0)), 15 + 4 + 4 * 4),
]


def grid_for(spec: GridSpec, rows: int, columns: int) -> Grid:
    groups = -(-columns // (spec.group_size or 1))
    shape = {"tensor": (), "channel": (rows, 1), "group": (rows, groups)}[spec.granularity]
    return Grid.of(spec, torch.rand(shape, generator=torch.Generator().manual_seed(3)) + 0.1)


@pytest.mark.parametrize(("spec", "size"), SIZES)
def test_stored_bytes_and_bits_per_weight(spec, size):
    q = QTensor.nearest(
        torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), grid_for(spec, 6, 10)
    )
    assert q.nbytes == size
    assert q.bits_per_weight == pytest.approx(8 * size / 60)


@pytest.mark.parametrize("spec", [spec for spec, _ in SIZES])
def test_nearest_dequantize_and_pack_are_those_of_the_grid(spec):
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    grid = grid_for(spec, 6, 10)
    q = QTensor.nearest(x, grid)
    assert torch.equal(q.codes, grid.encode(x)) and q.grid is grid
    assert torch.equal(q.dequantize(), grid.quantize(x))
    assert torch.equal(unpack(q.pack(), spec, (6, 10)), q.codes)


def test_with_scale_keeps_the_codes():
    grid = grid_for(GridSpec(4, granularity="channel"), 6, 10)
    q = QTensor.nearest(torch.randn(6, 10, generator=torch.Generator().manual_seed(2)), grid)
    doubled = q.with_scale(2 * grid.scale)
    assert torch.equal(doubled.codes, q.codes)
    assert torch.equal(doubled.dequantize(), 2 * q.dequantize())
    assert torch.equal(q.grid.scale, grid.scale)
