"""The on-stall rule: codes are counted, the index goes up by one, for all or for the tensor that
stalled.
"""

from itertools import pairwise

import pytest
import torch

from subbyte.learn.optimizers import QSGD, Lattice, QtAdamW
from tests.learn.optimizers.cases import move, normal, parameters, run, set_gradients
from tests.reference.updates import Stall, qsgd

LIKE_STEP = 2.0**-2  # of Lattice(2)


def on_stall(**settings) -> dict:
    return {"name": "on-stall", **settings}


def index_of(optimizer, group: int = 0) -> list[int]:
    """The index that the next step goes by, of all tensors or of each."""
    return optimizer.group_state(optimizer.param_groups[group])["index"].int().tolist()


def dyadic_gradients(sizes: list[int], steps: int) -> list[list[list[float] | None]]:
    """Multiples of 2^-9 that become smaller, many of them 0; the second tensor misses some steps,
    the third has 0s.
    """
    found = []
    for step in range(steps):
        each: list[list[float] | None] = []
        for k, size in enumerate(sizes):
            g = torch.round(normal((size,), 50 * step + k) * 2.0 ** (8 - step // 4 - k)) / 512
            each.append(None if k == 1 and step in (2, 5, 6) else (0 * g if k == 2 else g).tolist())
        found.append(each)
    return found


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize(("share", "window"), [(0.0, 1), (0.25, 1), (0.25, 4), (0.5, 5), (0.9, 3)])
def test_the_rule_is_its_definition(scope, share, window):
    """Weights and every index, bit for bit; dyadic numbers."""
    sizes, cap = [9, 6, 4, 1], 7
    params = [torch.zeros(size, requires_grad=True) for size in sizes]
    schedule = on_stall(share=share, window=window, scope=scope)
    optimizer = QSGD(params, 0.5, lattice=Lattice(1, schedule=schedule, cap=cap))
    gradients, found = dyadic_gradients(sizes, 30), set()
    rule = Stall(share, window, scope == "tensor", cap)
    reference = qsgd([[0.0] * size for size in sizes], gradients, 0.5, 1, rule)
    for step, (weights, wanted) in zip(gradients, reference, strict=True):
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
        assert [p.tolist() for p in params] == weights
        assert index_of(optimizer) == (wanted if scope == "tensor" else wanted[:1])
        found |= set(wanted)
    assert len(found) > 3  # it has risen, more than once


def test_groups_of_one_run_stall_together():
    """Global: most of the small group stands still, most of all numbers move; by tensor it counts
    by itself.
    """
    for scope, wanted in (("global", [[2], [2]]), ("tensor", [[2], [3]])):
        large, small = torch.zeros(50, requires_grad=True), torch.zeros(4, requires_grad=True)
        lattice = Lattice(2, schedule=on_stall(share=0.5, window=1, scope=scope))
        optimizer = QSGD([{"params": [large]}, {"params": [small]}], 1.0, lattice=lattice)
        large.grad, small.grad = torch.ones(50), torch.tensor([1.0, 0.01, 0.01, 0.01])
        optimizer.step()
        assert [index_of(optimizer, 0), index_of(optimizer, 1)] == wanted


def test_groups_stall_together_when_one_has_missed_a_step():
    """Global: the first stands still, the second moves, which is half of all."""
    first, second = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    lattice = Lattice(2, schedule=on_stall(share=0.25, window=2))
    optimizer = QSGD([{"params": [first]}, {"params": [second]}], 1.0, lattice=lattice)
    for step in range(9):
        first.grad, second.grad = torch.full((4,), 0.01), None if step == 4 else torch.ones(4)
        optimizer.step()
    assert [index_of(optimizer, 0), index_of(optimizer, 1)] == [[2], [2]]


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_tensors_whose_gradient_is_0_do_not_count(scope):
    """B3: neither alone nor beside others."""
    params = parameters([(4,), (40,)])
    optimizer = QSGD(
        params, 1.0, lattice=Lattice(2, schedule=on_stall(share=0.5, window=1, scope=scope))
    )
    for _ in range(5):
        params[0].grad, params[1].grad = torch.ones(4), torch.zeros(40)
        optimizer.step()
    assert set(index_of(optimizer)) == {2}
    alone = parameters([(40,)])
    optimizer = QSGD(alone, 1.0, lattice=Lattice(2))
    move(optimizer, alone[0], *[torch.zeros(40)] * 30)
    assert index_of(optimizer) == [2]


def test_the_share_is_of_the_updates_that_are_not_0():
    """One of four that could move does, ninety-six others have no gradient: 25 %."""
    gradient = torch.zeros(100)
    gradient[:4] = torch.tensor([1.0, 0.01, 0.01, 0.01])
    for share, index in ((0.24, 2), (0.25, 3)):
        p = torch.zeros(100, requires_grad=True)
        optimizer = QSGD([p], 1.0, lattice=Lattice(2, schedule=on_stall(share=share, window=1)))
        move(optimizer, p, gradient)
        assert index_of(optimizer) == [index]


def test_only_due_steps_are_measured():
    """A step that stalls in between changes nothing; the last step of the window decides."""
    p = torch.zeros(3, requires_grad=True)
    optimizer = QSGD([p], 1.0, lattice=Lattice(2, schedule=on_stall(share=0.5, window=4)))
    fast, slow = torch.ones(3), torch.full((3,), 0.01)
    move(optimizer, p, *[fast] * 4, *[slow] * 3, fast)
    assert index_of(optimizer) == [2]
    move(optimizer, p, *[fast] * 3, slow)
    assert index_of(optimizer) == [3]


@pytest.mark.parametrize("cls", [QSGD, QtAdamW])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_the_index_rises_by_one_at_a_time_and_stops_at_the_cap(cls, scope):
    params = parameters()
    lattice = Lattice(
        2, schedule=on_stall(share=0.99, window=2, scope=scope), cap=6, rounding="stochastic"
    )
    optimizer, course = cls(params, 1e-3, lattice=lattice), []
    for step in range(24):
        run(optimizer, params, [step])
        course.append(index_of(optimizer))
    for before, after in pairwise(course):
        assert all(b <= a <= b + 1 for b, a in zip(before, after, strict=True))
    assert len(course[0]) == (len(params) if scope == "tensor" else 1)
    assert set(course[-1]) == {6}


def test_a_raised_index_is_what_the_next_step_goes_by():
    for scope in ("global", "tensor"):
        p = torch.zeros(2, requires_grad=True)
        optimizer = QSGD(
            [p], 1.0, lattice=Lattice(0, schedule=on_stall(share=0.0, window=1, scope=scope))
        )
        move(optimizer, p, *[[-0.2, 0.2]] * 2)
        assert p.tolist() == [0, 0] and index_of(optimizer) == [1 + 1]
        move(optimizer, p, [-0.2, 0.2])
        assert p.tolist() == [0.25, -0.25]


def test_gaussian_noise_stalls_where_rounding_to_nearest_does():
    """Its own codes are never 0."""
    small = torch.tensor([0.4, -0.3, 0.1, 0.45]) * LIKE_STEP
    for gradient, index in ((small, 3), (2 * small, 2)):
        p = torch.zeros(4, requires_grad=True)
        lattice = Lattice(2, schedule=on_stall(share=0.0, window=1), rounding="gaussian")
        optimizer = QSGD([p], 1.0, lattice=lattice)
        move(optimizer, p, gradient)
        assert index_of(optimizer) == [index]


def test_a_step_without_gradients_raises_nothing():
    p = torch.zeros(3, requires_grad=True)
    optimizer = QSGD([p], 1.0, lattice=Lattice(2))
    move(optimizer, p, torch.full((3,), 0.01))
    p.grad = None
    optimizer.step()
    assert index_of(optimizer) == [3]


def test_a_step_without_gradients_is_no_accident_with_gaussian_noise():
    p = torch.zeros(3, requires_grad=True)
    optimizer = QSGD([p], 1.0, lattice=Lattice(2, rounding="gaussian"))
    move(optimizer, p, torch.ones(3))
    p.grad = None
    optimizer.step()


def test_a_group_may_lack_gradients_when_a_run_goes_on():
    def build(params):
        return QSGD([{"params": params[:1]}, {"params": params[1:]}], 0.1)

    params = parameters()
    optimizer = build(params)
    run(optimizer, params, [0])
    resumed = build(params)
    resumed.load_state_dict(optimizer.state_dict())
    set_gradients(params, 1, without=(0,))
    resumed.step()


def test_telemetry_changes_nothing():
    """Of an optimizer one of whose groups has had no gradient."""
    params = parameters()
    optimizer = QSGD([{"params": params[:1]}, {"params": params[1:]}], 0.1)
    optimizer.telemetry()
    set_gradients(params, 0, without=(0,))
    optimizer.step()


def test_a_learning_rate_of_0_raises_nothing():
    """As at the start of a warm-up."""
    p = torch.zeros(3, requires_grad=True)
    optimizer = QSGD([p], 0.0, lattice=Lattice(2))
    move(optimizer, p, torch.ones(3))
    assert index_of(optimizer) == [2]


def test_gaussian_noise_with_error_feedback_stalls_where_rounding_to_nearest_does():
    p = torch.zeros(4, requires_grad=True)
    lattice = Lattice(
        2, schedule=on_stall(share=0.0, window=1), rounding="gaussian", error_feedback=True
    )
    optimizer = QSGD([p], 0.01, lattice=lattice)
    move(optimizer, p, torch.ones(4))
    assert index_of(optimizer) == [3]


def test_empty_tensors_do_not_count():
    params = [torch.zeros(0, requires_grad=True), torch.zeros(4, requires_grad=True)]
    optimizer = QSGD(params, 1.0, lattice=Lattice(2, schedule=on_stall(window=1, scope="tensor")))
    params[0].grad, params[1].grad = torch.zeros(0), torch.full((4,), 0.01)
    optimizer.step()
    assert index_of(optimizer) == [2, 3]


def test_telemetry_counts_what_moved():
    """By hand: 2 of 4 and 1 of 6 numbers move; indices 2 and 3 by size; 1 / (24 lr Qp^2) by
    size.
    """
    first, second = torch.zeros(4, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    groups = [
        {"params": [first], "resolution": 2},
        {"params": [second], "resolution": 3, "lr": 0.25},
    ]
    optimizer = QSGD(groups, 0.5, lattice=Lattice(schedule="fixed"))
    first.grad = torch.tensor([1.0, 0.2, -1.0, 0.0])
    second.grad = torch.tensor([[1.0, 0.1, 0.2], [0.0, 0.0, 0.0]])
    optimizer.step()
    found = optimizer.telemetry()
    assert found.moved == pytest.approx(100 * 3 / 10)
    assert found.index == pytest.approx((4 * 2 + 6 * 3) / 10)
    assert found.temperature == pytest.approx((4 / (24 * 0.5 * 16) + 6 / (24 * 0.25 * 64)) / 10)
    assert found.saturated is None


def test_telemetry_of_tensors_with_an_index_each():
    """By hand: the second tensor, 8 of 10 numbers, rises to 4 after the first step; in the third
    the other moves.
    """
    params = [torch.zeros(2, requires_grad=True), torch.zeros(8, requires_grad=True)]
    optimizer = QSGD(
        params, 1.0, lattice=Lattice(3, schedule=on_stall(window=2, scope="tensor"), eta=0.5)
    )
    for gradient in (0.01, 1.0, 0.01):
        params[0].grad, params[1].grad = torch.ones(2), torch.full((8,), gradient)
        optimizer.step()
    found = optimizer.telemetry()
    assert (found.moved, found.index) == (pytest.approx(20), pytest.approx(3.8))
    assert found.temperature == pytest.approx((2 / (24 * 4**2) + 8 / (24 * 8**2)) / 10)


def test_telemetry_of_a_learning_rate_of_0_is_a_number():
    p = torch.zeros(2, requires_grad=True)
    optimizer = QSGD([p], 0.0)
    move(optimizer, p, torch.ones(2))
    assert optimizer.telemetry().moved == 0


@pytest.mark.parametrize("schedule", [{"name": "table", "at": [1]}, on_stall(share=0.99, window=1)])
def test_telemetry_is_of_the_last_step(schedule):
    """As its docstring says, and as `moved` is."""
    p = torch.zeros(2, requires_grad=True)
    optimizer = QSGD([p], 1.0, lattice=Lattice(2, schedule=schedule))
    move(optimizer, p, [1.0, 0.01])
    assert optimizer.telemetry().index == 2
