"""Settings that take another way through a method: what every rounding promises holds for them
too.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

import subbyte
from subbyte.core import GridSpec, PerGroup, QTensor, Uniform
from subbyte.errors import RecipeError
from subbyte.methods import Rounding
from subbyte.rounding import (
    ROUNDINGS,
    Adaround,
    Beacon,
    Descent,
    Gpfq,
    Gptaq,
    Gptq,
    Kmeans,
    Ldnq,
    Qronos,
    Spfq,
    Stochastic,
)
from subbyte.testing.cases import INPUTS, SPECS, fitter

VARIANTS: dict[str, Rounding] = {
    "gpfq float": Gpfq(data="float"),
    "gpfq diagonal": Gpfq(order="diagonal"),
    "gpfq L1": Gpfq(regularizer="L1", penalty=0.01),
    "gpfq L0": Gpfq(regularizer="L0", penalty=0.01),
    "gpfq stochastic": Gpfq(stochastic=True, seed=3),
    "spfq nearest": Spfq(order=3, stochastic=False),
    "spfq unbiased": Spfq(fallback=False, seed=3),
    "stochastic unbiased": Stochastic(draws=1, fallback=False, seed=3),
    "gptq natural": Gptq(order="natural"),
    "gptaq full": Gptaq(strength=1.0, order="natural"),
    "qronos natural": Qronos(order="natural", damping=1e-3),
    "beacon greedy": Beacon(start="greedy"),
    "descent COMQ": Descent(sweeps=1, order="greedy", refit=False, start="weights", data="float"),
    "descent greedy": Descent(order="greedy"),
    "kmeans plain": Kmeans(weighted=False),
    "kmeans mean": Kmeans(keep_mean=True),
    "ldnq paper": Ldnq(corrected=False, starts=(1.0,), penalties=(1.0,), sweeps=0),
    "adaround short": Adaround(steps=20),
}
SYMMETRIC_ONLY = {"gpfq L0"}
MOVED_LEVELS = {"kmeans mean"}  # dead weights keep the codes they had before the levels moved
CASES = ["grouped, x_q", "dead, x_q", "few rows, x_q"]
variants = pytest.mark.parametrize(
    ("variant", "spec"),
    [(v, s) for v in VARIANTS for s in ("int4", "uint2") if s == "int4" or v not in SYMMETRIC_ONLY],
)
cases = pytest.mark.parametrize("case", CASES)


@cache
def rounded(variant: str, spec: str, case: str) -> QTensor:
    given = INPUTS[case]
    return VARIANTS[variant].round(given.weight, fitter(SPECS[spec]), given.stats)


@variants
@cases
def test_codes_are_a_matrix_on_a_grid(variant, spec, case):
    q = rounded(variant, spec, case)
    assert (
        q.codes.shape == INPUTS[case].weight.shape
        and q.codes.dtype == q.grid.spec.alphabet.code_dtype
    )
    assert (
        q.grid.spec.alphabet.qmin <= int(q.codes.min())
        and int(q.codes.max()) <= q.grid.spec.alphabet.qmax
    )
    assert torch.equal(q.grid.encode(q.dequantize()), q.codes)


@variants
@cases
def test_the_same_call_gives_the_same_codes(variant, spec, case):
    given, q = INPUTS[case], rounded(variant, spec, case)
    again = VARIANTS[variant].round(given.weight.clone(), fitter(SPECS[spec]), given.stats)
    assert torch.equal(again.codes, q.codes) and torch.equal(again.grid.scale, q.grid.scale)


@variants
@cases
def test_rows_do_not_know_of_one_another(variant, spec, case):
    given = INPUTS[case]
    each = given.weight.shape[0] // given.x.shape[0]
    order = torch.cat([g * each + torch.arange(each).roll(1) for g in range(given.x.shape[0])])
    permuted = VARIANTS[variant].round(given.weight[order], fitter(SPECS[spec]), given.stats)
    assert torch.equal(permuted.codes, rounded(variant, spec, case).codes[order])


@variants
@cases
def test_the_unit_of_the_inputs_does_not_matter(variant, spec, case):
    given = INPUTS[case]
    scaled = replace(given, x=given.x * 2.0**-20, x_q=given.x_q * 2.0**-20)
    q = VARIANTS[variant].round(given.weight, fitter(SPECS[spec]), scaled.stats)
    assert torch.equal(q.codes, rounded(variant, spec, case).codes)


@variants
def test_weights_that_see_no_input_keep_their_nearest_codes(variant, spec):
    if variant in MOVED_LEVELS:
        return
    given, q = INPUTS["dead, x_q"], rounded(variant, spec, "dead, x_q")
    assert torch.equal(q.codes[given.dead], q.grid.encode(given.weight)[given.dead])


def test_every_method_but_two_without_settings_has_a_variant():

    tried = {type(method) for method in VARIANTS.values()}
    assert {name for name, cls in ROUNDINGS.items() if cls not in tried} == {"nearest", "corrected"}


def test_regularized_grids_are_symmetric():
    given = INPUTS["dense"]
    for spec in (
        SPECS["uint2"],
        SPECS["levels"],
        GridSpec(Uniform(4), PerGroup(4)),
    ):
        with pytest.raises(RecipeError, match="L0 needs a symmetric uniform grid"):
            VARIANTS["gpfq L0"].round(given.weight, fitter(spec), given.stats)


class Linear(nn.Module):
    """Linear layers over inputs of two, three or four axes, with the same numbers in them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.shape, self.first, self.last = shape, nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(torch.relu(self.first(x.reshape(-1, *self.shape, 8))))
        return x.reshape(-1, 5) if not self.shape else x.reshape(x.shape[0], -1, 5).mean(1)


@pytest.mark.parametrize("method", ["gpfq", "gptq", "ldnq"])
def test_linear_layers_on_inputs_of_any_number_of_axes(method):
    images = torch.randn(40, 48, generator=torch.Generator().manual_seed(0))
    recipe = subbyte.load_recipe("w3", [f"weights.rounding={method}"])

    def codes(shape: tuple[int, ...], inputs: torch.Tensor) -> torch.Tensor:
        return subbyte.quantize(Linear(shape).eval(), inputs, recipe).weights["first"].codes

    wanted = codes((), images.reshape(-1, 8))
    for shape in ((6,), (2, 3), (2, 1, 3)):
        assert torch.equal(codes(shape, images), wanted)
