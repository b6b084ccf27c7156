"""QSGD and QtAdamW: traces, what they have in common with torch's optimizers, what rounding does to
a run.
"""

import pytest
import torch

from subbyte.errors import RecipeError
from subbyte.learn.optimizers import QSGD, Lattice, QtAdamW
from tests.learn.optimizers.cases import (
    FINE,
    apart,
    copies,
    move,
    normal,
    parameters,
    run,
    same,
    set_gradients,
)
from tests.reference.updates import nearest

NO_ERRORS = 2e-6
"""What 20 steps on a lattice of 2^-26, and operations in another order, may add up to in
float32.
"""

SGD = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.8, "dampening": 0.5, "weight_decay": 0.1},
]
ADAMW = [{}, {"weight_decay": 0.3}, {"betas": (0.5, 0.9)}, {"eps": 0.1}]
PAIRS = [(QSGD, torch.optim.SGD, s) for s in SGD] + [(QtAdamW, torch.optim.AdamW, s) for s in ADAMW]
like_torch = pytest.mark.parametrize(("cls", "torchs", "settings"), PAIRS)
both = pytest.mark.parametrize("cls", [QSGD, QtAdamW])


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def parabola(x: float, lattice: Lattice, steps: int) -> list[float]:
    """f = x^2 / 2 from x at lr .1, without repetitions."""
    p, trace = vector(x), []
    optimizer = QSGD([p], 0.1, lattice=lattice)
    for _ in range(steps):
        move(optimizer, p, p.detach())
        trace += [p.item()] if [p.item()] != trace[-1:] else []
    return trace


STUCK = [1.75, 1.625, 1.5, 1.375, 1.25, 1.125, 1, 0.875, 0.75, 0.625]
FINER = [0.5625, 0.5, 0.4375, 0.375, 0.3125, 0.28125, 0.25, 0.21875, 0.1875, 0.15625, 0.140625]


def test_below_half_a_step_nothing_moves():
    """O8; the side whose ties go away from 0 comes one step nearer."""
    lattice = Lattice(3, schedule="fixed")
    assert parabola(2.0, lattice, 100) == STUCK
    assert parabola(-2.0, lattice, 100) == [-x for x in STUCK] + [-0.5]


def test_a_finer_lattice_goes_on():
    """O8 with index + 1 after every step in which nothing moved."""
    lattice = Lattice(3, schedule={"name": "on-stall", "share": 0.0, "window": 1})
    assert parabola(2.0, lattice, 40)[: len(STUCK + FINER)] == STUCK + FINER


def test_gaussian_noise_has_the_stationary_variance_of_the_theory():
    """O10: 1 / (12 Qp^2 (2 lr - lr^2)) on f = x^2 / 2."""
    count = 40_000
    p = torch.zeros(count, requires_grad=True)
    optimizer = QSGD([p], 0.1, lattice=Lattice(3, schedule="fixed", rounding="gaussian"))
    for _ in range(60):  # .9^120 of the start is left
        move(optimizer, p, p.detach())
    assert float(p.detach().var()) == pytest.approx(0.0068531, rel=4.5 * (2 / count) ** 0.5)


def indices(optimizer: QSGD) -> list[int]:
    """Of the step to come, by tensor."""
    group, layout = optimizer.param_groups[0], optimizer.layout(0)
    found = torch.as_tensor(optimizer.index(layout, group, optimizer.group_state(group)))
    return found.expand(len(layout.sizes)).int().tolist()


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize(
    "schedule",
    [
        "fixed",
        {"name": "table", "at": [4, 7]},
        {"name": "on-stall", "share": 0.7, "window": 3, "scope": "tensor"},
    ],
)
def test_error_feedback_is_rounding_of_latent_weights(schedule, momentum):
    """O12: w = Q(w_0 + sum h) after every step, bit for bit; the lattice may become finer
    meanwhile.
    """
    params, seen = [vector(1.0, -0.5, 0.25, 0.0), vector(2.0, -3.25)], set()
    lattice = Lattice(2, schedule=schedule, error_feedback=True)
    optimizer = QSGD(params, 0.25, lattice=lattice, momentum=momentum)
    latent, velocity = [p.detach().double() for p in params], [torch.zeros(4), torch.zeros(2)]
    for step in range(12):  # momentum takes a bit a step, of float32's 24
        before = indices(optimizer)
        for k, p in enumerate(params):
            p.grad = torch.round(normal(p.shape, 2 * step + k) * 4) / 8
            velocity[k] = momentum * velocity[k] + p.grad
            latent[k] = latent[k] - 0.25 * velocity[k].double()
        optimizer.step()
        for p, exact, index in zip(params, latent, before, strict=True):
            assert p.tolist() == [float(nearest(x, 2.0**index)) for x in exact.tolist()]
        seen |= set(before)
    assert len(seen) > 1 or schedule == "fixed"


@both
@pytest.mark.parametrize("error_feedback", [False, True])
@pytest.mark.parametrize("rounding", ["half-up", "half-even", "stochastic"])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_weights_that_start_on_the_lattice_stay_on_it(cls, rounding, error_feedback, scope):
    """O13, with decay and updates of all sizes."""
    cap, params = 10, parameters()
    for p in params:
        p.data = torch.round(p.data * 2.0**cap) / 2.0**cap
    schedule = {"name": "on-stall", "share": 0.99, "window": 3, "scope": scope}
    lattice = Lattice(
        1, schedule=schedule, rounding=rounding, error_feedback=error_feedback, cap=cap
    )
    optimizer, start = cls(params, 0.03, weight_decay=0.1, lattice=lattice), copies(params)
    for step in range(30):
        run(optimizer, params, [step])
        assert all(bool((p.detach() * 2.0**cap % 1 == 0).all()) for p in params)
    assert max(indices(optimizer)) == cap and apart(params, start) > 0.1


@like_torch
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fine_lattice_is_no_lattice(cls, torchs, settings, dtype):
    ours, theirs = parameters(dtype=dtype), parameters(dtype=dtype)
    optimizer, reference = (
        cls(ours, 0.05, lattice=Lattice(**FINE), **settings),
        torchs(theirs, 0.05, **settings),
    )
    start = copies(ours)
    for step in range(20):
        run(optimizer, ours, [step])
        run(reference, theirs, [step])
        assert apart(ours, theirs) < NO_ERRORS
    assert apart(ours, start) > 0.1


@pytest.mark.parametrize("error_feedback", [False, True])
@pytest.mark.parametrize(
    "schedule",
    ["fixed", {"name": "table", "at": [0]}, "on-stall", {"name": "on-stall", "scope": "tensor"}],
)
@pytest.mark.parametrize(("base", "eta"), [(2, 1.0), (2, 0.3), (3, 1.0), (10, 7.0)])
def test_steps_of_the_lattice_are_one_over_eta_times_a_power_of_the_base(
    base, eta, schedule, error_feedback
):
    start = 3 if schedule == {"name": "table", "at": [0]} else 4
    lattice = Lattice(start, base=base, eta=eta, schedule=schedule, error_feedback=error_feedback)
    params, step = (
        [torch.zeros(4, requires_grad=True), torch.zeros(1, requires_grad=True)],
        1 / (eta * base**4),
    )
    optimizer = QSGD(params, 0.5, lattice=lattice)
    params[0].grad, params[1].grad = (
        torch.tensor([0.9, -1.1, 2.9, -7.1]) * step,
        torch.tensor([-3.1]) * step,
    )
    optimizer.step()
    moved = torch.cat([p.detach() for p in params])
    torch.testing.assert_close(moved, torch.tensor([0.0, 1, -1, 4, 2]) * step, rtol=1e-5, atol=0)


@both
@pytest.mark.parametrize(
    "schedule", ["fixed", {"name": "table", "at": [3]}, {"name": "on-stall", "scope": "tensor"}]
)
@pytest.mark.parametrize("error_feedback", [False, True])
def test_every_way_through_the_code_rounds_alike(cls, schedule, error_feedback):
    """A lattice of 2^-26 again: all of these are torch's optimizers."""
    torchs = {QSGD: torch.optim.SGD, QtAdamW: torch.optim.AdamW}[cls]
    ours, theirs = parameters(), parameters()
    lattice = Lattice(26, schedule=schedule, error_feedback=error_feedback)
    run(cls(ours, 0.05, weight_decay=0.1, lattice=lattice), ours, range(10))
    run(torchs(theirs, 0.05, weight_decay=0.1), theirs, range(10))
    assert apart(ours, theirs) < NO_ERRORS


def test_param_groups_have_settings_of_their_own():
    """Rate, momentum and lattice; a group that is as coarse as its steps are small stays where it
    is.
    """
    ours, theirs = parameters(), parameters()
    own = [
        {"lr": 0.2, "momentum": 0.5},
        {"weight_decay": 0.3, "momentum": 0.9, "nesterov": True},
        {},
    ]
    split = [[0, 1], [2], [3]]
    grouped = [
        [{"params": [p[k] for k in ks], **s} for ks, s in zip(split, own, strict=True)]
        for p in (ours, theirs)
    ]
    optimizer = QSGD(grouped[0], 0.05, lattice=Lattice(**FINE))
    optimizer.param_groups[2] |= {"resolution": -6}
    before = ours[3].detach().clone()
    run(optimizer, ours, range(20))
    run(torch.optim.SGD(grouped[1], 0.05), theirs, range(20))
    assert apart(ours[:3], theirs[:3]) < NO_ERRORS
    assert torch.equal(ours[3], before)


def test_a_learning_rate_that_changes_is_followed():
    """With every schedule, between measurements too."""
    for schedule in (
        "fixed",
        {"name": "on-stall", "window": 3, "scope": "tensor"},
        {"name": "on-stall", "window": 3},
    ):
        ours, theirs = parameters(), parameters()
        pair = QSGD(ours, 0.1, lattice=Lattice(26, schedule=schedule)), torch.optim.SGD(theirs, 0.1)
        courses = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9) for optimizer in pair]
        for step in range(9):
            for optimizer, params, course in zip(pair, (ours, theirs), courses, strict=True):
                run(optimizer, params, [step])
                course.step()
            assert apart(ours, theirs) < NO_ERRORS


@both
def test_memory_formats_do_not_matter(cls):
    """Bit for bit, gradients of either format."""
    plain, last = parameters([(4, 3, 5, 2), (6,)]), parameters([(4, 3, 5, 2), (6,)])
    last[0].data = last[0].data.to(memory_format=torch.channels_last)
    lattice = Lattice(4, rounding="stochastic", error_feedback=True)
    first, second = (
        cls(params, 0.1, weight_decay=0.1, lattice=lattice) for params in (plain, last)
    )
    for step in range(5):
        run(first, plain, [step])
        set_gradients(last, step)
        if step % 2:
            last[0].grad = last[0].grad.contiguous(memory_format=torch.channels_last)
        second.step()
        assert same(plain, last)
    assert last[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_number_is_rounded_by_itself(dtype):
    """Whatever the shapes that they lie in: a scalar, a vector and a matrix, against one vector of
    all.
    """
    several = parameters([(), (3,), (2, 4)], dtype=dtype)
    whole = [torch.cat([p.detach().reshape(-1) for p in several]).requires_grad_()]
    first, second = (
        QSGD(params, 0.3, lattice=Lattice(3), momentum=0.9) for params in (several, whole)
    )
    for step in range(6):
        set_gradients(several, step)
        whole[0].grad = torch.cat([p.grad.reshape(-1) for p in several])
        first.step()
        second.step()
        assert torch.equal(torch.cat([p.detach().reshape(-1) for p in several]), whole[0])


MISSED = {1: (0, 2), 4: (0, 1, 2, 3), 5: (2,), 6: (0, 2), 9: (3,)}
"""Numbers of steps, and of the tensors without a gradient in them; all have one in step 0."""


@pytest.mark.parametrize(
    ("cls", "torchs", "settings"),
    PAIRS,
)
def test_tensors_without_a_gradient_wait_as_in_torch(cls, torchs, settings):
    ours, theirs = parameters(), parameters()
    run(
        cls(ours, 0.05, lattice=Lattice(**FINE), **settings),
        ours,
        range(12),
        lambda step: MISSED.get(step, ()),
    )
    run(torchs(theirs, 0.05, **settings), theirs, range(12), lambda step: MISSED.get(step, ()))
    assert apart(ours, theirs) < NO_ERRORS


@pytest.mark.parametrize(
    ("cls", "torchs", "settings"),
    [
        (QSGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (QSGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
        (QSGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (QtAdamW, torch.optim.AdamW, {}),
    ],
)
def test_tensors_whose_first_gradient_comes_late_start_as_in_torch(cls, torchs, settings):
    ours, theirs = parameters(), parameters()
    run(
        cls(ours, 0.05, lattice=Lattice(**FINE), **settings),
        ours,
        range(6),
        lambda step: (0, 1) if step < 2 else (),
    )
    run(torchs(theirs, 0.05, **settings), theirs, range(6), lambda step: (0, 1) if step < 2 else ())
    assert apart(ours, theirs) < NO_ERRORS


@pytest.mark.parametrize("rounding", ["half-up", "stochastic", "gaussian"])
@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (QSGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (QtAdamW, {"weight_decay": 0.1}),
    ],
)
@pytest.mark.parametrize("error_feedback", [False, True])
def test_tensors_without_a_gradient_are_left_alone(cls, settings, rounding, error_feedback):
    """Exactly: weights, momentum and error."""
    lattice = Lattice(2, rounding=rounding, error_feedback=error_feedback)
    params = parameters()
    optimizer = cls(params, 0.1, lattice=lattice, **settings)
    run(optimizer, params, range(3))
    group, names = optimizer.param_groups[0], ["momentum"] if cls is QSGD else ["mean", "square"]
    names += ["error"] if error_feedback else []
    start = 4 * 3 * 3 * 3 + 5
    for step, without in enumerate([(0, 1), (0, 1), (0, 1, 2)], 3):
        before = [p.detach().clone() for p in params]
        kept = {
            name: value.clone()
            for name, value in optimizer.group_state(group).items()
            if value.numel() > start
        }
        run(optimizer, params, [step], lambda _, none=without: none)
        assert same(params[:2], before[:2]) and not torch.equal(params[3], before[3])
        for name, value in kept.items():
            assert torch.equal(optimizer.group_state(group)[name][:start], value[:start]), name
        assert set(kept) >= set(names)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (QSGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (QtAdamW, {}),
        (QSGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ],
)
def test_nothing_is_kept_of_tensors_that_have_had_no_gradient(cls, settings):
    params = parameters([(3, 4), (5,)])
    optimizer = cls(params, 0.1, lattice=Lattice(**FINE, error_feedback=True), **settings)
    run(optimizer, params, range(1), lambda _: (1,))
    state = optimizer.group_state(optimizer.param_groups[0])
    for name in ["momentum", "error"] if cls is QSGD else ["mean", "square", "error"]:
        assert state[name][:12].any() and not state[name][12:].any(), name


@pytest.mark.parametrize("count", [2, 1])
@pytest.mark.parametrize(
    ("cls", "settings"),
    [(QSGD, {"weight_decay": 0.1}), (QSGD, {"momentum": 0.9, "nesterov": True}), (QtAdamW, {})],
)
def test_gradients_are_not_changed(cls, settings, count):
    """They may be added to, or looked at, after a step."""
    params = parameters([(3, 4)] * count)
    optimizer = cls(params, 0.1, lattice=Lattice(**FINE), **settings)
    set_gradients(params, 0)
    before = [p.grad.clone() for p in params]
    optimizer.step()
    assert same([p.grad for p in params], before)


@both
def test_one_tensor_alone_moves_as_in_company(cls):
    ours, theirs = parameters([(3, 4)]), parameters([(3, 4), (2,)])
    lattice = Lattice(5, rounding="half-even")
    run(cls(ours, 0.1, weight_decay=0.1, lattice=lattice), ours, range(5))
    run(cls(theirs, 0.1, weight_decay=0.1, lattice=lattice), theirs, range(5))
    assert same(ours, theirs[:1])


@both
def test_sparse_gradients_are_an_error(cls):
    p = parameters([(3, 2)])[0]
    torch.nn.functional.embedding(torch.tensor([0, 2]), p, sparse=True).sum().backward()
    with pytest.raises(RecipeError, match="dense gradients"):
        cls([p, *parameters([(2,)])]).step()


@both
def test_mixed_dtypes_in_a_group_are_an_error(cls):
    params = [*parameters([(2,)]), *parameters([(2,)], dtype=torch.float64)]
    optimizer = cls(params, 0.1)
    set_gradients(params, 0)
    with pytest.raises(
        RecipeError, match=r"must share one floating dtype and device, got .*float32.*float64"
    ):
        optimizer.step()
    cls([{"params": params[:1]}, {"params": params[1:]}], 0.1).step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 33}, "resolution 33 is above the cap of 32"),
        ({"resolution": 5, "cap": 4}, "resolution 5 is above the cap of 4"),
        ({"cap": 127}, "cap must be a whole number, .* at most 126"),
        ({"base": 1}, "base must be a whole number, at least 2"),
        ({"eta": 0.0}, "eta must be a number, above 0"),
        ({"eta": float("inf")}, "eta must be a number, above 0"),
        (
            {"rounding": "up"},
            "unknown rounding 'up'; known: half-up, half-even, stochastic, gaussian",
        ),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
    ],
)
def test_bad_lattices_are_an_error(settings, message):
    with pytest.raises(RecipeError, match=message):
        Lattice(**settings)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (QSGD, {"lr": -0.1}, "lr must be 0 or more"),
        (QSGD, {"lr": float("nan")}, "lr must be 0 or more"),
        (QtAdamW, {"lr": -0.1}, "lr must be 0 or more"),
        (QSGD, {"momentum": -0.1}, "momentum must be a number, at least 0"),
        (QSGD, {"weight_decay": -0.1}, "weight_decay must be a number, at least 0"),
        (QSGD, {"nesterov": True}, "nesterov needs a momentum"),
        (QSGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs a momentum"),
        (QtAdamW, {"betas": (1.0, 0.9)}, "betas must be a number, at least 0 and below 1"),
        (QtAdamW, {"eps": 0.0}, "eps must be a number, above 0"),
        (QtAdamW, {"weight_decay": -0.1}, "weight_decay must be a number, at least 0"),
    ],
)
def test_settings_out_of_range_are_an_error(cls, settings, message):
    with pytest.raises(RecipeError, match=message):
        cls(parameters(), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1.0},
        {"momentum": -1.0},
        {"resolution": 50},
        {"rounding": "up"},
        {"schedule": "nonsense"},
        {"base": 1},
    ],
)
def test_settings_of_groups_out_of_range_are_an_error(settings):
    with pytest.raises(RecipeError):
        QSGD([{"params": parameters(), **settings}], 0.1)
