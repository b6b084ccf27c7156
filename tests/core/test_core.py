"""Every alphabet on every share against slow float64 definitions."""

import pytest
import torch

from subbyte.core import GridSpec, QTensor, pack, packed_bytes, unpack
from subbyte.core.grid import Grid
from subbyte.errors import FormatError, NumericsError, RecipeError
from tests.core.cases import ALPHABETS, COLUMNS, ROWS, SHARES, SPECS, grid_of, random
from tests.reference.grids import assert_nearest, positions, representable, spread
from tests.reference.packing import pack_digits

every = pytest.mark.parametrize("name", SPECS)
SHAPE = (ROWS, COLUMNS)


def values_around(grid: Grid, seed: int = 0) -> torch.Tensor:
    """Random values that cover the grid's range and go half as far again."""
    values = representable(grid, SHAPE)
    low, high = values.amin(-1), torch.where(values < torch.inf, values, -torch.inf).amax(-1)
    uniform = 2 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) - 1
    return ((low + high) / 2 + 1.5 * ((high - low) / 2 + 1e-3) * uniform).float()


def every_code(grid: Grid) -> torch.Tensor:
    """The codes of a row side by side, the row's last one repeated: [ROWS, count]."""
    low, high = (end if end.ndim else end.expand(ROWS, 1) for end in grid.ends)
    low, high = low[:, :1], high[:, :1]
    codes = torch.arange(grid.spec.alphabet.count)[None] + low
    return torch.minimum(codes, high).to(grid.spec.alphabet.code_dtype)


@every
@pytest.mark.parametrize("seed", range(3))
def test_values_go_to_the_nearest_numbers_there_are(name, seed):
    grid = grid_of(name, seed)
    x = values_around(grid, seed)
    before = [t.clone() for t in (x, grid.scale, grid.zero_point, grid.own)]
    codes = grid.encode(x)
    assert codes.dtype == grid.spec.alphabet.code_dtype and codes.shape == x.shape
    assert_nearest(codes, x, grid)
    once = grid.quantize(x)
    assert once.dtype == torch.float32 and torch.equal(grid.quantize(once), once)
    assert torch.equal(once, grid.decode(codes))
    steps = x / spread(grid.scale, grid, SHAPE).float()
    assert torch.equal(grid.ladder(COLUMNS).nearest(steps), grid.units(codes))
    after = (x, grid.scale, grid.zero_point, grid.own)
    assert all(map(torch.equal, before, after))


@every
def test_codes_stand_for_what_the_definition_says_and_survive(name):
    grid = grid_of(name)
    codes = every_code(grid)[:, :COLUMNS]
    width = codes.shape[1]
    wanted = representable(grid, (ROWS, width))
    index = codes.long()[..., None] - grid.spec.alphabet.qmin
    expected = wanted.gather(-1, index)[..., 0]
    torch.testing.assert_close(grid.decode(codes).double(), expected, rtol=1e-6, atol=1e-30)
    assert torch.equal(grid.encode(grid.decode(codes)), codes)
    low, high = (end.double().expand_as(grid.scale) for end in grid.reach)
    zero_point = grid.zero_point.double() * grid.scale
    units = positions(grid.spec.alphabet, grid.own)
    ends = (
        units.amin(1, keepdim=True),
        torch.where(units < torch.inf, units, -torch.inf).amax(1, keepdim=True),
    )
    for end, unit in zip((low, high), ends, strict=True):
        unit = unit[0, 0] if len(unit) == 1 else unit
        torch.testing.assert_close(end, unit * grid.scale.double() - zero_point)


@every
def test_infinities_and_huge_values_saturate_and_nan_is_counted(name):
    grid = grid_of(name)
    low, high = (grid.spread(end, COLUMNS).expand(SHAPE) for end in grid.ends)
    for value in (torch.inf, 1e300):
        ends = (torch.full(SHAPE, sign * value, dtype=torch.float64) for sign in (-1, 1))
        assert all(map(torch.equal, (grid.encode(x).int() for x in ends), (low, high)))
    x = torch.zeros(SHAPE)
    x[1, 2:4] = torch.nan
    with pytest.raises(NumericsError, match=f"2 of {ROWS * COLUMNS}"):
        grid.encode(x)


@every
def test_random_rounding_takes_both_neighbours_in_proportion(name):
    grid = grid_of(name)
    ladder, x = grid.ladder(COLUMNS), values_around(grid, 5)
    x = torch.minimum(torch.maximum(x, grid.spread(grid.reach[0], COLUMNS)), x.abs())
    steps = (x / grid.spread(grid.scale, COLUMNS)).clamp_max(2**20)
    nearest = ladder.nearest(steps.clone())
    up = ladder.either(steps.clone(), torch.zeros(SHAPE) + 0.999999)
    down = ladder.either(steps.clone(), torch.zeros(SHAPE))
    taken = torch.stack([up, down])
    assert bool((taken == nearest).any(0).all())
    assert torch.equal(ladder.nearest(taken[0].clone()), taken[0])
    assert torch.equal(ladder.nearest(taken[1].clone()), taken[1])


@every
def test_codes_come_back_from_the_bytes_that_the_layout_says(name):
    grid = grid_of(name)
    codes = grid.encode(values_around(grid, 2))
    packed = pack(codes, grid)
    low, high = (end.expand(ROWS, 1)[:, 0] if end.ndim == 0 else end[:, 0] for end in grid.ends)
    counts = (high - low + 1).tolist()
    runs = sorted(set(counts) - {1}) if grid.spec.alphabet.varies else counts[:1]
    wanted = b""
    for base in runs:
        rows = [k for k in range(ROWS) if counts[k] == base]
        wanted += pack_digits((codes.int() - low[:, None])[rows].flatten().tolist(), base)
    assert bytes(packed.tolist()) == wanted and packed_bytes(grid, SHAPE) == len(wanted)
    again = unpack(packed, grid, SHAPE)
    assert torch.equal(again, codes) and again.dtype == codes.dtype
    for wrong in (packed[:-1], torch.cat([packed, packed[:1]]), packed.int()):
        with pytest.raises(FormatError, match=f"take {len(packed)} bytes"):
            unpack(wrong, grid, SHAPE)
    stored = sum(t.numel() * t.element_size() for t in grid.stored.values())
    assert QTensor(codes, grid).nbytes == len(packed) + stored + grid.spec.alphabet.nbytes


@every
def test_grids_come_back_from_plain_values_and_stored_tensors(name):
    grid = grid_of(name)
    spec = GridSpec.from_dict(grid.spec.to_dict())
    assert spec == grid.spec and hash(spec) == hash(grid.spec)
    again = Grid.of_stored(spec, grid.stored)
    for part in ("scale", "zero_point", "own"):
        mine, theirs = getattr(grid, part), getattr(again, part)
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)
    assert again.label == grid.label and again.words == grid.words


@every
def test_another_scale_keeps_the_rest(name):
    grid = grid_of(name)
    doubled = grid.with_scale(2 * grid.scale.double())
    codes = grid.encode(values_around(grid, 3))
    assert doubled.scale.dtype == torch.float32 and torch.equal(doubled.own, grid.own)
    assert torch.equal(doubled.decode(codes), 2 * grid.decode(codes))
    with pytest.raises(NumericsError, match="positive"):
        grid.with_scale(0 * grid.scale)


@every
def test_zero_points_and_own_numbers_must_fit(name):
    grid = grid_of(name)
    low, high = map(torch.as_tensor, grid.spec.alphabet.zero_ends(grid.own))
    for zero in (int(low.min()) - 1, int(high.max()) + 1, 2**40):
        with pytest.raises(RecipeError, match=rf"{int(low.min())}\.\.{int(high.max())}"):
            Grid.of(grid.spec, grid.scale, torch.full(grid.scale.shape, zero), grid.own)
    with pytest.raises(RecipeError, match="differ"):
        Grid.of(grid.spec, grid.scale, torch.zeros(3, 4, 5), grid.own)
    for wrong in (grid.own[:, :0] if grid.own.numel() else torch.ones(1, 1), -grid.own - 1):
        if wrong.numel() or grid.own.numel():
            with pytest.raises(RecipeError):
                Grid.of(grid.spec, grid.scale, None, wrong)


@every
def test_whole_numbers_stand_for_the_levels(name):
    grid = grid_of(name)
    integers = grid.spec.alphabet.integers
    steps = grid.units(grid.encode(values_around(grid, 4))) + grid.spread(grid.zero_point, COLUMNS)
    if integers is None:
        assert not torch.equal(steps, steps.round())
        return
    whole = steps * integers.per_step
    assert torch.equal(whole, whole.round())
    assert integers.low <= int(whole.min()) and int(whole.max()) <= integers.high
    torch.testing.assert_close(grid.step * integers.per_step, grid.scale)


@pytest.mark.parametrize("name", ALPHABETS)
def test_the_code_type_holds_every_code(name):
    alphabet = ALPHABETS[name]
    codes = torch.arange(alphabet.qmin, alphabet.qmax + 1)
    assert torch.equal(codes.to(alphabet.code_dtype).long(), codes)
    assert len(codes) == alphabet.count and alphabet.width <= 9


@pytest.mark.parametrize("name", SHARES)
def test_blocks_sums_and_scales_belong_together(name):
    share, x = SHARES[name], random(SHAPE, 9)
    sums = share.sums(x)
    torch.testing.assert_close(share.shaped(share.blocks(x).sum(1), ROWS), sums)
    assert share.spread(sums, COLUMNS).expand(SHAPE).shape == SHAPE
    assert (share.one_scale, share.by_row) == (sums.ndim == 0, sums.shape == (ROWS, 1))
    assert share.flat(sums).shape == ((ROWS,) if share.by_row else sums.shape)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["int4", "asymmetric uint2", "levels7", "codebook11"])
def test_one_scale_fits_tensors_of_any_shape_and_type(name, dtype, shape):
    grid = grid_of(f"{name}, tensor")
    x = random(shape, 0).to(dtype)
    codes = grid.encode(x)
    assert codes.shape == grid.decode(codes).shape == x.shape
    assert grid.decode(codes).dtype == torch.float32
    if x.numel():
        assert_nearest(codes, x, grid)
