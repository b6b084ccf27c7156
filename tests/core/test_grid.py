"""Rounding to a grid and back, against brute force, torch and ONNX Runtime."""

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from subbyte.core import Grid, GridSpec
from subbyte.errors import NumericsError, RecipeError
from tests.reference.examples import examples
from tests.reference.grids import assert_nearest, representable, spread

LEVELS = {
    2: (-1.0, 1.0),
    3: (-0.5, 0.0, 2.0),
    7: (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0),
    12: tuple(k * k / 7 - 3 for k in range(12)),
}


@st.composite
def specs(draw: st.DrawFn) -> GridSpec:
    granularity = draw(st.sampled_from(["tensor", "channel", "group"]))
    size = draw(st.integers(1, 9)) if granularity == "group" else None
    if draw(st.integers(0, 3)) == 0:
        levels = LEVELS[draw(st.sampled_from(list(LEVELS)))]
        return GridSpec(bits=8, levels=levels, granularity=granularity, group_size=size)
    shares = {"granularity": granularity, "group_size": size}
    if draw(st.integers(0, 3)) == 0:
        return GridSpec(bits=draw(st.integers(1, 8)), wide=True, **shares)
    signed, narrow = draw(st.booleans()), draw(st.booleans())
    bits = draw(st.integers(1 + signed, 8))
    return GridSpec(bits, signed, draw(st.booleans()), narrow and signed, **shares)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Grid, tuple[int, int], torch.Generator]:
    """A grid with scales of many sizes, the shape of a matrix that it fits, a source of random
    numbers.
    """
    spec = draw(specs())
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 13))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    groups = -(-columns // (spec.group_size or 1))
    shape = {"tensor": (), "channel": (rows, 1), "group": (rows, groups)}[spec.granularity]
    scale = torch.exp(4 * torch.randn(shape, generator=generator))
    free = not spec.symmetric and spec.levels is None
    zero = torch.randint(spec.qmin, spec.qmax + 1, shape, generator=generator) if free else None
    return Grid.of(spec, scale, zero), (rows, columns), generator


def values_around(grid: Grid, shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Random values that cover the grid's range and go half as far again."""
    values = representable(grid, shape)
    low, high = values.amin(-1), values.amax(-1)
    middle, half = (low + high) / 2, (high - low) / 2
    uniform = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    return (middle + 1.5 * half * uniform).float()


@examples(150)
@given(grids())
def test_encode_finds_the_nearest_of_all_values(drawn):
    grid, shape, generator = drawn
    x = values_around(grid, shape, generator)
    assert_nearest(grid.encode(x), x, grid)


@examples(150)
@given(grids())
def test_decode_is_the_formula(drawn):
    grid, shape, generator = drawn
    codes = torch.randint(grid.spec.qmin, grid.spec.qmax + 1, shape, generator=generator)
    codes = codes.to(grid.spec.code_dtype)
    expected = representable(grid, shape).gather(-1, codes.long()[..., None] - grid.spec.qmin)[
        ..., 0
    ]
    torch.testing.assert_close(grid.decode(codes).double(), expected, rtol=1e-6, atol=0)
    assert grid.decode(codes).dtype == torch.float32
    torch.testing.assert_close(
        grid.units(codes).double() * spread(grid.scale, grid, shape), expected, rtol=1e-6, atol=0
    )


@examples(150)
@given(grids())
def test_every_code_survives_decode_and_encode(drawn):
    grid, (rows, columns), _ = drawn
    for code in range(grid.spec.qmin, grid.spec.qmax + 1):
        codes = torch.full((rows, columns), code, dtype=torch.int32).to(grid.spec.code_dtype)
        again = grid.encode(grid.decode(codes))
        assert torch.equal(again, codes) and again.dtype == grid.spec.code_dtype


@examples(100)
@given(grids())
def test_zero_is_exact_on_uniform_grids(drawn):
    grid, shape, _ = drawn
    if grid.spec.levels is None:
        assert torch.equal(grid.quantize(torch.zeros(shape)), torch.zeros(shape))


@examples(100)
@given(grids())
def test_inside_the_range_the_error_is_at_most_half_a_step(drawn):
    grid, shape, generator = drawn
    values = representable(grid, shape)
    low, high = values.amin(-1), values.amax(-1)
    x = (low + torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low)).float()
    step = (values[..., 1:] - values[..., :-1]).amax(-1)
    error = (grid.quantize(x).double() - x.double()).abs()
    assert bool((error <= step / 2 + 1e-6 * (x.double().abs() + step)).all())


@examples(100)
@given(grids())
def test_quantize_is_idempotent_and_changes_no_argument(drawn):
    grid, shape, generator = drawn
    x = values_around(grid, shape, generator)
    before = [t.clone() for t in (x, grid.scale, grid.zero_point)]
    once = grid.quantize(x)
    assert all(
        torch.equal(a, b) for a, b in zip(before, (x, grid.scale, grid.zero_point), strict=True)
    )
    assert (
        torch.equal(grid.quantize(once), once)
        and once.shape == x.shape
        and once.dtype == torch.float32
    )
    assert torch.equal(once, grid.decode(grid.encode(x)))


@examples(100)
@given(grids())
def test_infinities_and_huge_values_saturate(drawn):
    grid, shape, _ = drawn
    for value in (float("inf"), 1e300, 3e38):
        assert bool(
            (grid.encode(torch.full(shape, value, dtype=torch.float64)) == grid.spec.qmax).all()
        )
        assert bool(
            (grid.encode(torch.full(shape, -value, dtype=torch.float64)) == grid.spec.qmin).all()
        )


@pytest.mark.parametrize("zero", [-3, 0, 2])
@pytest.mark.parametrize("scale", [0.25, 1.0, 8.0])
def test_ties_go_to_the_even_multiple_of_the_scale(scale, zero):
    grid = Grid.of(GridSpec(bits=4, symmetric=False), torch.tensor(scale), torch.tensor(zero))
    halves = [k + 0.5 for k in range(-14, 14)]
    # Python, too, rounds half to even
    expected = [max(-8, min(7, round(half) + zero)) for half in halves]
    assert grid.encode(torch.tensor(halves) * scale).tolist() == expected


@pytest.mark.parametrize("scale", [0.25, 1.0, 8.0])
def test_ties_between_levels_go_to_the_lower_one(scale):
    levels = (-1.5, -0.25, 0.0, 0.5, 2.0)
    grid = Grid.of(GridSpec(bits=3, levels=levels), torch.tensor(scale))
    middles = torch.tensor([(a + b) / 2 for a, b in pairwise(levels)]) * scale
    assert grid.encode(middles).tolist() == [0, 1, 2, 3]
    assert grid.encode(torch.nextafter(middles, torch.tensor(torch.inf))).tolist() == [1, 2, 3, 4]


def test_a_ragged_last_group_has_its_own_scale():
    spec = GridSpec(bits=4, granularity="group", group_size=3)
    grid = Grid.of(spec, torch.tensor([[1.0, 10.0], [2.0, 20.0]]))
    assert grid.encode(torch.full((2, 5), 20.0)).tolist() == [[7, 7, 7, 2, 2], [7, 7, 7, 1, 1]]
    assert grid.decode(torch.ones(2, 5, dtype=torch.int8)).tolist() == [
        [1, 1, 1, 10, 10],
        [2, 2, 2, 20, 20],
    ]
    assert grid.spread(grid.scale, 5).shape == (2, 5)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "spec",
    [GridSpec(bits=4), GridSpec(bits=3, signed=False), GridSpec.level_set((-1, 0, 2), "tensor")],
)
def test_one_scale_fits_tensors_of_any_shape_and_type(spec, dtype, shape):
    grid = Grid.of(spec, torch.tensor(0.25))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    codes = grid.encode(x)
    assert codes.shape == x.shape and codes.dtype == spec.code_dtype
    assert grid.decode(codes).shape == x.shape and grid.decode(codes).dtype == torch.float32
    if x.numel():
        assert_nearest(codes, x, grid)


@pytest.mark.parametrize("spec", [GridSpec(bits=4), GridSpec.level_set((0, 1), "tensor")])
def test_nan_is_refused_and_counted(spec):
    grid = Grid.of(spec, torch.tensor(1.0))
    with pytest.raises(NumericsError, match="2 of 5"):
        grid.encode(torch.tensor([0.0, torch.nan, 1.0, torch.nan, torch.inf]))


@pytest.mark.parametrize(
    ("bad", "shown"),
    [(0.0, "0"), (-1.0, "-1"), (torch.nan, "nan"), (torch.inf, "inf"), (1e-60, "0")],
)
def test_scales_must_be_positive_and_finite(bad, shown):
    spec = GridSpec(granularity="channel")
    with pytest.raises(NumericsError, match=shown):
        Grid.of(spec, torch.tensor([[1.0], [bad]], dtype=torch.float64))
    with pytest.raises(NumericsError):
        Grid.of(spec, torch.ones(2, 1)).with_scale(torch.tensor([[1.0], [bad]]))


@pytest.mark.parametrize(
    ("spec", "zero", "shown"),
    [
        (GridSpec(bits=4, symmetric=False), 8, "-8..7, got values from 8"),
        (GridSpec(bits=4, symmetric=False), -9, "-8..7, got values from -9"),
        (GridSpec(bits=4, signed=False, symmetric=False), -1, "0..15, got values from -1"),
        (GridSpec(bits=4, signed=False, symmetric=False), 16, "0..15, got values from 16"),
        (GridSpec(bits=4, narrow=True, symmetric=False), -8, "-7..7"),
        (GridSpec(bits=4), 1, "0..0, got values from 1"),
        (GridSpec(bits=2, symmetric=False, levels=(0.0, 1.0)), 1, "0..0, got values from 1"),
        (GridSpec(bits=8, symmetric=False), 2**32, "-128..127"),
        (GridSpec(bits=8, symmetric=False), -(2**33) + 5, "-128..127"),
    ],
)
def test_zero_points_out_of_range_are_refused(spec, zero, shown):
    with pytest.raises(RecipeError) as caught:
        Grid.of(spec, torch.tensor(1.0), torch.tensor(zero))
    assert shown in str(caught.value)


@pytest.mark.parametrize("bits", range(1, 9))
def test_all_zero_points_in_range_are_taken(bits):
    spec = GridSpec(bits=bits, signed=False, symmetric=False)
    for zero in (spec.qmin, spec.qmax):
        assert Grid.of(spec, torch.tensor(1.0), torch.tensor(zero)).zero_point.item() == zero


def test_scale_and_zero_point_have_one_shape():
    spec = GridSpec(granularity="channel", symmetric=False)
    with pytest.raises(RecipeError, match=r"\(2,\).*\(2, 1\)"):
        Grid.of(spec, torch.ones(2, 1), torch.zeros(2))


def test_of_converts_and_with_scale_keeps_the_rest():
    spec = GridSpec(granularity="channel", symmetric=False)
    grid = Grid.of(spec, torch.ones(2, 1, dtype=torch.float64), torch.tensor([[3], [-4]]))
    assert grid.scale.dtype == torch.float32 and grid.zero_point.dtype == torch.int32
    doubled = grid.with_scale(torch.full((2, 1), 2.0, dtype=torch.float64))
    assert doubled.scale.tolist() == [[2.0], [2.0]] and doubled.scale.dtype == torch.float32
    assert doubled.zero_point.tolist() == [[3], [-4]] and doubled.spec == spec
    assert grid.scale.tolist() == [[1.0], [1.0]]
    with pytest.raises(RecipeError):
        grid.with_scale(torch.tensor(2.0))


def onnx_codes(x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and values by ONNX Runtime's QuantizeLinear and DequantizeLinear, one scale a row or in
    all.
    """
    axis = {"axis": 0} if scale.ndim else {}
    code_type = helper.np_dtype_to_tensor_dtype(zero.dtype)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], **axis),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["values"], **axis),
        ],
        "quantize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [
            helper.make_tensor_value_info("codes", code_type, list(x.shape)),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, list(x.shape)),
        ],
        [onnx.numpy_helper.from_array(scale, "scale"), onnx.numpy_helper.from_array(zero, "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    codes, values = session.run(None, {"x": x})
    return codes, values


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_codes_are_those_of_onnx_runtime(signed, granularity):
    generator = torch.Generator().manual_seed(1)
    shape = () if granularity == "tensor" else (6, 1)
    scale = (
        torch.tensor(0.5).expand(shape).clone()
        if granularity == "tensor"
        else torch.rand(shape, generator=generator) + 0.01
    )
    spec = GridSpec(8, signed, False, granularity=granularity)
    grid = Grid.of(spec, scale, torch.randint(spec.qmin, spec.qmax, shape, generator=generator))
    ties = (torch.arange(-400, 400) + 0.5) * scale
    x = torch.cat([100 * torch.randn(6, 800, generator=generator), ties.expand(6, 800)], 1)
    x[:, :2] = torch.tensor([3e38, -3e38])
    code_type = np.int8 if signed else np.uint8
    flat = [grid.scale.reshape(-1).numpy(), grid.zero_point.reshape(-1).numpy().astype(code_type)]
    scale_and_zero = [a[0] if granularity == "tensor" else a for a in map(np.asarray, flat)]
    codes, values = onnx_codes(x.numpy(), *map(np.asarray, scale_and_zero))
    np.testing.assert_array_equal(grid.encode(x).numpy(), codes)
    np.testing.assert_array_equal(grid.quantize(x).numpy(), values)


@pytest.mark.parametrize(
    "spec",
    [
        GridSpec(8),
        GridSpec(8, False),
        GridSpec(4, True, False),
        GridSpec(4, False, False),
        GridSpec(3, narrow=True),
        GridSpec.ternary("tensor"),
        GridSpec(1, False),
    ],
)
def test_values_are_those_of_torch_up_to_ties(spec):
    generator = torch.Generator().manual_seed(2)
    zero = torch.tensor(0 if spec.symmetric else spec.qmin + 2)
    grid = Grid.of(spec, torch.tensor(0.0371), zero)
    x = torch.randn(4000, generator=generator) * 0.0371 * spec.count
    away = ((x.double() / 0.0371) % 1 - 0.5).abs() > 1e-3
    theirs = torch.fake_quantize_per_tensor_affine(
        x, grid.scale, grid.zero_point, spec.qmin, spec.qmax
    )
    assert int(away.sum()) > 3900
    torch.testing.assert_close(grid.quantize(x)[away], theirs[away], rtol=1e-6, atol=0)


def random_codebook(granularity: str, count: int, seed: int) -> Grid:
    """Four rows of levels at unequal distances."""
    generator = torch.Generator().manual_seed(seed)
    rows = 1 if granularity == "tensor" else 4
    codebook = (torch.rand(rows, count, generator=generator) + 0.01).cumsum(1) - count / 4
    shape = () if granularity == "tensor" else (4, 1)
    scale = torch.rand(shape, generator=generator) + 0.5
    return Grid.of(GridSpec.fitted(count, granularity), scale, codebook=codebook)


codebooks = pytest.mark.parametrize("granularity", ["tensor", "channel"])


@codebooks
@pytest.mark.parametrize("count", [2, 3, 11, 256])
def test_codebooks_round_to_the_nearest_level_of_their_row(granularity, count):
    grid = random_codebook(granularity, count, count)
    x = torch.randn(4, 300, generator=torch.Generator().manual_seed(1)) * count / 4
    x[:, 0], x[:, 1] = torch.inf, -torch.inf
    levels = (grid.codebook * grid.scale).double().expand(4, -1)
    distance = (levels[:, None] - x.double().clamp(-1e30, 1e30)[..., None]).abs()
    codes = grid.encode(x)
    assert codes.dtype == torch.uint8 and codes.shape == x.shape
    chosen = distance.gather(2, codes.long()[..., None])[..., 0]
    assert bool((chosen <= distance.amin(2) + 1e-6 * (1 + x.double().abs())).all())
    assert bool((codes[:, 0] == count - 1).all()) and not codes[:, 1].any()
    torch.testing.assert_close(
        grid.decode(codes).double(), levels.gather(1, codes.long()), rtol=1e-6, atol=0
    )
    assert torch.equal(grid.quantize(x), grid.units(codes) * grid.scale)


@codebooks
@pytest.mark.parametrize("count", [2, 5, 256])
def test_every_code_of_a_codebook_survives_decode_and_encode(granularity, count):
    grid = random_codebook(granularity, count, 100 + count)
    codes = torch.arange(count, dtype=torch.uint8).expand(4, -1)
    assert torch.equal(grid.encode(grid.decode(codes)), codes)


@codebooks
def test_ties_in_a_codebook_go_to_the_lower_level(granularity):
    levels = torch.tensor([[-1.5, -0.25, 0.0, 0.5, 2.0]])
    codebook = levels if granularity == "tensor" else torch.cat([levels, 2 * levels])
    scale = torch.tensor(0.5) if granularity == "tensor" else torch.tensor([[0.5], [0.25]])
    grid = Grid.of(GridSpec.fitted(5, granularity), scale, codebook=codebook)
    middles = torch.tensor([[(a + b) / 2 for a, b in pairwise(levels[0].tolist())]] * 2) / 2
    assert grid.encode(middles).tolist() == [[0, 1, 2, 3]] * 2
    assert (
        grid.encode(torch.nextafter(middles, torch.tensor(torch.inf))).tolist()
        == [[1, 2, 3, 4]] * 2
    )


def test_a_tensors_codebook_fits_tensors_of_any_shape():
    grid = random_codebook("tensor", 7, 3)
    for shape in ((), (0,), (5,), (2, 3, 4, 5)):
        codes = grid.encode(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        assert codes.shape == grid.decode(codes).shape == shape


@codebooks
def test_codebooks_refuse_nan_and_keep_their_levels_on_another_scale(granularity):
    grid = random_codebook(granularity, 4, 5)
    with pytest.raises(NumericsError, match="1 of 8"):
        grid.encode(torch.tensor([[0.0, torch.nan], [1, 2], [3, 4], [5, 6]]))
    doubled = grid.with_scale(2 * grid.scale)
    assert torch.equal(doubled.codebook, grid.codebook) and torch.equal(
        grid.to("cpu").codebook, grid.codebook
    )
    codes = torch.tensor([[0, 1, 2, 3]] * 4)
    assert torch.equal(doubled.decode(codes), 2 * grid.decode(codes))


@pytest.mark.parametrize(
    ("granularity", "codebook"),
    [
        ("tensor", None),
        ("tensor", [[0.0, 1.0]]),
        ("tensor", [0.0, 1.0, 2.0]),
        ("tensor", [[0.0, 1.0, 2.0]] * 2),
        ("tensor", [[0.0, 2.0, 1.0]]),
        ("tensor", [[0.0, 1.0, 1.0]]),
        ("tensor", [[0.0, 1.0, 1.0 + 1e-12]]),  # equal in float32
        ("tensor", [[0.0, float("nan"), 1.0]]),
        ("channel", [[0.0, 1.0, 2.0]]),
        ("channel", [[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]]),
    ],
)
def test_codebooks_that_do_not_fit_are_refused(granularity, codebook):
    scale = torch.tensor(1.0) if granularity == "tensor" else torch.ones(2, 1)
    given = None if codebook is None else torch.tensor(codebook, dtype=torch.float64)
    with pytest.raises(RecipeError, match="codebook"):
        Grid.of(GridSpec.fitted(3, granularity), scale, codebook=given)


def test_codebooks_are_finite_and_go_with_their_spec():
    with pytest.raises(NumericsError, match="codebook"):
        Grid.of(
            GridSpec.fitted(2, "tensor"),
            torch.tensor(1.0),
            codebook=torch.tensor([[0.0, torch.inf]]),
        )
    for spec in (GridSpec(bits=2), GridSpec.level_set((0, 1), "tensor")):
        with pytest.raises(RecipeError, match="codebook"):
            Grid.of(spec, torch.tensor(1.0), codebook=torch.tensor([[0.0, 1.0]]))
    with pytest.raises(RecipeError, match=r"0\.\.0"):
        Grid.of(
            GridSpec.fitted(2, "tensor"),
            torch.tensor(1.0),
            torch.tensor(1),
            torch.tensor([[0.0, 1.0]]),
        )
