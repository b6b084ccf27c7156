"""Weights on a grid: where they start, what an update does to their codes, and that they never
leave it.
"""

import pytest
import torch

from subbyte.core import GridSpec, PerChannel, Uniform, share_of
from subbyte.errors import NumericsError, RecipeError
from subbyte.learn.optimizers import GridAdamW, GridSettings, GridSGD
from subbyte.ranges import Exact, Mse, fit_grid
from tests.learn.optimizers.cases import (
    ON_STALL,
    apart,
    copies,
    move,
    normal,
    parameters,
    run,
    same,
    set_gradients,
)
from tests.reference.updates import OnGrid, latent, nearest

both = pytest.mark.parametrize("cls", [GridSGD, GridAdamW])
granularities = pytest.mark.parametrize("granularity", ["tensor", "channel"])
BITS = [(2, 0), (2, 6), (3, 4), (4, 0), (4, 4), (8, 0), (8, 7)]


def exact(bits: int = 4, *, rows: int = 3, columns: int = 8, seed: int = 0) -> torch.Tensor:
    """A matrix on a grid whose scales are 2^-4, 2^-5 ..., by row: its lowest codes show them."""
    half = 2 ** (bits - 1)
    codes = torch.randint(
        -half, half, (rows, columns), generator=torch.Generator().manual_seed(seed)
    ).float()
    codes[:, 0] = -half
    return codes * 2.0 ** -(4 + torch.arange(rows)[:, None])


def start(
    weight: torch.Tensor, lr: float = 0.25, *, momentum: float = 0.0, **settings
) -> tuple[GridSGD, torch.Tensor]:
    p = weight.clone().requires_grad_()
    settings = {"rounding": "half-up"} | settings
    return GridSGD([p], lr, momentum=momentum, settings=GridSettings(**settings)), p


def fine_codes(optimizer, group: int = 0) -> torch.Tensor:
    return optimizer.group_state(optimizer.param_groups[group])["codes"]


def rows_of(p: torch.Tensor, granularity: str) -> torch.Tensor:
    """[rows that share a scale, columns]."""
    rows = p.shape[0] if p.ndim > 1 and granularity == "channel" else 1
    return p.detach().reshape(rows, -1)


def assert_on_grid(optimizer, params: list[torch.Tensor], bits: int, granularity: str) -> None:
    """Each row has at most 2^bits values, whole multiples of its scale."""
    assert optimizer.off_grid() == 0
    found = {id(p): q for p, q in optimizer.quantized()}
    for p in params:
        rows, scales = rows_of(p, granularity), found[id(p)].grid.scale.reshape(-1)
        assert len(scales) == len(rows)
        for row, scale in zip(rows, scales.tolist(), strict=True):
            assert len(set(row.tolist())) <= 2**bits
            for value in set(row.tolist()):
                code = round(value / scale)
                assert -(2 ** (bits - 1)) <= code < 2 ** (bits - 1)
                assert value == torch.tensor(code * scale).item()


@both
@granularities
@pytest.mark.parametrize(("bits", "extra"), BITS)
def test_weights_are_code_times_scale_at_every_moment(cls, granularity, bits, extra):
    """Through saturation, stochastic rounding, a lattice that becomes finer and tensors without
    gradients.
    """
    params = parameters()
    params[0].data = params[0].data.contiguous(memory_format=torch.channels_last)
    start_at = max(1, bits + extra - 3)
    settings = GridSettings(bits, extra, granularity, resolution=start_at, schedule=ON_STALL)
    optimizer = cls(params, 0.02, settings=settings)
    assert_on_grid(optimizer, params, bits, granularity)
    at_first = copies(params)
    for step in range(10):
        run(optimizer, params, [step], lambda t: (1, 2) if t % 3 == 1 else ())
        assert_on_grid(optimizer, params, bits, granularity)
        low, high = OnGrid(bits, extra, 0).ends
        codes = fine_codes(optimizer)
        assert codes.dtype == torch.int16
        assert (
            low <= int(codes.min())
            and int(codes.max()) <= high
            and high - low + 1 == 2 ** (bits + extra)
        )
    assert apart(params, at_first) > 0
    for p in params:  # one that knows nothing of the optimizer finds the grid as well
        fit_grid(
            Exact(),
            rows_of(p, granularity),
            GridSpec(Uniform(bits, symmetric=False), PerChannel()),
        )


@granularities
@pytest.mark.parametrize("reach", [1.0, 1.5])
@pytest.mark.parametrize(("bits", "extra"), BITS)
def test_training_starts_at_the_nearest_codes_on_the_grid_of_least_error(
    granularity, bits, extra, reach
):
    params, before = parameters(), parameters()
    optimizer = GridSGD(params, settings=GridSettings(bits, extra, granularity, reach))
    low, high = OnGrid(bits, extra, 0).ends
    codes = fine_codes(optimizer).split([p.numel() for p in params])
    for (p, q), old, fine in zip(optimizer.quantized(), before, codes, strict=True):
        matrix = old.detach().reshape(old.shape[0] if old.ndim > 1 else 1, -1)
        best = fit_grid(Mse(), matrix, GridSpec(Uniform(bits), share_of(granularity)))
        torch.testing.assert_close(q.grid.scale, best.scale * reach)
        wanted = (matrix / q.grid.scale * 2**extra).clamp(low, high)
        assert float((fine.reshape(matrix.shape) - wanted).abs().max()) <= 0.5 + 1e-3
        error = (p.detach().reshape(matrix.shape) - matrix).abs() / q.grid.scale
        inside = (matrix / q.grid.scale >= -(2 ** (bits - 1))) & (
            matrix / q.grid.scale <= 2 ** (bits - 1) - 1
        )
        assert float(error[inside].max()) <= 0.5 + 2.0**-extra / 2 * (extra > 0) + 1e-3


@granularities
@pytest.mark.parametrize(("bits", "extra"), BITS)
def test_quantized_are_the_parameters(granularity, bits, extra):
    params = [*parameters(), normal((3,), 5).requires_grad_()]
    groups = [{"params": params[:2]}, {"params": params[2:4]}, {"params": params[4:], "bits": None}]
    optimizer = GridSGD(groups, 0.05, settings=GridSettings(bits, extra, granularity))
    run(optimizer, params, range(4))
    found = optimizer.quantized()
    assert [id(p) for p, _ in found] == [id(p) for p in params[:4]]
    for p, q in found:
        rows = p.shape[0] if p.ndim > 1 else 1
        assert q.grid.spec == GridSpec(Uniform(bits), share_of(granularity))
        assert q.grid.scale.shape == ((rows, 1) if granularity == "channel" else ())
        assert q.codes.shape == (rows, p.numel() // rows) and q.codes.dtype == torch.int8
        assert torch.equal(q.dequantize().reshape(p.shape), p.detach())


def test_off_grid_counts_weights_that_left_it():
    optimizer, p = start(exact())
    assert torch.equal(p, exact()) and optimizer.off_grid() == 0
    p.data[1, 2:4] += 1e-4
    assert optimizer.off_grid() == 2


@granularities
@pytest.mark.parametrize(
    ("bits", "extra", "index"), [(4, 0, 4), (4, 0, 2), (4, 4, 8), (4, 4, 5), (2, 9, 11), (8, 3, 1)]
)
def test_updates_are_their_definition_in_fractions(granularity, bits, extra, index):
    """Code by code, with saturation; dyadic numbers, so that float32 loses nothing."""
    weight = exact(bits, rows=1 if granularity == "tensor" else 3)
    optimizer, p = start(
        weight,
        bits=bits,
        extra_bits=extra,
        granularity=granularity,
        resolution=index,
        schedule="fixed",
    )
    rule = OnGrid(bits, extra, index)
    scales = (
        (2.0 ** -(4 + torch.arange(len(weight))[:, None])).expand_as(weight).reshape(-1).tolist()
    )
    fine = [
        round(w / s * 2**extra) for w, s in zip(weight.reshape(-1).tolist(), scales, strict=True)
    ]
    assert fine_codes(optimizer).tolist() == fine
    for step in range(8):
        g = torch.round(normal(weight.shape, step) * 2.0 ** (4 - step)) / 16
        move(optimizer, p, g)
        fine = rule.moved(fine, scales, g.reshape(-1).tolist(), 0.25)
        assert fine_codes(optimizer).tolist() == fine
        assert p.reshape(-1).tolist() == [
            rule.parent(f) * s for f, s in zip(fine, scales, strict=True)
        ]


@pytest.mark.parametrize("rounding", ["half-up", "half-even", "stochastic"])
@pytest.mark.parametrize("index", [1, 4, 6, 8])
def test_a_coarse_resolution_moves_by_its_own_steps(rounding, index):
    """Changes of fine codes are multiples of 2^(b + m - index), but where codes saturate."""
    optimizer, p = start(
        exact(rows=20, columns=30), rounding=rounding, resolution=index, schedule="fixed"
    )
    low, high = OnGrid(4, 4, 0).ends
    for step in range(4):
        before = fine_codes(optimizer).int()
        move(optimizer, p, 0.05 * normal(p.shape, step))
        after = fine_codes(optimizer).int()
        free = (after > low) & (after < high)
        changes = (after - before)[free]
        assert not (changes % 2 ** (8 - index)).any()
        assert index == 8 or bool((changes % 2 ** (9 - index)).any())


def test_the_resolution_rises_to_all_bits_and_no_further():
    optimizer, p = start(
        exact(), resolution=2, bits=4, extra_bits=2, schedule=ON_STALL | {"window": 1}
    )
    found = []
    for step in range(10):
        before = fine_codes(optimizer).int()
        move(optimizer, p, 1e-4 * normal(p.shape, step))
        found.append(int(optimizer.group_state(optimizer.param_groups[0])["index"]))
        assert torch.equal(before, fine_codes(optimizer).int())
    assert found == [3, 4, 5, 6, 6, 6, 6, 6, 6, 6]


@granularities
def test_on_the_grid_itself_steps_below_half_a_step_are_lost(granularity):
    """m = 0, nearest: above half a step it moves by a whole one."""
    for part, moved in ((0.49, 0), (0.51, 1)):
        optimizer, p = start(exact(rows=1), extra_bits=0, granularity=granularity)
        p.data.zero_(), fine_codes(optimizer).zero_()
        move(optimizer, p, *[torch.full(p.shape, -part * 2.0**-4 / 0.25)] * 3)
        assert fine_codes(optimizer).tolist() == [3 * moved] * 8


@both
def test_stochastic_steps_are_kept_on_average(cls):
    """Updates of 0.3 fine steps of thousands of weights add up to 0.3 of a fine step a weight and
    update.
    """
    p = exact(rows=1, columns=4000).requires_grad_()
    fine = 2.0**-8
    lr = 0.3 * fine
    settings = {"momentum": 0.0} if cls is GridSGD else {"weight_decay": 0.0}
    optimizer = cls([p], lr, settings=GridSettings(4, 4, schedule="fixed"), **settings)
    low, high = OnGrid(4, 4, 0).ends
    before = fine_codes(optimizer).double()
    move(optimizer, p, *[torch.full(p.shape, -1.0)] * 4)  # AdamW's steps are of size lr then
    after = fine_codes(optimizer).double()
    free = (after < high) & (before > low)
    moved = (after - before)[free]
    assert (
        abs(float(moved.mean()) - 4 * 0.3) < 4.5 * (4 * 0.3 * 0.7 / int(free.sum())) ** 0.5 + 1e-3
    )
    assert set(moved.tolist()) == {0, 1, 2, 3, 4}


def test_without_end_the_nested_form_is_the_straight_through_estimator():
    """Float latent weights with the same clamp: at most half a fine step apart for every update,
    and the first.
    """
    rule, lr = OnGrid(4, 11, 15), 0.02
    weight = normal((5, 20), 1)
    optimizer, p = start(weight, lr, bits=4, extra_bits=11)
    scales = optimizer.quantized()[0][1].grid.scale.double().expand(5, 20).reshape(-1)
    gradients = [normal((5, 20), 50 + step) for step in range(60)]
    reference = latent(
        weight.double().reshape(-1).tolist(),
        scales.tolist(),
        [g.reshape(-1).tolist() for g in gradients],
        lr,
        rule,
    )
    for step, (g, wanted) in enumerate(zip(gradients, reference, strict=True), 1):
        move(optimizer, p, g)
        far = (fine_codes(optimizer).double() - torch.tensor(wanted) / scales * 2**11).abs()
        assert float(far.max()) <= (step + 1) * 0.5 + 0.01
        rounded = [float(nearest(w / s, 1)) for w, s in zip(wanted, scales.tolist(), strict=True)]
        steps_off = (p.detach().double().reshape(-1) / scales - torch.tensor(rounded)).abs().round()
        edge = (torch.tensor(wanted) / scales - 0.5) % 1
        near = torch.minimum(edge, 1 - edge) * 2**11 <= (step + 1) * 0.5 + 0.01
        assert not steps_off[~near].any() and float(steps_off.max()) <= 1
    assert float((torch.tensor(wanted) - weight.double().reshape(-1)).abs().max()) > 0.1


@pytest.mark.parametrize("extra", [0, 4])
def test_codes_saturate_at_their_ends_and_come_back(extra):
    optimizer, p = start(exact(), extra_bits=extra)
    row_scale = 2.0 ** -(4 + torch.arange(3.0)[:, None])
    low, high = OnGrid(4, extra, 0).ends
    move(optimizer, p, *[torch.full(p.shape, 1e6)] * 3)
    assert set(fine_codes(optimizer).tolist()) == {low}
    assert torch.equal(p.detach() / row_scale, torch.full((3, 8), -8.0))
    assert optimizer.telemetry().saturated == 100
    move(optimizer, p, *[torch.full(p.shape, -1e6)] * 3)
    assert set(fine_codes(optimizer).tolist()) == {high}
    assert torch.equal(p.detach() / row_scale, torch.full((3, 8), 7.0))
    assert optimizer.telemetry().saturated == 100
    move(optimizer, p, row_scale.expand(3, 8) / 0.25)
    assert torch.equal(p.detach() / row_scale, torch.full((3, 8), 6.0))
    assert optimizer.telemetry().saturated == 0


def test_telemetry_counts_codes_and_ends():
    """By hand: 3 of 24 codes move, 1 of 24 at an end; the noise is that of steps of 2^j fine
    codes.
    """
    weight = torch.zeros(3, 8)
    weight[:, 0] = -8
    weight[:, 1] = 1
    weight *= 2.0 ** -(4 + torch.arange(3)[:, None])
    optimizer, p = start(weight, extra_bits=2, resolution=5, schedule="fixed")
    low, _ = OnGrid(4, 2, 0).ends
    g = torch.zeros(3, 8)
    g[0, 3] = -1.0  # by 8 steps
    g[1, 3] = -0.01  # by .08 steps
    g[2, 0], g[2, 1] = 1.0, 2.0**-4  # to the end and beyond; by 2 steps
    move(optimizer, p, g)
    found = optimizer.telemetry()
    assert fine_codes(optimizer).tolist().count(low) == 1
    assert (found.moved, found.saturated) == (pytest.approx(100 * 3 / 24), pytest.approx(100 / 24))
    steps = [2 * 2.0 ** -(4 + row + 2) for row in range(3)]
    assert found.temperature == pytest.approx(sum(step**2 for step in steps) / 3 / (24 * 0.25))
    assert found.index == 5


@pytest.mark.parametrize(
    ("cls", "torchs", "settings"),
    [
        (GridSGD, torch.optim.SGD, {"momentum": 0.0}),
        (GridSGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (GridAdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_tensors_without_bits_move_as_with_torch(cls, torchs, settings):
    """Biases and batch-norms, next to weights on a grid."""
    ours, theirs = parameters(), parameters()
    groups = [{"params": ours[:2]}, {"params": ours[2:], "bits": None}]
    optimizer, reference = cls(groups, 0.05, **settings), torchs(theirs[2:], 0.05, **settings)
    for step in range(12):
        run(optimizer, ours, [step], lambda t: (0,) if t == 5 else ())
        run(reference, theirs, [step])
        assert apart(ours[2:], theirs[2:]) < 1e-6
    assert len(optimizer.quantized()) == 2 and optimizer.telemetry().index == 8


@both
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_direction_is_torchs(cls, weight_decay):
    """A grid of 15 bits that reaches far follows float weights to half a step, and what 20
    roundings add to that.
    """
    torchs = {GridSGD: torch.optim.SGD, GridAdamW: torch.optim.AdamW}[cls]
    settings = {"weight_decay": weight_decay} | ({"momentum": 0.9} if cls is GridSGD else {})
    ours, theirs = parameters([(4, 6)]), parameters([(4, 6)])
    optimizer = cls(
        ours, 0.02, settings=GridSettings(8, 7, reach=2.0, rounding="half-up"), **settings
    )
    reference = torchs(theirs, 0.02, **settings)
    for step in range(20):
        for params, each in ((ours, optimizer), (theirs, reference)):
            move(each, params[0], normal((4, 6), step))
    step = float(optimizer.quantized()[0][1].grid.scale.max())
    assert apart(ours, theirs) < step * (0.5 + 10.5 / 2**7 + 2 * weight_decay)
    assert apart(ours, parameters([(4, 6)])) > 2 * step


@granularities
def test_rows_have_scales_of_their_own(granularity):
    """A row is an output channel; vectors and scalars are one row."""
    params = parameters([(4, 3, 2, 2), (6,), ()])
    optimizer = GridSGD(params, settings=GridSettings(granularity=granularity))
    rows = [len(q.grid.scale.reshape(-1)) for _, q in optimizer.quantized()]
    assert rows == ([4, 1, 1] if granularity == "channel" else [1, 1, 1])
    scale = optimizer.quantized()[0][1].grid.scale
    assert len(set(scale.reshape(-1).tolist())) == rows[0]


@granularities
def test_scales_are_kept(granularity):
    """Whatever weights do."""
    params = parameters()
    optimizer = GridSGD(params, 0.3, settings=GridSettings(granularity=granularity))
    before = [q.grid.scale.clone() for _, q in optimizer.quantized()]
    run(optimizer, params, range(5))
    assert same([q.grid.scale for _, q in optimizer.quantized()], before)


@both
def test_codes_are_int16_when_a_run_goes_on(cls):
    params = parameters()
    optimizer = cls(params, settings=GridSettings(8, 7))
    run(optimizer, params, range(2))
    resumed = cls(parameters(), settings=GridSettings(8, 7))
    resumed.load_state_dict(optimizer.state_dict())
    assert fine_codes(resumed).dtype == torch.int16
    assert torch.equal(fine_codes(resumed), fine_codes(optimizer))


@pytest.mark.parametrize("where", ["same", "own group"])
def test_memory_formats_and_company_do_not_matter(where):
    """Bit for bit, where rounding does not depend on the place."""
    shape = (4, 3, 5, 2)
    plain, last = parameters([shape, (6, 2)]), parameters([shape, (6, 2)])
    last[0].data = last[0].data.to(memory_format=torch.channels_last)
    groups = [{"params": last}] if where == "same" else [{"params": last[:1]}, {"params": last[1:]}]
    settings = GridSettings(rounding="half-up")
    run(GridSGD(plain, 0.05, settings=settings), plain, range(6))
    run(GridSGD(groups, 0.05, settings=settings), last, range(6))
    assert same(plain, last) and last[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "own",
    [
        {"granularity": "tensor"},
        {"reach": 2.0},
        {"bits": 2, "extra_bits": 2},
        {"bits": 8, "extra_bits": 4},
    ],
    ids=str,
)
def test_groups_have_grids_of_their_own(own):
    """As an optimizer that is made with these settings."""
    ours, theirs = parameters(), parameters()
    groups = [{"params": ours[:1]}, {"params": ours[1:], **own}]
    optimizer = GridSGD(groups, 0.05, settings=GridSettings(rounding="half-up"))
    reference = GridSGD(theirs[1:], 0.05, settings=GridSettings(rounding="half-up", **own))
    for step in range(5):
        run(optimizer, ours, [step])
        run(reference, theirs, [step])
        assert same(ours[1:], theirs[1:]) and optimizer.off_grid() == 0


@pytest.mark.parametrize(
    "own",
    [
        {"rounding": "gaussian"},
        {"reach": -1.0},
        {"bits": 9},
        {"bits": 1},
        {"extra_bits": 12},
        {"lr": -0.1},
    ],
    ids=str,
)
def test_settings_of_groups_out_of_range_are_an_error(own):
    with pytest.raises(RecipeError):
        GridSGD([{"params": parameters(), **own}])


def test_groups_may_be_added():
    """As torch.optim.Optimizer.add_param_group says; as layers are unfrozen."""
    params = parameters()
    optimizer = GridSGD(params[:1])
    optimizer.add_param_group({"params": params[1:]})
    run(optimizer, params, range(2))
    assert optimizer.off_grid() == 0 and len(optimizer.quantized()) == len(params)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
        torch.bfloat16,
    ],
)
def test_other_dtypes_stay_on_the_grid_or_are_refused(dtype):
    params = parameters([(4, 9)], dtype=dtype)
    try:
        optimizer = GridSGD(params, 0.02, settings=GridSettings(8, 4))
    except RecipeError:
        return
    run(optimizer, params, range(3))
    assert optimizer.off_grid() == 0


def test_a_run_may_go_on_with_weights_loaded_first():
    """torch's optimizers don't mind whether the network or the optimizer is loaded first."""
    optimizer, p = start((exact() / 4).where(torch.arange(8) > 0, exact()))
    # the lowest code is -5 now
    move(optimizer, p, (torch.arange(8) == 0) * -3 * 4 * p.detach().abs() / 8)
    resumed, loaded = start(p.detach())
    resumed.load_state_dict(optimizer.state_dict())
    assert torch.equal(loaded, p) and resumed.off_grid() == 0


def test_telemetry_of_tensors_with_an_index_and_a_scale_each():
    """By hand: the first tensor at 2^-4 and 5 bits, the second at 2^-6 and 8 bits."""
    params = [exact(rows=1).requires_grad_(), (exact(rows=1) / 4).requires_grad_()]
    schedule = {"name": "on-stall", "window": 100, "scope": "tensor"}
    optimizer = GridSGD(params, 0.25, settings=GridSettings(4, 4, schedule=schedule, resolution=5))
    set_gradients(params, 0)
    optimizer.step()
    optimizer.group_state(optimizer.param_groups[0])["index"].copy_(torch.tensor([5.0, 8.0]))
    optimizer.step()
    wanted = ((2.0**-4 / 2) ** 2 + (2.0**-6 / 16) ** 2) / 2 / (24 * 0.25)
    assert optimizer.telemetry().temperature == pytest.approx(wanted)


def test_all_weights_may_stay_float():
    params = parameters()
    optimizer = GridSGD([{"params": params, "bits": None}], 0.1)
    run(optimizer, params, range(2))
    assert optimizer.off_grid() == 0 and optimizer.quantized() == []


def test_rows_of_zeros_have_the_scale_of_the_others():
    """Any scale would fit them; what they are to become is about as large as the others, not 1."""
    weight = torch.cat(
        [torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 8)]
    )
    optimizer = GridSGD([weight.clone().requires_grad_()], 0.1)
    scale = optimizer.group_state(optimizer.param_groups[0])["scale"]
    assert float(scale[3]) == pytest.approx(float(scale[:3].mean()))
    empty = GridSGD([torch.zeros(2, 16, requires_grad=True)], 0.1, settings=GridSettings(4))
    assert empty.group_state(empty.param_groups[0])["scale"].tolist() == pytest.approx(
        [1 / 4 / 7] * 2
    )


def test_a_group_that_fails_is_not_added():
    optimizer, _ = start(exact())
    with pytest.raises(NumericsError):
        optimizer.add_param_group({"params": [torch.full((2, 2), torch.nan, requires_grad=True)]})
    assert len(optimizer.param_groups) == 1
