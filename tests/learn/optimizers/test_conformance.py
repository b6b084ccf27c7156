"""What every optimizer in the dictionary promises: a new one is tested by being in it."""

import copy
import io
import pickle
from dataclasses import fields
from functools import cache

import pytest
import torch
from tests.optim.cases import ON_STALL, copies, nothing_read, parameters, run, same, set_gradients

from subbyte.errors import RecipeError
from subbyte.io.registry import build_method
from subbyte.learn.optimizers import OPTIMIZERS, QSGD, GridSettings, GridSGD, Lattice, QtAdamW
from subbyte.learn.optimizers.schedules import SCHEDULES

BY_TENSOR = ON_STALL | {"scope": "tensor"}
TABLE = {"name": "table", "at": [1, 4, 9]}
LATTICES = [
    {"rounding": "stochastic", "schedule": BY_TENSOR},
    {"rounding": "stochastic", "schedule": ON_STALL, "error_feedback": True},
    {"rounding": "gaussian", "schedule": ON_STALL},
    {"rounding": "half-even", "schedule": TABLE, "error_feedback": True},
    {"resolution": 19, "schedule": {"name": "epochs", "steps": 7}},
    {"schedule": "annealing"},
    {"compat": "2021"},
    {"compat": "2023", "epoch_steps": 7, "warm_up": 1.0},
]
GRIDS = [
    {"resolution": 4, "schedule": ON_STALL},
    {"resolution": 3, "schedule": BY_TENSOR, "granularity": "tensor", "rounding": "half-even"},
    {"bits": 3, "extra_bits": 0, "rounding": "half-up", "schedule": "fixed"},
    {"bits": 8, "extra_bits": 7, "resolution": 9, "schedule": TABLE, "reach": 1.5},
]
OTHERS = {
    "sgd": [{"nesterov": True}],
    "qsgd": [s if "compat" in s else s | {"momentum": 0.9, "weight_decay": 0.1} for s in LATTICES],
    "qtadamw": LATTICES,
    "grid-sgd": GRIDS,
    "grid-adamw": GRIDS,
}
CASES = [(name, settings) for name in OPTIMIZERS for settings in ({}, *OTHERS.get(name, []))]
every_optimizer = pytest.mark.parametrize(
    ("name", "settings"),
    CASES,
    ids=[f"{name} {' '.join(map(str, s.values()))}" for name, s in CASES],
)


def build(name: str, settings: dict, params: list[torch.Tensor], lr: float = 0.05):
    """Matrices are weights of layers."""
    layers = [p for p in params if p.ndim > 1]
    return build_method(OPTIMIZERS, {"name": name, **settings}, "optimizer").build(
        params, layers, lr
    )


STEPS = 13


def trained(name: str, settings: dict) -> list[torch.Tensor]:
    params = parameters()
    run(build(name, settings, params), params, range(STEPS))
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
def test_a_run_that_goes_on_ends_as_if_it_had_not_stopped(name, settings, stop):
    """Bit for bit, in the middle of a window, by a file that holds no code; seeds and settings come
    from the file.
    """
    whole, params = trained_before(CASES.index((name, settings))), parameters()
    first = build(name, settings, params)
    run(first, params, range(stop))
    resumed = parameters(seed=1)
    second = build(name, settings, resumed, lr=0.5)
    for p, saved in zip(resumed, params, strict=True):
        p.data.copy_(saved.data)
    second.load_state_dict(through_a_file(first.state_dict()))
    run(second, resumed, range(stop, STEPS))
    assert same(resumed, whole)
    assert not same(resumed, params)


@every_optimizer
def test_the_same_seed_gives_the_same_bytes(name, settings):
    assert same(trained(name, settings), trained_before(CASES.index((name, settings))))


@every_optimizer
def test_another_seed_gives_another_run_where_rounding_is_random(name, settings):
    if "seed" not in {field.name for field in fields(OPTIMIZERS[name])} or "compat" in settings:
        return
    rounding = build_method(OPTIMIZERS, {"name": name, **settings}, "optimizer").rounding
    other = trained(name, settings | {"seed": 1})
    assert same(other, trained_before(CASES.index((name, settings)))) == rounding.startswith("half")


@every_optimizer
def test_every_step_draws_numbers_of_its_own(name, settings):
    """The same gradient twice is rounded otherwise where rounding is random."""
    method = build_method(OPTIMIZERS, {"name": name, **settings}, "optimizer")
    if getattr(method, "rounding", "half-up").startswith("half") or "compat" in settings:
        return
    params = [torch.zeros(40, 50, requires_grad=True)]
    params[0].data[:, ::2] = 1  # grids have a scale
    optimizer, places = build(name, settings, params, lr=0.005), []
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
def test_a_closure_is_called_with_gradients_and_its_loss_returned(name, settings):
    params, plain = parameters(), parameters()
    optimizer, other = build(name, settings, params), build(name, settings, plain)
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
def test_weights_move(name, settings):
    start, params = parameters(), parameters()
    run(build(name, settings, params, lr=0.4), params, range(STEPS))
    assert all(
        bool((a != b).double().mean() > 0.5)
        for a, b in zip(start, params, strict=True)
        if a.ndim > 1
    )
    assert all(bool(torch.isfinite(p).all()) for p in params)


@every_optimizer
def test_without_gradients_nothing_happens(name, settings):
    params = parameters()
    optimizer = build(name, settings, params)
    if "compat" in settings:
        return  # these count calls
    before = copies(params)
    optimizer.step()
    assert same(params, before)
    run(optimizer, params, range(5))
    other = parameters()
    run(build(name, settings, other), other, range(5))
    assert same(params, other)


@every_optimizer
def test_negative_learning_rates_are_an_error(name, settings):
    if "compat" in settings:
        return  # tests/optim/test_compat.py
    with pytest.raises(ValueError, match=r"lr must be 0 or more|Invalid learning rate"):
        build(name, settings, parameters(), lr=-0.1)


@pytest.mark.parametrize(
    "schedule", [*(name for name in SCHEDULES if name != "table"), TABLE, BY_TENSOR], ids=str
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
        (
            "sgdd",
            "optimizer: unknown method 'sgdd'; known: sgd, adam, adamw, qsgd, qtadamw, grid-sgd, "
            "grid-adamw",
        ),
        (
            {"name": "qsgd", "resolutoin": 3},
            "optimizer qsgd: unknown setting 'resolutoin'; known: resolution, base",
        ),
        ({"name": "sgd", "lr": 3}, "unknown setting 'lr'"),
        (
            {"name": "qsgd", "schedule": "sometimes"},
            "schedule: unknown method 'sometimes'; known: on-stall",
        ),
        (
            {"name": "qsgd", "schedule": {"name": "table", "when": [3]}},
            "schedule table: unknown setting 'when'",
        ),
        ({"name": "qtadamw", "rounding": "up"}, "unknown rounding 'up'; known: half-up, half-even"),
        ({"name": "qsgd", "resolution": 40}, "resolution 40 is above the cap of 32"),
        ({"name": "qsgd", "resolution": "fine"}, "qsgd: resolution: .*got 'fine'"),
        ({"name": "qsgd", "momentum": float("nan")}, "momentum: must be a finite number"),
        ({"name": "qsgd", "compat": "2022"}, "compat: .*got '2022'"),
        ({"name": "grid-sgd", "rounding": "gaussian"}, "gaussian noise leaves the grid"),
        ({"name": "grid-sgd", "bits": 1}, "bits must be from 2 to 8"),
        ({"name": "grid-sgd", "bits": 9}, "bits must be from 2 to 8"),
        ({"name": "grid-adamw", "bits": 8, "extra_bits": 8}, "their sum at most 15; got 8 and 8"),
        ({"name": "grid-adamw", "extra_bits": -1}, "extra_bits 0 or more"),
        ({"name": "grid-sgd", "reach": 0.0}, "reach must be a positive number, got 0.0"),
        ({"name": "grid-sgd", "reach": -2.0}, "reach must be a positive number"),
        ({"name": "grid-sgd", "resolution": 9}, "resolution 9 is above the cap of 8"),
        ({"name": "grid-sgd", "resolution": 0}, "1 or more, got 0"),
        ({"name": "grid-sgd", "granularity": "group"}, "granularity"),
        ({"name": "grid-sgd", "schedule": "sometimes"}, "schedule: unknown method 'sometimes'"),
    ],
    ids=str,
)
def test_bad_recipes_are_an_error(method, message):
    with pytest.raises(RecipeError, match=message):
        build_method(OPTIMIZERS, method, "optimizer")


def test_a_network_without_layers_can_t_be_put_on_a_grid():
    for name in ("grid-sgd", "grid-adamw"):
        with pytest.raises(RecipeError, match="no layer to put on a grid"):
            build_method(OPTIMIZERS, name, "optimizer").build(parameters(), [], 0.1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_setting_reaches_the_optimizer(name):
    """Of param groups, one by one, but for those of the published forms."""
    others = {
        "momentum": 0.7,
        "dampening": 0.2,
        "weight_decay": 0.3,
        "betas": (0.5, 0.6),
        "eps": 0.1,
        "resolution": 5,
        "base": 3,
        "eta": 2.0,
        "schedule": "fixed",
        "rounding": "half-even",
        "error_feedback": True,
        "cap": 9,
        "seed": 8,
        "bits": 3,
        "extra_bits": 2,
        "granularity": "tensor",
        "reach": 1.5,
    }
    known = {field.name for field in fields(OPTIMIZERS[name])} - {
        "compat",
        "epoch_steps",
        "warm_up",
        "kappa",
        "nesterov",
    }
    settings = {key: value for key, value in others.items() if key in known}
    assert set(settings) == known
    found = build(name, settings, parameters()).param_groups[0]
    assert {key: found[key] for key in known} == settings
    if "nesterov" in {field.name for field in fields(OPTIMIZERS[name])}:
        assert build(name, {"nesterov": True, "momentum": 0.9}, parameters()).param_groups[0][
            "nesterov"
        ]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_copies_go_on_as_the_original_does(name, how):
    params = parameters([(3, 4), (5,)])
    optimizer = build_method(OPTIMIZERS, name, "optimizer").build(params, params[:1], 0.1)
    run(optimizer, params, range(3))
    pair = params, optimizer
    copied = copy.deepcopy(pair) if how == "copy" else pickle.loads(pickle.dumps(pair))
    run(optimizer, params, range(3, 6))
    run(copied[1], copied[0], range(3, 6))
    assert same(params, copied[0])


@pytest.mark.parametrize(
    "name", ["sgd", "adam", "adamw", "qsgd", "qtadamw", "grid-sgd", "grid-adamw"]
)
def test_settings_out_of_range_are_our_errors(name):
    method = build_method(OPTIMIZERS, {"name": name, "weight_decay": -1.0}, "optimizer")
    with pytest.raises(RecipeError, match=r"weight_decay"):
        params = parameters([(3, 4)])
        method.build(params, params, 0.1)
