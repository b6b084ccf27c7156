"""Settings that take another way through a method: what every rounding promises holds for them
too.
"""

from collections.abc import Iterator
from dataclasses import Field, fields, replace
from enum import Enum
from functools import cache
from inspect import isclass
from typing import Any, get_type_hints

import pytest
import torch
from torch import nn

import subbyte
from subbyte.core import GridSpec, PerGroup, QTensor, Uniform
from subbyte.errors import RecipeError
from subbyte.methods import Rounding
from subbyte.rounding import ROUNDINGS, Gpfq, Kmeans
from subbyte.testing.cases import INPUTS, SPECS, fitter


def is_choice(kind: Any) -> bool:
    return kind is bool or (isclass(kind) and issubclass(kind, Enum))


def alternatives(setting: Field, kind: Any) -> list[Any]:
    """The values of a choice that are not its default."""
    return [v for v in ((False, True) if kind is bool else kind) if v != setting.default]


def other(default: Any) -> Any:
    """Another number than the default, or the first of several."""
    if isinstance(default, tuple):
        return default[:1]
    return default // 4 or default + 1 if isinstance(default, int) else default / 2 or 0.01


def goes(cls: type, **settings: Any) -> bool:
    try:
        cls(**settings)
    except RecipeError:
        return False
    return True


def variants_of(name: str) -> Iterator[tuple[str, Rounding]]:
    """A method with each other choice alone, and with other numbers; numbers that mean nothing by
    default go with the choices that need them.
    """
    cls: Any = ROUNDINGS[name]
    hints = get_type_hints(cls)
    choices = [f for f in fields(cls) if is_choice(hints[f.name])]
    numbers = {f.name: other(f.default) for f in fields(cls) if f not in choices}
    free = {name: value for name, value in numbers.items() if goes(cls, **{name: value})}
    if free:
        yield f"{name} numbers", cls(**free)
    for choice in choices:
        for value in alternatives(choice, hints[choice.name]):
            settings = {choice.name: value}
            if not goes(cls, **settings):
                settings |= {name: numbers[name] for name in numbers.keys() - free.keys()}
            said = value.value if isinstance(value, Enum) else value
            yield f"{name} {choice.name}={said}", cls(**settings)


VARIANTS = dict(variant for name in ROUNDINGS for variant in variants_of(name))
GRIDS = ("int4", "uint2")
CASES = ["grouped, x_q", "dead, x_q", "few rows, x_q"]
TAKEN = [(v, s) for v in VARIANTS for s in GRIDS if VARIANTS[v].refusal(SPECS[s]) is None]
variants = pytest.mark.parametrize(("variant", "spec"), TAKEN)
cases = pytest.mark.parametrize(
    ("variant", "spec", "case"),
    [
        pytest.param(*one, case, marks=[] if (k + n) % len(CASES) == 0 else pytest.mark.slow)
        for k, one in enumerate(TAKEN)
        for n, case in enumerate(CASES)
    ],
)
"""Every variant on every grid; in the quick suite on one of the cases."""


@cache
def rounded(variant: str, spec: str, case: str) -> QTensor:
    given = INPUTS[case]
    return VARIANTS[variant].round(given.weight, fitter(SPECS[spec]), given.stats)


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


@cases
def test_the_same_call_gives_the_same_codes(variant, spec, case):
    given, q = INPUTS[case], rounded(variant, spec, case)
    again = VARIANTS[variant].round(given.weight.clone(), fitter(SPECS[spec]), given.stats)
    assert torch.equal(again.codes, q.codes) and torch.equal(again.grid.scale, q.grid.scale)


@cases
def test_rows_do_not_know_of_one_another(variant, spec, case):
    given = INPUTS[case]
    each = given.weight.shape[0] // given.x.shape[0]
    order = torch.cat([g * each + torch.arange(each).roll(1) for g in range(given.x.shape[0])])
    permuted = VARIANTS[variant].round(given.weight[order], fitter(SPECS[spec]), given.stats)
    assert torch.equal(permuted.codes, rounded(variant, spec, case).codes[order])


@cases
def test_the_unit_of_the_inputs_does_not_matter(variant, spec, case):
    given = INPUTS[case]
    scaled = replace(given, x=given.x * 2.0**-20, x_q=given.x_q * 2.0**-20)
    q = VARIANTS[variant].round(given.weight, fitter(SPECS[spec]), scaled.stats)
    assert torch.equal(q.codes, rounded(variant, spec, case).codes)


@variants
def test_weights_that_see_no_input_keep_their_nearest_codes(variant, spec):
    method = VARIANTS[variant]
    if isinstance(method, Kmeans) and method.keep_mean:
        return  # they keep the codes that they had before the levels moved
    given, q = INPUTS["dead, x_q"], rounded(variant, spec, "dead, x_q")
    assert torch.equal(q.codes[given.dead], q.grid.encode(given.weight)[given.dead])


def test_every_method_with_settings_has_variants():
    tried = {type(method) for method in VARIANTS.values()}
    assert tried == {cls for cls in ROUNDINGS.values() if fields(cls)}
    assert {"gpfq regularizer=L0", "kmeans keep_mean=True", "beacon start=greedy"} <= set(VARIANTS)


def test_regularized_grids_are_symmetric():
    given = INPUTS["dense"]
    for spec in (
        SPECS["uint2"],
        SPECS["levels"],
        GridSpec(Uniform(4), PerGroup(4)),
    ):
        with pytest.raises(RecipeError, match="L0 needs a symmetric uniform grid"):
            Gpfq(regularizer="L0", penalty=0.01).round(given.weight, fitter(spec), given.stats)


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


@pytest.mark.parametrize(
    "method", ["gpfq", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gptq", "ldnq"))]
)
def test_linear_layers_on_inputs_of_any_number_of_axes(method):
    images = torch.randn(40, 48, generator=torch.Generator().manual_seed(0))
    recipe = subbyte.load_recipe("w3", [f"weights.rounding={method}"])

    def codes(shape: tuple[int, ...], inputs: torch.Tensor) -> torch.Tensor:
        return subbyte.quantize(Linear(shape).eval(), inputs, recipe).weights["first"].codes

    wanted = codes((), images.reshape(-1, 8))
    for shape in ((6,), (2, 3), (2, 1, 3)):
        assert torch.equal(codes(shape, images), wanted)
