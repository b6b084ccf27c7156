"""What `methods.Rounding` promises, for every method in the registry: a new one is tested by being
in it.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch

from subbyte.core import Codebook, Grid, GridSpec, QTensor
from subbyte.errors import NumericsError, RecipeError
from subbyte.rounding import ROUNDINGS
from tests.reference.rounding import output_error
from tests.rounding.cases import INPUTS, SPECS, Fixed, draw, fitter, works_on

methods = pytest.mark.parametrize("method", ROUNDINGS)
WORKING = [
    (method, spec) for method in ROUNDINGS for spec in SPECS if works_on(method, SPECS[spec])
]
QUICK = ("int4", "ternary", "uint3 groups")
"""Grids of the quick suite, different in every respect; the others are slow."""


def slow_but_for(pairs):
    return [
        pair if pair[1] in QUICK else pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs
    ]


working = pytest.mark.parametrize(("method", "spec"), slow_but_for(WORKING))
inputs = pytest.mark.parametrize("case", INPUTS)
mismatched = pytest.mark.parametrize("case", [name for name in INPUTS if "x_q" in name])


@cache
def rounded(method: str, spec: str, case: str) -> QTensor:
    given = INPUTS[case]
    return ROUNDINGS[method]().round(given.weight, fitter(SPECS[spec]), given.stats)


def objective(method: str, case: str, q: torch.Tensor) -> torch.Tensor:
    """What the method minimises, measured on the outputs; GPTQ knows the quantized network's inputs
    only, k-means only their power (columns without input count as little as the weakest).
    """
    given = INPUTS[case]
    if method == "kmeans":
        power = given.stats.H.diagonal(dim1=-2, dim2=-1)
        floor = power[power > 0].min() if bool((power > 0).any()) else torch.tensor(1.0)
        error = given.stats.grouped(given.weight - q).square() * power.clamp_min(floor)[:, None]
        return error.sum(-1).reshape(-1)
    return output_error(given.weight, q, given.x_q if method == "gptq" else given.x, given.x_q)


@pytest.mark.parametrize(
    ("method", "spec"), [(m, s) for m in ROUNDINGS for s in SPECS if (m, s) not in WORKING]
)
def test_a_method_says_which_grids_it_does_not_work_on(method, spec):
    given = INPUTS["dense"]
    with pytest.raises(RecipeError, match=rf"{method}.*granularity"):
        ROUNDINGS[method]().round(given.weight, fitter(SPECS[spec]), given.stats)


@working
@inputs
def test_codes_are_a_matrix_on_a_grid_of_the_spec(method, spec, case):
    q, weight, wanted = rounded(method, spec, case), INPUTS[case].weight, SPECS[spec]
    rows, columns = weight.shape
    shapes = {None: (rows, 1), 5: (rows, -(-columns // 5))}
    shape = () if wanted.share.one_scale else shapes[wanted.share.block]
    if method == "kmeans":
        wanted = GridSpec(Codebook(wanted.alphabet.count), wanted.share)
    assert q.grid.spec == wanted
    assert (q.codes.shape, q.codes.dtype) == (weight.shape, wanted.alphabet.code_dtype)
    assert (q.grid.scale.shape, q.grid.scale.dtype) == (shape, torch.float32)
    assert (q.grid.zero_point.shape, q.grid.zero_point.dtype) == (q.grid.scale.shape, torch.int32)
    assert wanted.alphabet.qmin <= int(q.codes.min())
    assert int(q.codes.max()) <= wanted.alphabet.qmax
    assert torch.equal(q.grid.encode(q.dequantize()), q.codes)


@working
@mismatched
def test_the_same_call_gives_the_same_codes_and_changes_no_argument(method, spec, case):
    given = INPUTS[case]
    weight, stats = given.weight.clone(), given.stats
    before = {
        name: value.clone()
        for name, value in vars(stats).items()
        if isinstance(value, torch.Tensor)
    }
    again = ROUNDINGS[method]().round(weight, fitter(SPECS[spec]), stats)
    assert torch.equal(again.codes, rounded(method, spec, case).codes)
    assert torch.equal(again.grid.scale, rounded(method, spec, case).grid.scale)
    assert torch.equal(weight, given.weight)
    assert all(torch.equal(getattr(stats, name), value) for name, value in before.items())


@working
@inputs
def test_never_worse_than_nearest_in_its_own_objective(method, spec, case):
    weight = INPUTS[case].weight
    q, fallback = rounded(method, spec, case), QTensor.nearest(weight, fitter(SPECS[spec])(weight))
    got, bound = (
        objective(method, case, q.dequantize()),
        objective(method, case, fallback.dequantize()),
    )
    if SPECS[spec].share.one_scale:
        got, bound = got.sum(), bound.sum()
    power = objective(method, case, torch.zeros_like(weight))
    assert bool((got <= bound * (1 + 1e-9) + 1e-12 * power.max()).all())
    if method == "nearest":
        assert torch.equal(q.codes, fallback.codes)


@working
@pytest.mark.parametrize("case", [name for name in INPUTS if "x_q" not in name])
def test_weights_on_the_grid_come_back_exactly(method, spec, case):
    given = INPUTS[case]
    grid = fitter(SPECS[spec])(given.weight)
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(
        grid.spec.alphabet.qmin,
        grid.spec.alphabet.qmax + 1,
        given.weight.shape,
        generator=generator,
    )
    codes = codes.to(grid.spec.alphabet.code_dtype)
    again = ROUNDINGS[method]().round(grid.decode(codes), Fixed(grid), given.stats)
    if method != "kmeans":  # its codes count other levels
        assert torch.equal(again.codes, codes)
    torch.testing.assert_close(again.dequantize(), grid.decode(codes), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("method", "spec"), slow_but_for((m, s) for m, s in WORKING if not SPECS[s].share.one_scale)
)
@mismatched
def test_rows_do_not_know_of_one_another(method, spec, case):
    given = INPUTS[case]
    each = given.weight.shape[0] // given.x.shape[0]
    order = torch.cat([g * each + torch.arange(each).roll(1) for g in range(given.x.shape[0])])
    permuted = ROUNDINGS[method]().round(given.weight[order], fitter(SPECS[spec]), given.stats)
    assert torch.equal(permuted.codes, rounded(method, spec, case).codes[order])


@working
@pytest.mark.parametrize("case", ["grouped, x_q", "few rows", "dead, x_q"])
@pytest.mark.parametrize("factor", [4.0, 2.0**-40])
def test_the_unit_of_the_inputs_does_not_matter(method, spec, case, factor):
    given = INPUTS[case]
    scaled = replace(given, x=given.x * factor**0.5, x_q=given.x_q * factor**0.5)
    q = ROUNDINGS[method]().round(given.weight, fitter(SPECS[spec]), scaled.stats)
    assert torch.equal(q.codes, rounded(method, spec, case).codes)


@working
@pytest.mark.parametrize("case", [name for name in INPUTS if "dead" in name])
def test_weights_that_see_no_input_keep_their_nearest_codes(method, spec, case):
    given, q = INPUTS[case], rounded(method, spec, case)
    wanted = q.grid.encode(given.weight)
    assert given.dead.any()
    assert torch.equal(q.codes[given.dead], wanted[given.dead])


@working
def test_zeros_stay_zeros(method, spec):
    given = INPUTS["dense, x_q"]
    q = ROUNDINGS[method]().round(torch.zeros_like(given.weight), fitter(SPECS[spec]), given.stats)
    assert not q.dequantize().any()


@methods
@pytest.mark.parametrize("bad", ["x", "x_q", "both"])
def test_nan_in_the_inputs_is_an_error_unless_they_are_not_read(method, bad):
    given = draw(1, 40, 8, 4, mismatch=0.3)
    x, x_q = given.x.clone(), given.x_q.clone()
    for name, rows in (("x", x), ("x_q", x_q)):
        if bad in (name, "both"):
            rows[0, 3, 2] = float("nan")
    fit = fitter(SPECS["int4"])
    spoilt = replace(given, x=x, x_q=x_q)
    # they do not read these
    if method == "nearest" or (method, bad) in (("gptq", "x"), ("kmeans", "x")):
        assert torch.equal(
            ROUNDINGS[method]().round(given.weight, fit, spoilt.stats).codes,
            ROUNDINGS[method]().round(given.weight, fit, given.stats).codes,
        )
        return
    with pytest.raises(NumericsError):
        ROUNDINGS[method]().round(given.weight, fit, spoilt.stats)


@methods
def test_nan_in_the_weights_is_an_error(method):
    given = draw(1, 40, 8, 4)
    weight = given.weight.clone()
    weight[1, 2] = float("nan")
    grid = Grid.of(SPECS["int4"], torch.full((4, 1), 0.1))
    for fit in (fitter(SPECS["int4"]), Fixed(grid)):
        with pytest.raises(NumericsError):
            ROUNDINGS[method]().round(weight, fit, given.stats)


@methods
@pytest.mark.parametrize("case", ["dense", "dense, x_q", "grouped, x_q"])
def test_fine_grids_lose_next_to_nothing(method, case):
    """With 8 bits the outputs are those of the float layer, as far as the inputs allow."""
    given = INPUTS[case]
    spec = replace(SPECS["int4"], bits=8)
    q = ROUNDINGS[method]().round(given.weight, fitter(spec), given.stats).dequantize()
    power = output_error(given.weight, torch.zeros_like(given.weight), given.x_q, given.x_q)
    target = given.weight if method in ("nearest", "gptq") else None
    if target is not None:
        assert bool((output_error(target, q, given.x_q, given.x_q) < 1e-3 * power).all())
    else:
        limit = output_error(given.weight, given.weight, given.x, given.x_q)
        assert bool(
            (output_error(given.weight, q, given.x, given.x_q) < limit + 1e-3 * power).all()
        )
