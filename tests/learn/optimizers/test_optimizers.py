"""What every optimizer in the dictionary promises: a new one is tested by being in it."""

import copy
import io
import pickle
from dataclasses import fields
from functools import cache

import pytest
import torch

from subbyte.errors import RecipeError
from subbyte.learn.optimizers import (
    OPTIMIZERS,
    QSGD,
    RESOLUTION_SCHEDULES,
    UPDATE_ROUNDINGS,
    GridSettings,
    GridSGD,
    Lattice,
    QtAdamW,
)
from subbyte.methods import Trained, Updates
from tests.learn.optimizers.cases import (
    ON_STALL,
    copies,
    nothing_read,
    parameters,
    run,
    same,
    set_gradients,
)

BY_TENSOR = ON_STALL | {"scope": "tensor"}
TABLE = {"name": "table", "at": [1, 4, 9]}
LATTICES = [
    {"rounding": "stochastic", "schedule": BY_TENSOR},
    {"rounding": "stochastic", "schedule": ON_STALL, "error_feedback": True},
    {"rounding": "gaussian", "schedule": ON_STALL},
    {"rounding": "half-even", "schedule": TABLE, "error_feedback": True},
    {"resolution": 19, "schedule": "epochs"},
    {"schedule": "annealing"},
]
GRIDS = [
    {},
    {"resolution": 4, "schedule": ON_STALL},
    {"resolution": 3, "schedule": BY_TENSOR, "granularity": "tensor", "rounding": "half-even"},
    {"bits": 3, "extra_bits": 0, "rounding": "half-up", "schedule": "fixed"},
    {"bits": 8, "extra_bits": 7, "resolution": 9, "schedule": TABLE, "reach": 1.5},
]
OTHERS = {
    "sgd": [{"nesterov": True}],
    "qsgd": [s | {"momentum": 0.9, "weight_decay": 0.1} for s in LATTICES],
    "qtadamw": LATTICES,
}
PLAIN = [(name, s, None) for name in OPTIMIZERS for s in ({}, *OTHERS.get(name, []))]
ON_GRID = [(name, {}, s) for name, cls in OPTIMIZERS.items() if cls.keeps_grid for s in GRIDS]
CASES = PLAIN + ON_GRID
"""Name, settings, and those of the grid where weights are kept on one."""
COUNT_CALLS = {name for name, cls in OPTIMIZERS.items() if "compat" in cls.__module__}
"""The published forms, for which a step without gradients is a step."""
every_optimizer = pytest.mark.parametrize(
    ("name", "settings", "grid"),
    CASES,
    ids=[f"{n} {' '.join(map(str, (s or g or {}).values()))} {g is not None}" for n, s, g in CASES],
)


def build(
    name: str,
    settings: dict,
    params: list[torch.Tensor],
    lr: float = 0.05,
    grid: dict | None = None,
    seed: int = 0,
) -> Updates:
    """Matrices are weights of layers; a seed goes where there is one."""
    trained = Trained(params, [p for p in params if p.ndim > 1], lr, steps=7, epochs=5)
    own = {"seed": seed} if "seed" in {field.name for field in fields(OPTIMIZERS[name])} else {}
    method = OPTIMIZERS.build({"name": name, **settings, **own})
    if grid is None:
        return method.build(trained)
    return method.build_on_grid(trained, GridSettings(**grid, seed=seed).for_run(7))


def rounding_of(name: str, settings: dict, grid: dict | None) -> str | None:
    """The name of the rounding of updates, where there is one."""
    if grid is not None:
        return GridSettings(**grid).rounding
    method = OPTIMIZERS.build({"name": name, **settings})
    return vars(method).get("rounding")


def draws(name: str, settings: dict, grid: dict | None) -> bool:
    rounding = rounding_of(name, settings, grid)
    return rounding is not None and UPDATE_ROUNDINGS[rounding].random


STEPS = 13


def trained(
    name: str, settings: dict, grid: dict | None = None, seed: int = 0
) -> list[torch.Tensor]:
    params = parameters()
    run(build(name, settings, params, grid=grid, seed=seed), params, range(STEPS))
    return params


@cache
def trained_before(case: int) -> list[torch.Tensor]:
    """`trained`, once for all tests; not to be changed."""
    return trained(*CASES[case])


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_optimizer
@pytest.mark.parametrize("stop", [1, 6])
def test_a_run_that_goes_on_ends_as_if_it_had_not_stopped(name, settings, grid, stop):
    """Bit for bit, in the middle of a window, by a file that holds no code; seeds and settings come
    from the file.
    """
    whole, params = trained_before(CASES.index((name, settings, grid))), parameters()
    first = build(name, settings, params, grid=grid)
    run(first, params, range(stop))
    resumed = parameters(seed=1)
    second = build(name, settings, resumed, lr=0.5, grid=grid)
    for p, saved in zip(resumed, params, strict=True):
        p.data.copy_(saved.data)
    second.load_state_dict(through_a_file(first.state_dict()))
    run(second, resumed, range(stop, STEPS))
    assert same(resumed, whole)
    assert not same(resumed, params)


@every_optimizer
def test_a_seed_decides_a_run_where_rounding_is_random_and_nothing_else_does(name, settings, grid):
    before = trained_before(CASES.index((name, settings, grid)))
    assert same(trained(name, settings, grid), before)
    other = trained(name, settings, grid, seed=1)
    assert same(other, before) != draws(name, settings, grid)


@every_optimizer
def test_every_step_draws_numbers_of_its_own(name, settings, grid):
    """The same gradient twice is rounded otherwise where rounding is random."""
    if not draws(name, settings, grid):
        return
    params = [torch.zeros(40, 50, requires_grad=True)]
    params[0].data[:, ::2] = 1  # grids have a scale
    optimizer, places = build(name, settings, params, lr=0.005, grid=grid), []
    for _ in range(3):
        places.append(
            optimizer.state[params[0]].get("codes", params[0].detach()).double().reshape(-1)
        )
        params[0].grad = torch.full((40, 50), 0.3)
        optimizer.step()
    first, second = places[1] - places[0], places[2] - places[1]
    assert len(set(first.tolist())) > 1
    assert not torch.equal(first, second)


@every_optimizer
def test_a_closure_is_called_with_gradients_and_its_loss_returned(name, settings, grid):
    params, plain = parameters(), parameters()
    optimizer, other = (build(name, settings, each, grid=grid) for each in (params, plain))
    for factor in (1.0, 2.0):

        def closure(factor=factor):
            optimizer.zero_grad()
            loss = sum((factor * p).square().sum() for p in params)
            loss.backward()
            return loss

        expected = float(sum((factor * p.detach()).square().sum() for p in params))
        assert float(optimizer.step(closure).detach()) == pytest.approx(expected)
        for p in plain:
            p.grad = 2 * factor * factor * p.detach()
        other.step()
    assert same(params, plain)


@every_optimizer
def test_weights_move_and_what_is_reported_is_of_this_world(name, settings, grid):
    start, params = parameters(), parameters()
    optimizer = build(name, settings, params, lr=0.4, grid=grid)
    run(optimizer, params, range(STEPS))
    found = optimizer.telemetry()
    shares = [share for share in (found.moved, found.saturated) if share is not None]
    assert all(0 <= share <= 100 for share in shares)
    assert (found.saturated is not None) == (grid is not None)
    assert all(
        bool((a != b).double().mean() > 0.5)
        for a, b in zip(start, params, strict=True)
        if a.ndim > 1
    )
    assert all(bool(torch.isfinite(p).all()) for p in params)


@every_optimizer
def test_without_gradients_nothing_happens(name, settings, grid):
    if name in COUNT_CALLS:
        return
    params = parameters()
    optimizer = build(name, settings, params, grid=grid)
    before = copies(params)
    optimizer.step()
    assert same(params, before)
    run(optimizer, params, range(5))
    other = parameters()
    run(build(name, settings, other, grid=grid), other, range(5))
    assert same(params, other)


@every_optimizer
def test_negative_learning_rates_are_an_error(name, settings, grid):
    with pytest.raises(RecipeError, match=r"lr must be 0 or more|Invalid learning rate"):
        build(name, settings, parameters(), lr=-0.1, grid=grid)


@pytest.mark.parametrize(
    "schedule",
    [*(name for name in RESOLUTION_SCHEDULES if name != "table"), TABLE, BY_TENSOR],
    ids=str,
)
@pytest.mark.parametrize(
    "make",
    [
        lambda p, s: QSGD(
            p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1, lattice=Lattice(2, schedule=s)
        ),
        lambda p, s: QSGD(
            p, 0.05, lattice=Lattice(2, schedule=s, rounding="stochastic", error_feedback=True)
        ),
        lambda p, s: QtAdamW(p, 0.05, lattice=Lattice(2, schedule=s, rounding="gaussian")),
        lambda p, s: GridSGD(
            [{"params": p[:2]}, {"params": p[2:], "bits": None}], settings=GridSettings(schedule=s)
        ),
        lambda p, s: GridSGD(p, settings=GridSettings(2, 9, "tensor", resolution=3, schedule=s)),
    ],
    ids=["momentum", "error feedback", "gaussian", "grid", "grid of tensors"],
)
def test_nothing_is_read_back_from_the_device(make, schedule):
    """After the first step; a tensor may be without a gradient."""
    params = parameters([(4, 3), (5, 2, 2), (6,), ()])
    optimizer = make(params, schedule)
    set_gradients(params, 0)
    optimizer.step()
    for step in range(1, 22):
        set_gradients(params, step, without=(0,) if step == 3 else ())
        with nothing_read():
            optimizer.step()


def test_the_guard_against_reading_sees_it():
    x = torch.arange(3.0)
    reads = [
        lambda: float(x.sum()),
        lambda: bool(x[0] > 0),
        lambda: x.tolist(),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: x.cpu(),
        lambda: x.numpy(),
        lambda: torch.equal(x, x),
        lambda: x.masked_fill(x > 0, 1)[x > 1],
    ]
    for read in reads:
        with nothing_read(), pytest.raises(AssertionError, match="reads from the device"):
            read()
    with nothing_read():
        x[torch.tensor([0, 2])].mul_(2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("sgdd", f"optimizer: unknown method 'sgdd'; known: {', '.join(OPTIMIZERS)}"),
        (
            {"name": "qsgd", "resolutoin": 3},
            "optimizer qsgd: unknown setting 'resolutoin'; known: resolution, base",
        ),
        ({"name": "qsgd-2021", "momentum": 0.9}, "unknown setting 'momentum'; known: resolution"),
        (
            {"name": "qsgd", "schedule": {"name": "table", "when": [3]}},
            "schedule table: unknown setting 'when'",
        ),
        ({"name": "qsgd", "resolution": "fine"}, "qsgd: resolution: .*got 'fine'"),
        ({"name": "qsgd", "momentum": float("nan")}, "momentum: must be a number"),
    ],
    ids=str,
)
def test_bad_recipes_are_an_error(method, message):
    with pytest.raises(RecipeError, match=message):
        OPTIMIZERS.build(method)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounding": "gaussian"}, "gaussian noise leaves the grid"),
        ({"rounding": "up"}, "unknown rounding 'up'; known: half-up, half-even"),
        ({"bits": 1}, "bits must be a whole number, at least 2 and at most 8"),
        ({"bits": 9}, "bits must be a whole number, at least 2 and at most 8"),
        ({"bits": 8, "extra_bits": 8}, "must be at most 15 together; got 8 and 8"),
        ({"extra_bits": -1}, "extra_bits must be a whole number, at least 0"),
        ({"reach": 0.0}, "reach must be a number, above 0 .*, got 0.0"),
        ({"resolution": 9}, "resolution 9 is above the cap of 8"),
        ({"resolution": 0}, "at least 1, got 0"),
        ({"schedule": "sometimes"}, "schedule: unknown method 'sometimes'"),
    ],
    ids=str,
)
def test_bad_grids_are_an_error(settings, message):
    with pytest.raises(RecipeError, match=message):
        GridSettings(**settings)


@pytest.mark.parametrize("name", [name for name, cls in OPTIMIZERS.items() if cls.keeps_grid])
def test_a_network_without_layers_can_t_be_put_on_a_grid(name):
    with pytest.raises(RecipeError, match="no layer to put on a grid"):
        OPTIMIZERS[name]().build_on_grid(Trained(parameters(), [], 0.1), GridSettings())


CHANGED = {
    "momentum": 0.7,
    "dampening": 0.2,
    "weight_decay": 0.3,
    "betas": (0.5, 0.6),
    "eps": 0.1,
    "resolution": 5,
    "base": 3,
    "eta": 2.0,
    "schedule": {"name": "fixed"},
    "rounding": "half-even",
    "error_feedback": True,
    "cap": 9,
    "seed": 8,
    "bits": 3,
    "extra_bits": 2,
    "granularity": "tensor",
    "reach": 1.5,
}


def names_of(cls: type) -> set[str]:
    return {field.name for field in fields(cls)} - {"nesterov"}


@pytest.mark.parametrize(
    ("name", "grid"),
    [(n, None) for n in OPTIMIZERS if n not in COUNT_CALLS]
    + [(n, GridSettings) for n, cls in OPTIMIZERS.items() if cls.keeps_grid],
)
def test_every_setting_reaches_the_optimizer(name, grid):
    """They are in its param groups, one by one."""
    cls, params = OPTIMIZERS[name], parameters()
    trained = Trained(params, [p for p in params if p.ndim > 1], 0.1)
    own = {key: CHANGED[key] for key in names_of(cls)}
    if grid is None:
        found, wanted = cls(**own).build(trained), own
    else:
        of_grid = {key: CHANGED[key] for key in names_of(grid)}
        found, wanted = cls(**own).build_on_grid(trained, grid(**of_grid)), own | of_grid
    assert {key: found.param_groups[0][key] for key in wanted} == wanted


def test_nesterov_reaches_the_optimizer():
    params = parameters([(3, 4)])
    trained, method = Trained(params, params, 0.1), OPTIMIZERS["sgd"](nesterov=True)
    for built in (method.build(trained), method.build_on_grid(trained, GridSettings())):
        assert built.param_groups[0]["nesterov"]


@pytest.mark.parametrize("how", ["copy", "pickle"])
@pytest.mark.parametrize("grid", [None, {}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_go_on_as_the_original_does(name, grid, how):
    if grid is not None and not OPTIMIZERS[name].keeps_grid:
        return
    params = parameters([(3, 4), (5,)])
    optimizer = build(name, {}, params, lr=0.1, grid=grid)
    run(optimizer, params, range(3))
    pair = params, optimizer
    copied = copy.deepcopy(pair) if how == "copy" else pickle.loads(pickle.dumps(pair))
    run(optimizer, params, range(3, 6))
    run(copied[1], copied[0], range(3, 6))
    assert same(params, copied[0])


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - COUNT_CALLS))
def test_settings_out_of_range_are_our_errors(name):
    with pytest.raises(RecipeError, match="weight_decay"):
        OPTIMIZERS[name](weight_decay=-1.0)
