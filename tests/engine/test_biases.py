"""Biases in int32: what does not fit makes steps wider, and nothing else."""

import pytest
import torch

from subbyte.core import Grid, GridSpec, PerChannel, PerTensor, QTensor, Uniform
from subbyte.engine.biases import bias_step, fits, on_grid, widened, words

ROWS, COLUMNS, DEAD = 6, 40, 2
INPUTS = Grid.of(GridSpec(Uniform(8, signed=False, symmetric=False)), torch.tensor(0.02))


def layer(bits: int, share=None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, QTensor]:
    """A weight with one row near zero, its bias, and its nearest codes."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    weight[DEAD] *= 1e-12
    bias = torch.randn(ROWS, generator=generator) + 3
    spec = GridSpec(Uniform(bits, symmetric=True), share or PerChannel())
    largest = weight.abs().amax(1, keepdim=True)
    scale = largest / (2 ** (bits - 1) - 1)
    scale = scale if share is None else scale.max()
    return weight, bias, QTensor.nearest(weight, Grid.of(spec, scale))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_row_whose_bias_does_not_fit_gets_a_wider_step(bits):
    weight, bias, before = layer(bits)
    assert not fits(bias, bias_step(before, INPUTS))
    after = widened(weight, before, bias, INPUTS)
    step = bias_step(after, INPUTS)
    assert fits(bias, step) and float((bias / step)[DEAD]) > 2**29
    others = [row for row in range(ROWS) if row != DEAD]
    assert torch.equal(after.codes[others], before.codes[others])
    assert torch.equal(after.grid.scale[others], before.grid.scale[others])
    # whatever the codes of the inputs are, the row's output moves by less than it says
    error = (after.dequantize() - weight)[DEAD].double().abs().sum() * 255 * 0.02
    assert float(error) < COLUMNS * 255 / 2 / 2**30 * float(bias[DEAD]) * 1.001
    assert words(bias, step, COLUMNS).startswith("steps of 1 of 6 channels")


@pytest.mark.parametrize("bits", [2, 8])
def test_what_fits_or_shares_one_scale_stays_as_it_is(bits):
    weight, bias, before = layer(bits, PerTensor())
    assert widened(weight, before, bias, INPUTS) is before
    weight, bias, before = layer(bits)
    assert widened(weight, before, torch.zeros(ROWS), INPUTS) is before
    assert words(torch.zeros(ROWS), bias_step(before, INPUTS), COLUMNS) == ""


def test_a_bias_on_its_grid_stays_there():
    weight, bias, before = layer(8)
    after = widened(weight, before, bias, INPUTS)
    step = bias_step(after, INPUTS)
    once = on_grid(bias, step)
    assert torch.equal(on_grid(once, step), once)
    assert float(((once - bias).abs() / step)[[0, 1, 3, 4, 5]].max()) <= 0.5001
