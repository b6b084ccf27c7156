"""The published forms: traces, references in plain Python, and what goes wrong with them."""

from math import sqrt
from statistics import fmean, stdev

import pytest
import torch

from subbyte.compat.optimizers import Published2021, Published2023, gate_2023, resolution_2023
from subbyte.learn.optimizers import OPTIMIZERS, QSGD, Lattice
from subbyte.methods import Trained
from tests.learn.optimizers.cases import apart, move, normal, parameters, run, same
from tests.reference.updates import published_2021, published_2023

TRACE = [
    ([0.7, -0.3, 0.1, 0], [0.75, -0.25, 0.25, 0], 2),
    ([0.02, -0.01, 0.004, 0], [0.734375, -0.25, 0.25, 0], 6),
    ([0.02, -0.02, 0, 0], [0.724375, -0.24, 0.25, 0], 28),
]
START = [1, -0.5, 0.25, 0]


def vector(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def gradients(shapes: list[tuple[int, ...]], steps: int) -> list[list[torch.Tensor | None]]:
    """The second tensor has none in every third step; the last one's add up to 0 where it has two
    numbers.
    """
    found = []
    for step in range(steps):
        each: list[torch.Tensor | None] = [
            0.1 * normal(shape, 97 * step + k, torch.float64) for k, shape in enumerate(shapes)
        ]
        found.append([None if k == 1 and step % 3 == 2 else g for k, g in enumerate(each)])
    return found


def compare(optimizer, params, steps, reference) -> None:
    """Weights and index after every step."""
    for step, (weights, index) in zip(steps, reference, strict=True):
        for p, g in zip(params, step, strict=True):
            p.grad = g
        at = optimizer.index  # of the step to come, in 2023
        optimizer.step()
        assert index == (at if isinstance(optimizer, Published2023) else optimizer.index)
        wanted = [
            torch.tensor(w, dtype=torch.float64).reshape(p.shape)
            for w, p in zip(weights, params, strict=True)
        ]
        assert apart(params, wanted) < 1e-12


def test_the_trace_of_2021():
    """O6, with the sum rule's jump from 6 to 28."""
    p = vector(START)
    optimizer = Published2021([p], 0.5, resolution=2)
    for gradient, weights, index in TRACE:
        move(optimizer, p, gradient)
        torch.testing.assert_close(p.detach(), torch.tensor(weights), rtol=0, atol=2.0**-24)
        assert optimizer.index == index
    assert p.tolist()[2:] == [0.25, 0]


def test_a_rule_that_counts_does_not_run_away_on_the_same_trace():
    """O6: 2^-6 is the first step that .01 is not rounded to 0 by; there the index stays."""
    p = vector(START)
    stall = {"name": "on-stall", "share": 0.0, "window": 1}
    optimizer = QSGD([p], 0.5, lattice=Lattice(2, schedule=stall))
    move(optimizer, p, TRACE[0][0])
    assert p.tolist() == TRACE[0][1] and optimizer.telemetry().index == 2
    move(optimizer, p, TRACE[1][0], *[TRACE[2][0]] * 50)
    assert optimizer.telemetry().index == 6


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_2021_is_its_definition(adaptive, weight_decay):
    params = parameters([(3, 2), (4,), (2,)], dtype=torch.float64)
    steps = gradients([(3, 2), (4,), (2,)], 12)
    reference = published_2021(
        [p.detach().reshape(-1).tolist() for p in params],
        [[None if g is None else g.reshape(-1).tolist() for g in step] for step in steps],
        0.25,
        1,
        adaptive,
        weight_decay,
    )
    optimizer = Published2021(
        params, 0.25, resolution=1, adaptive=adaptive, weight_decay=weight_decay
    )
    compare(optimizer, params, steps, reference)
    assert optimizer.index > 2


@pytest.mark.parametrize("adaptive", [False, True])
def test_2023_is_its_definition(adaptive):
    """Over the first change of resolution and the whole of the extra step's end."""
    params = parameters([(3, 2), (4,), (2,)], dtype=torch.float64)
    steps = gradients([(3, 2), (4,), (2,)], 12)
    reference = published_2023(
        [p.detach().reshape(-1).tolist() for p in params],
        [[None if g is None else g.reshape(-1).tolist() for g in step] for step in steps],
        0.25,
        4,
        1.5,
        adaptive,
        0.1,
    )
    optimizer = Published2023(
        params, 0.25, steps=4, warm_up=1.5, adaptive=adaptive, weight_decay=0.1
    )
    compare(optimizer, params, steps, reference)


def test_2023_with_adam_but_for_the_extra_step():
    """A warm-up that ended long ago leaves none of it."""
    params = parameters([(3, 2), (4,), (2,)], dtype=torch.float64)
    steps = gradients([(3, 2), (4,), (2,)], 12)
    reference = published_2023(
        [p.detach().reshape(-1).tolist() for p in params],
        [[None if g is None else g.reshape(-1).tolist() for g in step] for step in steps],
        0.25,
        4,
        -50.0,
        True,
        0.1,
    )
    optimizer = Published2023(params, 0.25, steps=4, warm_up=-50.0, adaptive=True, weight_decay=0.1)
    compare(optimizer, params, steps, reference)


@pytest.mark.parametrize(("epoch", "factor"), [(39, 0.982014), (40, 0.5), (41, 0.017986)])
def test_the_gate_of_2023(epoch, factor):
    """O5, its tanh form."""
    assert gate_2023(epoch, 40, 2.0) == pytest.approx(factor, abs=1e-6)


def test_the_gate_of_2023_with_half_the_slope():
    """O5: the exp form has kappa where this one has 2 kappa."""
    found = [gate_2023(epoch, 40, 1.0) for epoch in (39, 40, 41)]
    assert found == pytest.approx([0.880797, 0.5, 0.119203], abs=1e-6)


@pytest.mark.parametrize(
    ("epoch", "power"),
    [(0, 18), (0.71, 18), (0.72, 19), (5.38, 19), (5.40, 20), (52, 20), (53, 21), (199, 21)],
)
def test_the_resolution_of_2023(epoch, power):
    """O4."""
    assert resolution_2023(epoch) == 2.0**power


def test_2023_rounds_down():
    """B2: without + 1/2 every number is off by half a step on average."""
    p = torch.zeros(20_000, dtype=torch.float64, requires_grad=True)
    gradient = 1e-3 * normal(p.shape, 0, torch.float64)
    move(Published2023([p], 1.0, steps=1, warm_up=-50.0), p, gradient)
    error = (p.detach() + gradient) * 2**18
    assert bool((error <= 0).all() and (error > -1).all())
    assert float(error.mean()) == pytest.approx(-0.5, abs=4.5 / sqrt(12 * len(error)))


@pytest.mark.parametrize("adaptive", [False, True])
def test_gradients_that_add_up_to_0_made_the_resolution_run_away(adaptive):
    """O14: of two numbers a and -a the updates always add up to 0 (B1); all zero does as well
    (B3).
    """
    for gradient in ([2.0, -2.0], [0.0, 0.0]):
        p, q = vector([0.0, 0.0]), vector([0.0, 0.0])
        published, ours = Published2021([p], 0.5, resolution=2, adaptive=adaptive), QSGD([q], 0.5)
        # ties, which all go up, stop it for a while
        move(published, p, *[gradient] * (20 if adaptive else 2))
        move(ours, q, *[gradient] * 100)
        assert published.index == 33
        assert ours.telemetry().index == 2


def bias_run(optimizer, p, seed: int) -> None:
    """A step on the bias of a softmax over 10 classes; logits and labels are random."""
    logits = 2 * normal((4, 10), seed, torch.float64) + p
    labels = torch.randint(10, (4,), generator=torch.Generator().manual_seed(seed))
    p.grad = None
    torch.nn.functional.cross_entropy(logits, labels).backward()
    optimizer.step()


def test_one_softmax_bias_sufficed_to_run_away():
    """O14: 31 rises at .43 a step take about 40 steps, and the rule that counts stays where it
    is.
    """
    lengths = []
    for seed in range(12):
        p = torch.zeros(10, dtype=torch.float64, requires_grad=True)
        optimizer = Published2021([p], 1.0, resolution=2)
        for step in range(300):
            bias_run(optimizer, p, 1000 * seed + step)
            if optimizer.index == 33:
                lengths.append(step + 1)
                break
    assert len(lengths) == 12
    assert abs(fmean(lengths) - 40) < 4 * stdev(lengths) / sqrt(len(lengths))
    p = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    ours = QSGD([p], 1.0, lattice=Lattice(6))
    for step in range(100):
        bias_run(ours, p, step)
    assert ours.telemetry().index == 6


@pytest.mark.parametrize(
    ("name", "cls", "adaptive", "decay"),
    [
        ("qsgd-2021", Published2021, False, 0),
        ("qtadamw-2021", Published2021, True, 0),
        ("qsgd-2023", Published2023, False, 0),
        ("qtadamw-2023", Published2023, True, 0.01),
    ],
)
def test_training_names_the_published_forms(name, cls, adaptive, decay):
    optimizer = OPTIMIZERS[name]().build(Trained(parameters(), [], 0.1))
    assert type(optimizer) is cls and optimizer._adaptive == adaptive
    assert optimizer.param_groups[0]["weight_decay"] == decay
    assert optimizer.telemetry().index == optimizer.index


@pytest.mark.parametrize("name", ["qsgd", "qtadamw"])
def test_settings_and_the_run_reach_the_published_forms(name):
    adaptive, params = name == "qtadamw", parameters()
    early = OPTIMIZERS[f"{name}-2021"](resolution=7).build(Trained(params, [], 0.1))
    assert early.index == 7
    decay = {"weight_decay": 0.3} if adaptive else {}
    for said, warm_up in ((1.5, 1.5), (None, 0.2 * 40)):  # a fifth of the run unless said
        first, second = parameters(), parameters()
        method = OPTIMIZERS[f"{name}-2023"](warm_up=said, **decay)
        run(method.build(Trained(first, [], 0.1, steps=5, epochs=40)), first, range(12))
        published = Published2023(
            second, 0.1, steps=5, warm_up=warm_up, adaptive=adaptive, **{"weight_decay": 0} | decay
        )
        run(published, second, range(12))
        assert same(first, second)
