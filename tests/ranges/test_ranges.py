"""Each range method against its own definition, with numpy references."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.core import Grid, GridSpec, Levels, PerChannel, PerGroup, Uniform
from subbyte.errors import RecipeError
from subbyte.ranges import MinMax, Mse, Percentile, fit_grid
from subbyte.stats import histogram
from subbyte.testing.ranges import SPECS, values
from tests.reference.ranges import cost, finest, quantile_ends, representable

specs = pytest.mark.parametrize("spec", SPECS)


def cost_of(
    grid: Grid, x: torch.Tensor, weights: torch.Tensor, row: int, power: float = 2.0
) -> float:
    choices = representable(grid.spec, float(grid.scale[row, 0]), int(grid.zero_point[row, 0]))
    return cost(x[row].double().numpy(), weights[row].double().numpy(), choices, power)


def shapes(columns: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Rows of the distributions that weights and activations have."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(columns, generator=generator)
    uniform = torch.rand(columns, generator=generator) * 2 - 1
    laplace = -uniform.sign() * (1 - uniform.abs()).clamp_min(1e-6).log()
    relu = torch.randn(columns, generator=generator).relu()
    outlier = torch.randn(columns, generator=generator)
    outlier[0] = 25.0
    return {
        "normal": normal,
        "laplace": laplace,
        "uniform": uniform,
        "relu": relu,
        "negative": -relu,
        "shifted": normal * 0.3 + 1,
        "outlier": outlier,
    }


@specs
def test_minmax_loses_nothing(spec):
    """Every value is within half a step, or half the widest gap of the levels."""
    wanted = SPECS[spec]
    for x in shapes(300).values():
        grid = fit_grid(MinMax(), x[None], wanted)
        gap = max(np.diff(wanted.alphabet.positions))
        worst = float((grid.quantize(x[None]) - x).abs().max())
        assert worst <= float(grid.scale) * gap / 2 * (1 + 1e-5)


@specs
def test_minmax_is_no_wider_than_it_must(spec):
    """A scale 1 % smaller leaves a value outside, or, with a zero point, the range short of the
    values'.
    """
    wanted = SPECS[spec]
    for name, x in shapes(300).items():
        grid = fit_grid(MinMax(), x[None], wanted)
        choices = representable(wanted, float(grid.scale) * 0.99, int(grid.zero_point))
        low, high = min(float(x.min()), 0), max(float(x.max()), 0)
        if not wanted.alphabet.has_zero_point:
            assert choices[0] > low or choices[-1] < high, name
        else:
            assert choices[-1] - choices[0] < high - low, name


@specs
@pytest.mark.parametrize("weighted", [False, True])
def test_percentile_100_is_minmax(spec, weighted):
    weights = 0.01 + torch.rand(1, 257, generator=torch.Generator().manual_seed(1))
    for x in shapes(257).values():
        importance = weights if weighted else None
        grid, wanted = (
            fit_grid(m, x[None], SPECS[spec], importance) for m in (Percentile(100.0), MinMax())
        )
        assert torch.equal(grid.scale, wanted.scale)
        assert torch.equal(grid.zero_point, wanted.zero_point)


@pytest.mark.parametrize("percent", [60.0, 90.0, 98.0, 99.0, 99.9, 99.99, 100.0])
@pytest.mark.parametrize("n", [1, 2, 10, 1000, 1999, 20000])
@pytest.mark.parametrize("sign", [1, -1])
def test_percentile_is_between_quantiles(percent, n, sign):
    x = sign * (torch.randn(n, generator=torch.Generator().manual_seed(n)).double() + 0.2).float()
    spec = GridSpec(Uniform(8, signed=False, symmetric=False))
    grid = fit_grid(Percentile(percent), x[None], spec)
    low, high = quantile_ends(x.numpy(), np.ones(n, int), percent)
    wanted = fit_grid(MinMax(), torch.tensor([[low, high]]), spec)
    assert float(grid.scale) == float(wanted.scale)
    assert int(grid.zero_point) == int(wanted.zero_point)
    if n >= 1000:  # and what numpy calls quantiles
        tail = (100 - percent) / 200
        between = np.sort(x.numpy())
        assert between.searchsorted(low) == pytest.approx(tail * n, abs=1)
        assert np.quantile(x.numpy(), 1 - tail, method="inverted_cdf") == pytest.approx(
            high, abs=0.05
        )


@pytest.mark.parametrize("percent", [80.0, 95.0, 99.0])
def test_percentile_counts_every_value_as_often_as_it_came(percent):
    generator = np.random.default_rng(0)
    x = generator.normal(size=200).astype(np.float32)
    counts = generator.integers(0, 50, 200)
    spec = GridSpec(Uniform(8, signed=False, symmetric=False))
    grid = fit_grid(
        Percentile(percent), torch.from_numpy(x)[None], spec, torch.from_numpy(counts)[None]
    )
    wanted = fit_grid(MinMax(), torch.tensor([quantile_ends(x, counts, percent)]), spec)
    assert float(grid.scale) == float(wanted.scale)


def test_percentile_cuts_an_outlier_and_only_it():
    x = torch.linspace(-1, 1, 1000)[None].clone()
    x[0, -1] = 100
    spec = GridSpec(Uniform(8, signed=False, symmetric=False))
    scale = float(fit_grid(Percentile(99.8), x, spec).scale)
    assert scale == pytest.approx(2 / 255, rel=0.01)


@pytest.mark.parametrize(
    ("method", "alphabet"),
    [
        (Percentile(60.0), Uniform(8)),
        (Mse(), Levels((-3.0, -1.0, 1.0, 3.0))),
        (Mse(), Levels((1.0, 3.0))),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_padding_of_ragged_groups_is_no_value(method, alphabet, weighted):
    """Where zeros would matter: to quantiles, and to levels that have none."""
    x = values(3, 11).abs() + 1
    importance = (
        0.1 + torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) if weighted else None
    )
    spec = GridSpec(alphabet, PerGroup(8))
    grid = fit_grid(method, x, spec, importance)
    rest = None if importance is None else importance[:, 8:]
    alone = fit_grid(method, x[:, 8:], replace(spec, share=PerChannel()), rest)
    torch.testing.assert_close(grid.scale[:, 1], alone.scale[:, 0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("percent", [50.0, 100.1, -1.0, float("nan")])
def test_percentile_refuses(percent):
    with pytest.raises(RecipeError, match="Percentile: percent must be"):
        Percentile(percent)


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"power": 0.0}, {"power": -1.0}, {"power": float("nan")}]
)
def test_mse_refuses(settings):
    with pytest.raises(RecipeError, match="Mse: "):
        Mse(**settings)


@specs
@pytest.mark.parametrize("power", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_mse_is_never_worse_than_minmax(spec, power, weighted):
    for x in (torch.stack(list(shapes(40).values())), values(8, 7)):
        importance = (
            torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) if weighted else None
        )
        weights = torch.ones_like(x) if importance is None else importance
        searched, whole = (
            fit_grid(m, x, SPECS[spec], importance) for m in (Mse(power=power), MinMax())
        )
        for row in range(len(x)):
            bound = cost_of(whole, x, weights, row, power)
            assert cost_of(searched, x, weights, row, power) <= bound * (1 + 1e-5)


@pytest.mark.parametrize(
    "spec", [name for name, spec in SPECS.items() if spec.alphabet.count < 256]
)
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_mse_is_close_to_the_finest_search(spec, power):
    """At most 2 % worse than many scales with every zero point; for 8 bits see the taps."""
    wanted = SPECS[spec]
    x = torch.stack(list(shapes(400).values()))
    grid = fit_grid(Mse(power=power), x, wanted)
    for row, name in enumerate(shapes(1)):
        least = finest(x[row].double().numpy(), np.ones(400), wanted, power)
        assert cost_of(grid, x, torch.ones_like(x), row, power) <= 1.02 * least, name


@pytest.mark.parametrize("spec", ["int4", "ternary", "asymmetric int2", "uint4", "levels"])
def test_mse_minimises_the_weighted_error(spec):
    """Importance as uneven as the diagonals of H are: a rugged search."""
    x = torch.stack(list(shapes(400).values()))
    importance = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) ** 6
    grid = fit_grid(Mse(), x, SPECS[spec], importance)
    for row, name in enumerate(shapes(1)):
        least = finest(x[row].double().numpy(), importance[row].double().numpy(), SPECS[spec])
        assert cost_of(grid, x, importance, row) <= 1.05 * least, name


def taps() -> dict[str, torch.Tensor]:
    """Many values with few outliers, as behind layers."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(50_000, generator=generator)
    spread = torch.randn(3, 50_000, generator=generator).square().sum(0).sqrt()
    return {
        "relu": normal.relu(),
        "relu, outlier": torch.cat([normal.relu(), torch.tensor([100.0])]),
        "two-sided, outlier": torch.cat([normal, torch.tensor([60.0])]),
        "heavy tails": normal / spread,
        "gelu": torch.nn.functional.gelu(2 * normal),
    }


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", taps())
def test_mse_draws_both_ends_of_a_tap_in(name, bits):
    """At most 5 % worse than the best of 24 x 48 pairs of ends."""
    spec = GridSpec(Uniform(bits, signed=False, symmetric=False))
    seen = histogram([taps()[name]])
    grid = fit_grid(Mse(), seen.values, spec, seen.counts)
    x, counts = seen.values[0].double().numpy(), seen.counts[0].double().numpy()
    least = np.inf
    for below in np.linspace(1 / 24, 1, 24) * x.min() if x.min() < 0 else [0.0]:
        for above in np.linspace(1 / 48, 1, 48) * x.max():
            scale = (above - below) / spec.alphabet.qmax
            least = min(
                least, cost(x, counts, representable(spec, scale, int(np.round(-below / scale))))
            )
    assert (
        cost(x, counts, representable(spec, float(grid.scale), int(grid.zero_point)))
        <= 1.05 * least
    )


def test_power_weighs_large_errors():
    """With a higher power the outlier is clipped less."""
    x = shapes(400)["outlier"][None]
    scales = [
        float(fit_grid(Mse(power=p), x, SPECS["int4"]).scale) for p in (0.5, 1.0, 2.0, 4.0, 8.0)
    ]
    assert scales == sorted(scales)
    assert scales[-1] > 2 * scales[0]


def test_more_steps_search_finer():
    x = torch.stack([shapes(400, seed)["laplace"] for seed in range(4)])
    ones = torch.ones_like(x)
    costs = [
        sum(cost_of(fit_grid(Mse(steps=steps), x, SPECS["int4"]), x, ones, row) for row in range(4))
        for steps in (4, 16, 400)
    ]
    assert costs[2] <= costs[1] <= costs[0] and costs[2] < costs[0]
