"""The example's detector: its task by hand and against a count without tensors, and the way from
training to a tuned network in a file.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import DataError
from subbyte.methods import Tally
from subbyte.records import read_result
from tests.cli.conftest import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "detector.py"


def example() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("detector", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


detector = example()
TASK = detector.Detection()
NAMES = ["mAP@0.5:0.95", "mAP@0.5"]


def outputs_of(found: list[list[tuple[int, float, list[float]]]]) -> tuple[Tensor, Tensor]:
    """Scores and boxes of a network that finds these classes, probabilities and boxes in each
    image, and nothing else.
    """
    scores, boxes = torch.full((len(found), 144, 10), -30.0), torch.zeros(len(found), 144, 4)
    for k, image in enumerate(found):
        for row, (label, probability, box) in enumerate(image):
            scores[k, row, label] = torch.tensor(probability).logit()
            boxes[k, row] = torch.tensor(box)
    return scores, sides(boxes)


def sides(boxes: Tensor) -> Tensor:
    """Boxes as the network has them, of corners."""
    at = detector.centres()
    return torch.cat([at - boxes[..., :2], boxes[..., 2:] - at], -1)


def objects_of(wanted: list[list[tuple[int, list[float]]]]) -> Tensor:
    """Targets of images with these classes and boxes."""
    objects = torch.full((len(wanted), 4, 5), -1.0)
    for k, image in enumerate(wanted):
        for row, (label, box) in enumerate(image):
            objects[k, row] = torch.tensor([label, *box])
    return objects


def values(tallies: list[Tally]) -> list[float]:
    return [one.figure(one.counted) for one in tallies]


LEFT, RIGHT, LOW = [0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30]


def test_precision_by_hand():
    """Three objects; by falling probability right, wrong, right, and one is missed: precision 1 up
    to a recall of 1/3, which are 34 of 101, and 2/3 up to a recall of 2/3, 33 more.
    """
    wanted = objects_of([[(3, LEFT), (3, RIGHT)], [(3, LOW)]])
    found = outputs_of([[(3, 0.9, LEFT)], [(3, 0.8, RIGHT), (3, 0.7, LOW)]])
    hand = 100 * (34 + 33 * 2 / 3) / 101
    assert values(TASK.score(found, (wanted,))) == pytest.approx([hand, hand])
    # the second class has no detection, and the third no object: it counts nowhere
    wanted = objects_of([[(3, LEFT), (3, RIGHT)], [(3, LOW), (4, LEFT)]])
    found[0][1, 5, 7], found[1][1, 5] = 2.0, sides(torch.tensor(LEFT).expand(144, 4))[5]
    assert values(TASK.score(found, (wanted,))) == pytest.approx([hand / 2, hand / 2])


def test_a_box_that_is_off_counts_at_overlaps_that_it_has():
    """8 of 10 columns: IoU 0.8, right from 0.5 to 0.8 (7 of 10 steps)."""
    wanted = objects_of([[(1, LEFT)]])
    whole, half = values(TASK.score(outputs_of([[(1, 0.9, [0, 0, 8, 10])]]), (wanted,)))
    assert half == pytest.approx(100) and whole == pytest.approx(70)


def test_what_is_found_twice_is_suppressed_within_a_class():
    near = [1, 0, 10, 10]
    found = outputs_of([[(1, 0.9, LEFT), (1, 0.8, near), (2, 0.7, near), (1, 0.6, RIGHT)]])
    likely, classes, _ = TASK.detections(found)
    assert likely[0, likely[0] > 0].tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert classes[0, likely[0] > 0].tolist() == [1, 2, 1]
    # one that is suppressed suppresses nothing
    row = outputs_of(
        [[(1, 0.9, [0, 0, 10, 10]), (1, 0.8, [3, 0, 13, 10]), (1, 0.7, [6, 0, 16, 10])]]
    )
    assert int((TASK.detections(row)[0] > 0).sum()) == 2


def test_what_is_suppressed_takes_no_object():
    """The second of three is near to the object and to the first, which is far from it."""
    boxes = [(0.9, [4, 0, 14, 10]), (0.8, [2, 0, 12, 10]), (0.7, [-2, 0, 8, 10])]
    found = outputs_of([[(1, likely, box) for likely, box in boxes]])
    assert values(TASK.score(found, (objects_of([[(1, LEFT)]]),)))[1] == pytest.approx(50)


def test_places_near_the_middle_of_an_object_show_it():
    """The middle is (20, 6): columns at 18 and 22, lines at 2, 6 and 10; of two the smaller."""
    wanted = objects_of([[(5, [8, 0, 32, 12]), (6, [16, 0, 20, 4])]])
    there, own = detector.assigned(wanted)
    columns = there.view(12, 12).nonzero().tolist()
    assert columns == [[row, column] for row in (0, 1, 2) for column in (4, 5)]
    assert own[0, there[0], 0].tolist() == [6, 5, 5, 5, 5, 5]


def test_boxes_that_lie_apart_are_told_by_the_room_between_them():
    left, right = torch.tensor(LEFT), torch.tensor(RIGHT)
    assert float(detector.generous_overlaps(left, right)) == pytest.approx(-1 / 3)
    assert float(detector.generous_overlaps(left, left)) == 1


def drawn(count: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Objects, and outputs that are near to them."""
    random = np.random.RandomState(4)
    digits = random.randint(0, 17, (20, 8, 8))
    objects = torch.from_numpy(detector.draw(digits, np.arange(20) % 3, count, 5)["objects"])
    generator = torch.Generator().manual_seed(0)
    there, own = detector.assigned(objects)
    scores = 1.5 * torch.randn(count, 144, 10, generator=generator) - 4
    sure = 4 * torch.rand(count, 144, 1, generator=generator) * there[..., None]
    scores = scores + sure * F.one_hot(own[..., 0].long().clamp_min(0), 10)
    around = torch.cat([detector.centres() - 6, detector.centres() + 6], 1)
    boxes = torch.where(there[..., None], own[..., 1:], around)
    return objects, (scores, sides(boxes) + 1.5 * torch.randn(boxes.shape, generator=generator))


def counted_apart(task: Any, outputs: tuple[Tensor, Tensor], objects: Tensor) -> list[float]:
    """Both figures, without tensors."""

    def share(a: list[float], b: list[float]) -> float:
        wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return wide * high / (sum(areas) - wide * high)

    means = []
    likely, classes, boxes = (x.tolist() for x in task.detections(outputs))
    for label in range(10):
        wanted = [[o[1:] for o in image if o[0] == label] for image in objects.double().tolist()]
        count = sum(map(len, wanted))
        found = [
            (p, k, box)
            for k, rows in enumerate(zip(likely, classes, boxes, strict=True))
            for p, own, box in zip(*rows, strict=True)
            if p and own == label
        ]
        found.sort(key=lambda one: -one[0])
        for step in range(10 if count else 0):
            taken, points, right = set[tuple[int, int]](), [], 0
            for number, (_, k, box) in enumerate(found, 1):
                near = [(share(box, o), j) for j, o in enumerate(wanted[k]) if (k, j) not in taken]
                best, which = max(near, default=(0.0, 0))
                if best >= 0.5 + 0.05 * step:
                    taken.add((k, which))
                    right += 1
                points.append((right / count, right / number))
            highest = [
                max((own for at, own in points if at >= recall / 100), default=0.0)
                for recall in range(101)
            ]
            means.append((step, sum(highest) / 101))
    halves = [mean for step, mean in means if step == 0]
    return [100 * sum(m for _, m in means) / len(means), 100 * sum(halves) / len(halves)]


def test_precision_is_that_of_a_count_without_tensors_and_batches_add_up():
    objects, outputs = drawn(24)
    found = values(TASK.score(outputs, (objects,)))
    assert 10 < found[0] < found[1] < 90
    assert found == pytest.approx(counted_apart(TASK, outputs, objects), rel=1e-6)
    cuts = (slice(0, 5), slice(5, 6), slice(6, 24))
    parts = [TASK.score((outputs[0][s], outputs[1][s]), (objects[s],)) for s in cuts]
    joined = [a.add(b).add(c) for a, b, c in zip(*parts, strict=True)]
    assert values(joined) == pytest.approx(found)


def test_what_is_wanted_has_no_loss_and_a_network_no_distance_from_itself():
    objects, outputs = drawn(12)
    there, own = detector.assigned(objects)
    aims = F.one_hot(own[..., 0].long().clamp_min(0), 10) * there[..., None]
    right = (40.0 * aims - 20, sides(own[..., 1:]))
    assert float(TASK.loss(right, (objects,))) < 1e-3 < float(TASK.loss(outputs, (objects,)))
    assert values(TASK.score(right, (objects,))) == pytest.approx([100, 100])
    assert float(TASK.imitation(outputs, outputs, 4.0)) == pytest.approx(0, abs=1e-3)
    assert float(TASK.imitation(right, outputs, 4.0)) > 1
    same = figures_of(TASK.compare(outputs, outputs))
    assert same[:2] == pytest.approx([100, 100]) and same[2:] == [0, 0]


def figures_of(tallies: list[Tally]) -> list[float]:
    assert [one.head for one in tallies] == [0, 0, 0, 1]
    return values(tallies)


def test_other_targets_are_refused():
    with pytest.raises(DataError, match=r"objects are \[3\], not \[n, most, 5\]"):
        TASK.check(drawn(1)[1], (torch.zeros(3),))


@pytest.mark.slow
def test_from_training_to_a_tuned_file_of_two_outputs(tmp_path):
    """A few steps only; tune finds the task in the folder."""
    detector.write_data(tmp_path / "digits.npz", 160, 40)
    with np.load(tmp_path / "digits.npz") as arrays:
        assert arrays["objects_test"].shape == (40, 4, 5)
    given = ["--data", f"npz:{tmp_path / 'digits.npz'}"]
    own = ["--model", f"{EXAMPLE}:detector", "--task", f"{EXAMPLE}:Detection"]
    steps = ["--epochs", 2, "--batch-size", 20, "--optimizer", "adam", "--lr", 0.01]
    done = run("train", *given, *own, *steps, "--no-report", "--out", tmp_path / "t")
    assert done.code == 0, done.err
    weights = ["--weights", tmp_path / "t" / "model.safetensors"]
    some = ["--recipe", "w4a4", "--calibration", 40, "--no-report", "--export", "none"]
    done = run("quantize", *given, *own, *weights, *some, "--out", tmp_path / "q")
    assert done.code == 0, done.err
    short = ["--steps", 4, "--set", "batch=8", "--no-bench", "--no-report"]
    done = run("tune", tmp_path / "q", *weights, *short, "--out", tmp_path / "tuned")
    assert done.code == 0, done.err
    before, found = (read_result(tmp_path / folder) for folder in ("q", "tuned"))
    assert found.task == before.task == f"{EXAMPLE}:Detection" and found.data == "npz:digits"
    assert found.heads == ["output.scores", "output.boxes"]
    assert [one.name for one in found.quantized.scores] == NAMES
    assert [one.name for one in found.exports[0].parity.outputs] == found.heads
    assert found.tuning is not None and found.tuning.steps == 4
    file = ["--weights", tmp_path / "tuned" / "model.onnx"]
    done = run("evaluate", *given, *own[2:], *file)
    assert done.code == 0 and all(name in done.out for name in NAMES), done.err
