"""What single methods say of themselves: which are special cases of which, their definitions, where
they end.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from subbyte.core import GridSpec, PerChannel, QTensor, Uniform
from subbyte.rounding import (
    Adaround,
    Beacon,
    Corrected,
    Descent,
    Gpfq,
    Gptaq,
    Gptq,
    Nearest,
    Qronos,
    Spfq,
    sweeps,
)
from subbyte.rounding.columns import Columns
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.path import align
from subbyte.rounding.qronos import first_exact
from subbyte.rounding.solve import best_of
from subbyte.stats import shrunk
from subbyte.testing.cases import (
    INPUTS,
    SPECS,
    Fixed,
    Inputs,
    draw,
    fitter,
    layer_stats,
    output_error,
    outputs,
)
from tests.reference import rounding as reference
from tests.rounding.test_rounding_references import same_codes

specs = pytest.mark.parametrize("spec", SPECS)
orders = pytest.mark.parametrize("order", ["natural", "diagonal"])
mismatched = pytest.mark.parametrize("case", ["dense, x_q", "grouped, x_q", "depthwise, x_q"])
matched = pytest.mark.parametrize("case", [name for name in INPUTS if "x_q" not in name])
LARGE = {
    "large": draw(1, 200, 24, 40, mismatch=0.4, seed=11),
    "large, grouped": draw(2, 100, 16, 40, mismatch=0.4, seed=12),
}
large = pytest.mark.parametrize("case", LARGE)


def error(given: Inputs, q: QTensor | Tensor) -> Tensor:
    values = q.dequantize() if isinstance(q, QTensor) else q
    return output_error(given.weight, values, given.x, given.x_q)


def run(method, given: Inputs, spec: str) -> QTensor:
    return method.round(given.weight, fitter(SPECS[spec]), given.stats)


# ------------------------------------------------------------------------------------------------
# special cases


@specs
@orders
@matched
def test_qronos_is_gptq_where_the_inputs_agree(case, order, spec):
    given = INPUTS[case]
    if case in ("few rows", "duplicate"):  # H is singular: nothing undamped is defined
        return
    assert torch.equal(
        run(Qronos(0.0, order), given, spec).codes, run(Gptq(0.0, order), given, spec).codes
    )


@specs
@orders
@matched
def test_gptaq_is_gptq_where_the_inputs_agree(case, order, spec):
    given = INPUTS[case]
    gptq = run(Gptq(order=order), given, spec).codes
    assert torch.equal(run(Gptaq(order=order, strength=1.0), given, spec).codes, gptq)


@specs
@orders
@mismatched
def test_gptaq_without_strength_is_gptqs_recursion(case, order, spec):
    given = INPUTS[case]
    grid = fitter(SPECS[spec])(given.weight)
    recursion = QTensor.nearest(Diffusion(given.stats, 0.01, order).round(given.weight, grid), grid)
    wanted = best_of(given.weight, [recursion, QTensor.nearest(given.weight, grid)], given.stats)
    assert torch.equal(run(Gptaq(strength=0.0, order=order), given, spec).codes, wanted.codes)


@specs
@pytest.mark.parametrize("case", [name for name in INPUTS if "x_q" in name])
def test_gpfq_on_float_data_knows_the_float_network_only(case, spec):
    given = INPUTS[case]
    twin = replace(given, x_q=given.x)
    assert torch.equal(run(Gpfq(data="float"), given, spec).codes, run(Gpfq(), twin, spec).codes)


@specs
@matched
def test_one_sweep_from_the_real_weights_is_gpfq(case, spec):
    given = INPUTS[case]
    once = run(Descent(sweeps=1, refit=False, start="weights", data="float"), given, spec)
    assert torch.equal(once.codes, run(Gpfq(data="float"), given, spec).codes)


@specs
@mismatched
def test_spfq_of_order_1_without_chance_is_gpfq(case, spec):
    given = INPUTS[case]
    fit = Fixed(fitter(SPECS[spec])(given.weight))
    aligned_once = Spfq(order=1, stochastic=False).round(given.weight, fit, given.stats)
    assert torch.equal(aligned_once.codes, Gpfq().round(given.weight, fit, given.stats).codes)


@pytest.mark.parametrize("spec", ["int4", "ternary", "int4 tensor", "levels"])
@pytest.mark.parametrize("method", [Gpfq, Gptq, Gptaq, Qronos])
def test_the_diagonal_order_is_the_natural_one_of_permuted_columns(method, spec):
    given = LARGE["large"]
    order = given.stats.H[0].diagonal().argsort(descending=True)
    permuted = Inputs(given.x[:, :, order], given.x_q[:, :, order], given.weight[:, order])
    fit = Fixed(fitter(SPECS[spec])(given.weight))
    by_power = method(order="diagonal").round(given.weight, fit, given.stats).codes
    assert torch.equal(
        by_power[:, order],
        method(order="natural").round(permuted.weight, fit, permuted.stats).codes,
    )


# ------------------------------------------------------------------------------------------------
# references


@specs
@orders
@large
@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_gptaq_is_its_formula(case, order, spec, strength):
    given = LARGE[case]
    grid = fitter(SPECS[spec])(given.weight)
    codes = reference.gptaq(given.weight, grid, given.x, given.x_q, 0.02, strength, order)
    wanted = QTensor(codes.to(grid.spec.alphabet.code_dtype), grid)
    wanted = best_of(given.weight, [wanted, QTensor.nearest(given.weight, grid)], given.stats)
    got = run(Gptaq(damping=0.02, strength=strength, order=order), given, spec)
    same_codes(got, wanted.codes.long(), grid, given.weight, given)


@specs
@orders
@large
def test_qronos_is_its_definition(case, order, spec):
    given = LARGE[case]
    grid = fitter(SPECS[spec])(given.weight)
    got = QTensor.nearest(first_exact(given.weight, grid, given.stats, 0.0, order), grid)
    same_codes(
        got,
        reference.qronos(given.weight, grid, given.x, given.x_q, order),
        grid,
        given.weight,
        given,
    )


PENALIZED = [spec for spec in SPECS if spec in ("int4", "ternary", "int4 tensor")]


@specs
@large
@pytest.mark.parametrize("penalty", [0.01, 0.1])
def test_gpfq_with_l1_pays_for_the_size_of_codes(case, spec, penalty):
    given = LARGE[case]
    grid = fitter(SPECS[spec])(given.weight)
    codes = reference.gpfq(
        given.weight, grid, given.x, given.x_q, lambda choices: 2 * penalty * choices.abs()
    )
    same_codes(
        run(Gpfq(regularizer="L1", penalty=penalty), given, spec), codes, grid, given.weight, given
    )


@pytest.mark.parametrize("spec", PENALIZED)
@large
@pytest.mark.parametrize("penalty", [0.001, 0.02])
def test_gpfq_with_l0_pays_for_codes_that_are_not_zero(case, spec, penalty):
    given = LARGE[case]
    got = run(Gpfq(regularizer="L0", penalty=penalty), given, spec)
    codes = reference.gpfq(
        given.weight, got.grid, given.x, given.x_q, lambda choices: penalty**2 * (choices != 0)
    )
    same_codes(got, codes, got.grid, given.weight, given)


@pytest.mark.parametrize("sweeps", [1, 3])
@large
def test_alignment_is_gauss_seidel_along_the_path(case, sweeps):
    given = LARGE[case]
    got = align(given.weight, given.stats, sweeps)
    each = given.weight.shape[0] // given.x.shape[0]
    for row, w in enumerate(given.weight.double()):
        x, x_q = given.x[row // each], given.x_q[row // each]
        a, u = torch.zeros_like(w), torch.zeros(len(x), dtype=torch.float64)
        for number in range(sweeps):
            for t in range(len(w)):
                u = u + (a[t] * x_q[:, t] if number else w[t] * x[:, t])
                a[t] = x_q[:, t] @ u / x_q[:, t].square().sum()
                u = u - a[t] * x_q[:, t]
        torch.testing.assert_close(got[row].double(), a, rtol=1e-5, atol=1e-6)


@large
def test_alignment_tends_to_least_squares(case):
    given = LARGE[case]
    target = reference.corrected_target(given.weight, given.x, given.x_q, 0.0)
    distances = [
        float((align(given.weight, given.stats, n).double() - target).norm())
        for n in (1, 10, 100, 3000)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4 * float(target.norm())


# ------------------------------------------------------------------------------------------------
# sweeps


@specs
@pytest.mark.parametrize("case", INPUTS)
def test_sweeps_never_raise_the_error(case, spec):
    given = INPUTS[case]
    grid = fitter(SPECS[spec])(given.weight)
    steps, pulls = sweeps.unit_diagonal(
        given.stats.grouped(given.weight) @ given.stats.G.mT, given.stats
    )
    q = given.stats.grouped(grid.quantize(given.weight)).float()
    columns = Columns(grid, tuple(q.shape), torch.float32)
    noise = 1e-6 * error(given, torch.zeros_like(given.weight))
    before = error(given, q.reshape(given.weight.shape))
    for _ in range(6):
        q = sweeps.sweep(pulls, q, steps, columns)
        after = error(given, q.reshape(given.weight.shape))
        assert bool((after <= before + noise).all())
        before = after


@pytest.mark.parametrize("order", ["natural", "greedy"])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("start", ["nearest", "weights"])
@specs
@large
def test_more_sweeps_of_descent_are_no_worse(case, spec, start, refit, order):
    given = LARGE[case]
    errors = [
        error(
            given, run(Descent(sweeps=n, order=order, refit=refit, start=start), given, spec)
        ).sum()
        for n in (1, 2, 4, 8)
    ]
    assert all(b <= a * (1 + 1e-6) for a, b in pairwise(errors))
    assert errors[0] < error(given, run(Nearest(), given, spec)).sum()


def cosines(given: Inputs, q: QTensor) -> Tensor:
    """Between X w and X_q times the codes' numbers, of each row."""
    wanted, got = (
        outputs(given.weight, given.x),
        outputs(q.grid.units(q.codes), given.x_q),
    )
    return (wanted * got).sum(0) / (wanted.norm(dim=0) * got.norm(dim=0))


BEACONS = ["int4", "uint2", "ternary", "levels"]


@pytest.mark.parametrize("spec", BEACONS)
@large
def test_beacons_sweeps_never_lower_the_cosine(case, spec):
    given = LARGE[case]
    found = [cosines(given, run(Beacon(sweeps=n), given, spec)) for n in range(6)]
    assert all(bool((b >= a - 1e-12).all()) for a, b in pairwise(found))
    assert bool((found[-1] > found[0]).any())


@pytest.mark.parametrize("first", ["proportional", "smallest"])
@pytest.mark.parametrize("spec", BEACONS)
@large
def test_beacons_sweeps_never_raise_the_error_of_a_greedy_start(case, spec, first):
    given = LARGE[case]
    errors = [error(given, run(Beacon(n, "greedy", first), given, spec)) for n in range(6)]
    assert all(bool((b <= a * (1 + 1e-6)).all()) for a, b in pairwise(errors))


@pytest.mark.parametrize("start", ["nearest", "greedy"])
@pytest.mark.parametrize("spec", BEACONS)
def test_beacon_ends_where_no_other_code_has_a_better_angle(spec, start):
    given = LARGE["large"]
    q = run(Beacon(sweeps=60, start=start), given, spec)
    own, wanted = (
        cosines(given, q),
        QTensor.nearest(given.weight, fitter(SPECS[spec])(given.weight)),
    )
    ours = (q.codes != wanted.codes).any(1)  # rows that are not nearest's
    assert int(ours.sum()) > 20
    for t in range(q.codes.shape[1]):
        for code in range(q.grid.spec.alphabet.qmin, q.grid.spec.alphabet.qmax + 1):
            codes = q.codes.clone()
            codes[:, t] = code
            other = cosines(given, QTensor(codes, q.grid))
            assert bool((other <= own + 1e-9)[ours & ~other.isnan()].all())


def test_adaround_is_never_worse_than_corrected():
    better = 0
    for name, given in {**INPUTS, **LARGE}.items():
        for spec in ("ternary", "uint3 groups", "int4 tensor"):
            start, learned = (
                shrunk(given.stats).output_error(given.weight, rounded.dequantize())
                for rounded in (run(each, given, spec) for each in (Corrected(), Adaround(60)))
            )
            if spec == "int4 tensor":
                start, learned = start.sum(), learned.sum()
            assert bool((learned <= start * (1 + 1e-6) + 1e-12).all()), (name, spec)
            better += int((learned < start * 0.999).sum())
    assert better > 0


@pytest.mark.parametrize("mix", [False, True], ids=["independent", "correlated"])
@pytest.mark.parametrize("m", [16, 64, 256])
def test_few_samples_do_not_mislead_corrected(m, mix):
    """On inputs that it has not seen it is no worse than nearest, whose error no sample shapes."""
    generator = torch.Generator().manual_seed(m)
    x = torch.randn(1, m + 2000, 128, generator=generator)
    if mix:
        x = (x * torch.arange(1, 129) ** -0.7) @ torch.randn(128, 128, generator=generator)
    seen, fresh = x[:, :m], x[:, m:]
    weight = torch.randn(32, 128, generator=generator)
    stats, fit = layer_stats(seen, seen), fitter(GridSpec(Uniform(8), PerChannel()))
    corrected, nearest = (
        output_error(weight, method.round(weight, fit, stats).dequantize(), fresh, fresh).sum()
        for method in (Corrected(), Nearest())
    )
    assert corrected < (0.7 if mix else 1.02) * nearest


@specs
@large
def test_corrected_is_never_worse_than_its_start(case, spec):
    """Neither damped nor shrunk, where its objective is the output error but for a constant."""
    given, fit = LARGE[case], fitter(SPECS[spec])

    def left(sweeps: int) -> Tensor:
        method = Corrected(0.0, sweeps, (1.0,))
        return error(given, method.round(given.weight, fit, given.trusted))

    start = left(0)
    for count in (1, 4):
        swept = left(count)
        if spec == "int4 tensor":
            start, swept = start.sum(), swept.sum()
        assert bool((swept <= start * (1 + 1e-6)).all())
        assert swept.sum() < start.sum()
