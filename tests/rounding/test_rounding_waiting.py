"""How often a device would be waited for: values that are read by Python, and shapes that depend on
values. It is a bounded number for each layer, whatever the layer's size.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from subbyte.core import GridSpec, Levels, Linear, PerChannel, PerGroup, Uniform
from subbyte.engine.walk import walk
from subbyte.graph import prepare
from subbyte.ranges import GridFitter, Mse
from subbyte.recipe import load_recipe, make_plan
from subbyte.rounding import ROUNDINGS, Corrected, Ldnq
from subbyte.stats import MomentCollector

aten = torch.ops.aten
_WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default}
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
FOUR = GridSpec(Uniform(4, signed=False, symmetric=False), PerChannel())
SEVEN = GridSpec(Levels((-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)), PerChannel())


class Waits(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = func in _INDEXING and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += func in _WAITING or masks
        return func(*args, **(kwargs or {}))


def problem(rows, columns):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    x = torch.randn(2 * columns, columns, generator=generator) @ mixing
    collector = MomentCollector(Linear((rows, columns)))
    collector.add(x, x + 0.1 * torch.randn(x.shape, generator=generator))
    return weight, collector.finish()


@pytest.mark.parametrize("size", [(12, 40), (48, 200)], ids=str)
@pytest.mark.parametrize("spec", [FOUR, SEVEN, GridSpec(Uniform(4), PerGroup(8))], ids=str)
def test_a_range_search_asks_a_few_times(spec, size):
    weight, stats = problem(*size)
    fit = GridFitter(Mse(steps=20), spec, stats.power.expand(size))
    with Waits() as waits:
        fit(weight)
    assert 0 < waits.count <= 4


@pytest.mark.parametrize("size", [(12, 40), (48, 200)], ids=str)
@pytest.mark.parametrize(
    "rounding, spec, bound",
    [
        (Corrected(), FOUR, 110),
        (Corrected(), GridSpec(Uniform(2), PerGroup(8)), 70),
        (Ldnq(), SEVEN, 140),
        (ROUNDINGS["descent"](), FOUR, 20),
        (ROUNDINGS["gptq"](), FOUR, 20),
    ],
    ids=["corrected", "corrected, groups", "ldnq", "descent", "gptq"],
)
def test_a_rounding_asks_so_often_at_most(rounding, spec, bound, size):
    weight, stats = problem(*size)
    fit = GridFitter(Mse(steps=20), spec, stats.power.expand(size))
    with Waits() as waits:
        rounding.round(weight, fit, stats)
    assert 0 < waits.count <= bound


def test_the_walk_asks_as_often_for_larger_images():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    counts = []
    for size in (10, 20):
        images = torch.randn(8, 2, size, size)
        network = prepare(model, images[:2])
        plan = make_plan(network, load_recipe("w4a4", ["weights.rounding=nearest"]))
        with Waits() as waits:
            walk(network, plan, images)
        counts.append(waits.count)
    assert counts[0] == counts[1] <= 90
