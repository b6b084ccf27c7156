"""Tasks against scipy, torchmetrics and figures worked out by hand; batches add up; choices."""

from dataclasses import dataclass
from math import isnan

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from subbyte.errors import DataError, RecipeError
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks import (
    TASKS,
    Classification,
    Comparison,
    Embedding,
    Heads,
    Regression,
    Segmentation,
    choose,
    settle,
    task_name,
)
from subbyte.tasks.tallies import mean


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numbers(*shape: int, high: int, seed: int = 1) -> Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def figures(tallies: list[Tally]) -> dict[str, float]:
    return {one.measure.name: one.figure(one.counted) for one in tallies}


CASES: dict[str, tuple[Task, Outputs, Targets]] = {
    "classification": (Classification(), (random(23, 7),), (numbers(23, high=7),)),
    "segmentation": (Segmentation(), (random(23, 4, 5, 6),), (numbers(23, 5, 6, high=4),)),
    "regression": (Regression(), (random(23, 4, 3),), (random(23, 4, 3, seed=2),)),
    "embedding": (Embedding(), (random(23, 8),), (random(23, 8, seed=2),)),
    "heads": (
        Heads((Classification(), Regression(), Comparison())),
        (random(23, 7), random(23, 2), random(23, 3)),
        (numbers(23, high=7), random(23, 2, seed=2)),
    ),
    "comparison": (Comparison(), (random(23, 4, 5, 6),), ()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 5, 22])
def test_figures_of_batches_are_those_of_all_samples(name, size):
    task, outputs, targets = CASES[name]
    others = tuple(output + random(*output.shape, seed=9) for output in outputs)

    def judged(part: slice) -> list[Tally]:
        own = tuple(x[part] for x in outputs)
        found = task.compare(own, tuple(x[part] for x in others))
        return found + (task.score(own, tuple(x[part] for x in targets)) if targets else [])

    parts = [judged(slice(start, start + size)) for start in range(0, 23, size)]
    counted = parts[0]
    for more in parts[1:]:
        counted = [a.add(b) for a, b in zip(counted, more, strict=True)]
    whole = judged(slice(None))
    assert [one.measure for one in counted] == [one.measure for one in whole]
    assert [one.head for one in counted] == [one.head for one in whole]
    for a, b in zip(counted, whole, strict=True):
        assert a.figure(a.counted) == pytest.approx(b.figure(b.counted), rel=1e-9), a.measure


def test_every_output_has_figures_of_its_own():
    task, outputs, targets = CASES["heads"]
    assert [one.head for one in task.score(outputs, targets)] == [0, 0, 0, 1, 1, 1]
    assert sorted({one.head for one in task.compare(outputs, outputs)}) == [0, 1, 2]


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_like_itself(name):
    task, outputs, _ = CASES[name]
    best = {"agreement": 100.0, "relative error": 0.0, "MSE": 0.0}
    for measure, value in figures(task.compare(outputs, outputs)).items():
        assert value == pytest.approx(best.get(measure, 1.0))


def test_iou_by_hand():
    """2 x 3 pixels: wanted 0 0 1 / 1 2 -, named 0 1 1 / 1 1 1; 3 of 5 are right."""
    named = torch.tensor([[[0, 1, 1], [1, 1, 1]]])
    wanted = torch.tensor([[[0, 0, 1], [1, 2, 255]]])
    output = F.one_hot(named, 4).movedim(-1, 1).float()
    found = figures(Segmentation().score((output,), (wanted,)))
    assert found["mean IoU"] == pytest.approx(100 * (1 / 2 + 2 / 4 + 0) / 3)  # class 3 is nowhere
    assert found["pixel accuracy"] == pytest.approx(60)
    other = Segmentation(ignore_index=2).score((output,), (wanted.clamp(max=3),))
    assert figures(other)["pixel accuracy"] == pytest.approx(60)


def test_iou_is_torchmetrics():
    output, maps = random(9, 5, 8, 7), numbers(9, 8, 7, high=5)
    maps[:, 2:4] = 255
    wanted = multiclass_jaccard_index(output.argmax(1), maps, 5, average="macro", ignore_index=255)
    found = figures(Segmentation().score((output,), (maps,)))
    assert found["mean IoU"] == pytest.approx(100 * float(wanted), rel=1e-6)


def test_maps_without_a_pixel_that_counts_have_no_figure():
    maps = torch.full((2, 3, 3), 255)
    found = figures(Segmentation().score((random(2, 4, 3, 3),), (maps,)))
    assert all(map(isnan, found.values()))


def test_agreement_of_maps_is_by_pixel():
    a, b = random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1)
    wanted = 100 * float((a.argmax(1) == b.argmax(1)).double().mean())
    for task in (Segmentation(), Comparison()):
        assert figures(task.compare((a,), (b,)))["agreement"] == pytest.approx(wanted)


def test_regression_by_hand():
    found = figures(Regression().score((torch.tensor([[3.0], [0.0]]),), (torch.tensor([3.0, 4]),)))
    assert found == pytest.approx({"relative error": 0.8, "cosine": 0.5, "MSE": 8.0})


def test_ranks_of_pairs_are_scipys():
    a, b = random(17, 6), random(17, 6, seed=3)
    a[4], b[4] = a[2], b[2]  # equal vectors make equal ranks
    upper = np.triu_indices(17, 1)
    units = [F.normalize(x.double(), dim=1).numpy() for x in (a, b)]
    wanted = spearmanr(*[(unit @ unit.T)[upper].round(9) for unit in units]).statistic
    (ranks,) = [
        one.figure(one.counted) for one in Embedding().compare((a.double(),), (b.double(),))[2:]
    ]
    assert ranks == pytest.approx(wanted, abs=1e-9)
    twice = figures(Embedding().compare((3 * a,), (a,)))
    assert twice == pytest.approx({"cosine": 1, "lowest cosine": 1, "rank correlation of pairs": 1})


def test_the_lowest_cosine_is_one_samples():
    a = random(5, 3)
    b = a.clone()
    b[3] = -a[3]
    found = figures(Embedding().compare((a,), (b,)))
    assert found["lowest cosine"] == pytest.approx(-1) and found["cosine"] == pytest.approx(0.6)


def test_standard_errors_are_those_of_independent_samples_only():
    def errors(tallies: list[Tally]) -> dict[str, float]:
        return {one.measure.name: one.error(one.counted) for one in tallies}

    labels = torch.tensor([0] * 9 + [1] * 16)
    found = errors(
        Classification().score((F.one_hot(torch.zeros(25).long(), 2).float(),), (labels,))
    )
    assert found["top-1"] == pytest.approx(100 * (0.36 * 0.64 / 25) ** 0.5)
    _, output, maps = CASES["segmentation"]
    assert all(map(isnan, errors(Segmentation().compare(output, output)).values()))
    assert all(map(isnan, errors(Segmentation().score(output, maps)).values()))


@pytest.mark.parametrize(
    ("outputs", "targets", "names"),
    [
        ([(5, 3)], [(5,)], "classification"),
        ([(5, 3, 4, 4)], [(5, 4, 4)], "segmentation"),
        ([(5, 3, 4)], [], "comparison"),
        ([(5, 3), (5, 2), (5, 3, 4, 4)], [(5,)], "classification, comparison, comparison"),
        ([(5, 3), (5, 3, 4, 4)], [(5,), (5, 4, 4)], "classification, segmentation"),
    ],
)
def test_tasks_are_chosen_by_outputs_and_targets(outputs, targets, names):
    task = settle(
        (), tuple(random(*s) for s in outputs), tuple(numbers(*s, high=3) for s in targets)
    )
    assert task_name(task) == names


def test_floats_are_regression_and_what_is_unclear_is_asked():
    assert choose((random(5, 1),), (random(5),)) == (Regression(),)
    with pytest.raises(DataError, match="name one with --task"):
        choose((random(5, 1),), (numbers(5, high=2),))


@pytest.mark.parametrize(
    ("tasks", "outputs", "targets", "message"),
    [
        ("classification", [(5, 3)], [numbers(5, high=3) + 1], "has label 3, but .* 3 logits"),
        ("classification", [(5, 3, 2)], [numbers(5, high=3)], r"must be \[n, classes\]"),
        ("segmentation", [(5, 3, 4, 4)], [numbers(5, 4, 3, high=3)], r"must be \[n, 4, 4\]"),
        ("segmentation", [(5, 3, 4, 4)], [numbers(5, 4, 4, high=3) + 9], "has label 9|has label 1"),
        ("regression", [(5, 3)], [random(5, 4)], "as many numbers"),
        ("embedding", [(5, 3)], [random(5, 4)], "same size"),
        ("comparison", [(5, 3)], [random(5, 3)], "scores nothing"),
        ("classification", [(5, 3)], [numbers(5, high=3)] * 2, "2 targets, but .* 1 tensors"),
        ("classification,regression", [(5, 3)], [], "2 tasks for a network that returns 1"),
        (
            "classification,classification",
            [(5, 3), (5, 4)],
            [numbers(5, high=3), numbers(5, high=9)],
            "output 1: .* 4 logits",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tasks, outputs, targets, message):
    given = [TASKS.build(name) for name in tasks.split(",")]
    with pytest.raises(DataError, match=message):
        settle(given, tuple(random(*shape) for shape in outputs), tuple(targets))


@dataclass(frozen=True)
class Whole(Task):
    """Judges all outputs together."""

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        return [mean(Measure("sum"), outputs[0] + outputs[1])]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        return []

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        return outputs[0].sum()


def test_a_task_of_ones_own_may_judge_outputs_together_or_one_by_one():
    two = (random(5, 3), random(5, 3))
    assert settle([Whole()], two, ()) == Whole()
    assert settle([Embedding()], two, ()) == Heads((Embedding(), Embedding()))
    with pytest.raises(DataError, match="can't be one of several"):
        settle([Whole(), Embedding()], two, ())
    with pytest.raises(RecipeError, match="unknown method 'iou'; known: classification"):
        TASKS.build("iou")


@pytest.mark.parametrize(
    "name", ["classification", "segmentation", "regression", "embedding", "heads"]
)
def test_the_loss_falls_along_its_gradient(name):
    task, outputs, targets = CASES[name]
    moving = tuple(output.clone().requires_grad_() for output in outputs)
    loss = task.loss(moving, targets)
    judged = moving[: len(targets)]
    steps = torch.autograd.grad(loss, judged)
    moved = tuple(x - 1e-2 * g for x, g in zip(judged, steps, strict=True))
    assert task.loss((*moved, *moving[len(moved) :]), targets) < loss
