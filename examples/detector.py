"""A small one-stage detector, on pictures composed of scikit-learn's digits: trained, quantized,
tuned and scored by the command line, with a task of its own.

    python examples/detector.py runs/digits.npz

writes 4,000 pictures to train on and 500 to test on, of one to four digits each; those of the test
pictures are in no other. The commands are in docs/tasks.md.

The network says for each place how probable each digit is there, and where its box ends (as FCOS
does; Tian et al. 2019). What belongs to no network is in the task, `Detection`: corners of boxes,
and the suppression of those found twice; the loss; mean average precision as COCO counts it; the
distance from another network's outputs, which tuning without labels makes small.
"""

import sys
from dataclasses import dataclass
from math import log, nan
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from subbyte.errors import DataError
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks.tallies import mean_of_sum, relative_error

SIZE, STRIDE, CLASSES = 48, 4, 10
MOST = 4  # digits in a picture
NOTHING = -1  # the class of rows that only fill up


def draw(digits: np.ndarray, labels: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """Pictures of digits [k, 8, 8] from 0 to 16: x uint8 [n, 1, 48, 48], and objects float32
    [n, 4, 5]: class, and left, top, right and bottom in pixels.
    """
    random = np.random.RandomState(seed)
    x = np.empty((count, 1, SIZE, SIZE), np.uint8)
    objects = np.full((count, MOST, 5), NOTHING, np.float32)
    for k in range(count):
        ramp = np.linspace(0, random.uniform(-40, 40), SIZE)
        pixels = random.uniform(60, 195) + (ramp[:, None] if random.rand() < 0.5 else ramp)
        pixels = np.broadcast_to(pixels, (SIZE, SIZE)).copy()
        for row in range(random.randint(1, MOST + 1)):
            one = random.randint(len(digits))
            found = place(random, objects[k], digits[one])
            if found is not None:
                left, top, strokes = found
                high, wide = strokes.shape
                colour = random.uniform(60, 120) * random.choice([-1, 1])
                pixels[top : top + high, left : left + wide] += colour * strokes
                objects[k, row] = labels[one], left, top, left + wide, top + high
        x[k, 0] = (pixels + random.normal(0, 12, pixels.shape)).clip(0, 255)
    return {"x": x, "objects": objects}


def place(
    random: np.random.RandomState, objects: np.ndarray, digit: np.ndarray
) -> tuple[int, int, np.ndarray] | None:
    """Left and top of a digit that hides none of the objects, and its strokes from 0 to 1, cut to
    what is drawn and made larger; None where no place was found.
    """
    rows, columns = (np.flatnonzero(digit.max(axis) > 4) for axis in (1, 0))
    cut = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    high = random.randint(10, 23)
    wide = max(6, round(high * cut.shape[1] / cut.shape[0] * random.uniform(0.8, 1.25)))
    scaled = Image.fromarray((255 / 16 * cut).astype(np.uint8)).resize((wide, high))
    for _ in range(20):
        left, top = random.randint(SIZE - wide + 1), random.randint(SIZE - high + 1)
        across = np.minimum(objects[:, 3], left + wide) - np.maximum(objects[:, 1], left)
        along = np.minimum(objects[:, 4], top + high) - np.maximum(objects[:, 2], top)
        if not ((across > 1) & (along > 1)).any():
            return left, top, np.asarray(scaled) / 255
    return None


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch-norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Detector(nn.Module):
    """Scores and boxes at every place, 4 pixels apart."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            block(1, 16, stride=2), block(16, 32, stride=2), block(32, width), block(width, width)
        )
        self.scores = nn.Sequential(block(width, width), nn.Conv2d(width, CLASSES, 1))
        self.boxes = nn.Sequential(block(width, width), nn.Conv2d(width, 4, 1), nn.ReLU())
        nn.init.constant_(self.scores[-1].bias, -log(99))  # nearly all places show nothing
        nn.init.constant_(self.boxes[-2].bias, SIZE / 6)  # pixels, of an object of usual size

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[n, 1, 48, 48] -> scores: logits of each digit [n, 144, 10]; boxes: how far left, top,
        right and bottom are from the place, in pixels [n, 144, 4].
        """
        values = self.trunk(images)
        scores, boxes = (head(values).flatten(2).mT for head in (self.scores, self.boxes))
        return {"scores": scores, "boxes": boxes}


def centres() -> Tensor:
    """Of the places, x and y in pixels [144, 2], line by line."""
    along = STRIDE * (torch.arange(SIZE // STRIDE) + 0.5)
    return torch.cartesian_prod(along, along).flip(1)


def corners(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom in pixels [n, 144, 4] of boxes as the network has them."""
    at = centres().to(boxes.device)
    return torch.cat([at - boxes[..., :2], at + boxes[..., 2:]], -1)


def detector() -> nn.Module:
    """For --model."""
    return Detector()


@dataclass(frozen=True)
class Detection(Task):
    """Mean average precision over classes and over overlaps from 0.5 to 0.95, and at 0.5 alone.

    overlap: of two boxes of a class (IoU), above which the less probable one is suppressed; found:
    candidates of an image, the most probable ones; least: probability of a candidate; sure: of
    places at which networks are compared; weight: of boxes among what is imitated.
    """

    overlap: float = 0.5
    found: int = 50
    least: float = 0.02
    sure: float = 0.3
    weight: float = 5.0

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        for objects in targets:
            if objects.ndim != 3 or objects.shape[2] != 5:
                raise DataError(f"detection: objects are {list(objects.shape)}, not [n, most, 5]")

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        (objects,) = targets
        rows = matched(*self.detections(outputs), objects)
        return [
            Tally(Measure("mAP@0.5:0.95", "%"), rows, mean_precision, join_rows),
            Tally(Measure("mAP@0.5", "%"), rows, mean_precision_at_half, join_rows),
        ]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`. Where the other network is sure of a digit: whether this one names
        the same, and how far the boxes overlap; relative errors of all outputs.
        """
        (scores, boxes), (wanted, others_boxes) = outputs, others
        seen = wanted.sigmoid().amax(-1) > self.sure
        same = 100 * (scores.argmax(-1) == wanted.argmax(-1))[seen]
        near = 100 * paired_overlaps(corners(boxes), corners(others_boxes))[seen]
        relative = Measure("relative error", higher=False)
        return [
            mean_of_sum(Measure("agreement", "%"), same.sum(), seen.sum()),
            mean_of_sum(Measure("overlap", "%"), near.sum(), seen.sum()),
            relative_error(relative, scores, wanted),
            Tally(**vars(relative_error(relative, boxes, others_boxes)) | {"head": 1}),
        ]

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. The focal loss of scores (Lin et al. 2017) and 1 - GIoU of boxes, by
        image.
        """
        (scores, boxes), (objects,) = outputs, targets
        there, own = assigned(objects)
        aims = F.one_hot(own[..., 0].long().clamp_min(0), CLASSES) * there[..., None]
        missed = (aims - scores.sigmoid()).abs().square()
        entropy = F.binary_cross_entropy_with_logits(scores, aims.float(), reduction="none")
        places = (1 - generous_overlaps(corners(boxes), own[..., 1:])) * there
        return ((missed * entropy).sum() + places.sum()) / len(scores)

    def imitation(self, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
        """See `methods.Task`. The divergence of the probabilities of each digit at each place, and
        `weight` (1 - GIoU) of the boxes as far as the other network sees something there, by image.
        Probabilities are of yes and no, and compared as they are, whatever the temperature.
        """
        del temperature
        (scores, boxes), (wanted, others_boxes) = outputs, others
        aims = wanted.sigmoid()
        crossed = F.binary_cross_entropy_with_logits(scores, aims, reduction="none")
        least = F.binary_cross_entropy_with_logits(wanted, aims, reduction="none")
        near = generous_overlaps(corners(boxes), corners(others_boxes))
        places = (1 - near) * aims.amax(-1)
        return ((crossed - least).sum() + self.weight * places.sum()) / len(scores)

    def detections(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """What is found, by falling probability: probabilities [n, found], 0 where suppressed,
        classes [n, found], boxes [n, found, 4].
        """
        scores, boxes = outputs
        likely = scores.sigmoid().flatten(1)  # of a class at a place
        likely, chosen = likely.topk(min(self.found, likely.shape[1]))
        classes = chosen % scores.shape[2]
        boxes = corners(boxes).gather(1, (chosen // scores.shape[2])[..., None].expand(-1, -1, 4))
        twice = (overlaps(boxes, boxes) > self.overlap) & (classes[..., None] == classes[:, None])
        kept = likely > self.least
        for k in range(kept.shape[1] - 1):
            kept[:, k + 1 :] &= ~(twice[:, k, k + 1 :] & kept[:, k, None])
        return likely * kept, classes, boxes


STEPS = torch.linspace(0.5, 0.95, 10, dtype=torch.float64)
"""Overlaps (IoU) from which a detection is right."""


def matched(likely: Tensor, classes: Tensor, boxes: Tensor, objects: Tensor) -> Tensor:
    """Rows of detections: class, probability, and whether it is right at each of the steps: [m, 12]
    float64; and a row of probability -1 for each object.

    A detection takes, of the objects of its class that none before it took, the one that it
    overlaps most.
    """
    near = overlaps(boxes, objects[..., 1:]).double()
    near = near * (classes[..., None] == objects[:, None, :, 0])  # [n, found, most]
    steps = STEPS.to(near.device)
    taken = torch.zeros(len(objects), len(steps), objects.shape[1], dtype=torch.bool).to(
        near.device
    )
    right = torch.zeros(*classes.shape, len(steps), dtype=torch.bool).to(near.device)
    for k in range(classes.shape[1]):
        best, which = (near[:, k, None] * ~taken).max(-1)  # [n, steps]
        right[:, k] = (best >= steps) & (likely[:, k, None] > 0)
        taken |= F.one_hot(which, objects.shape[1]).bool() & right[:, k, :, None]
    found = torch.cat([classes[..., None], likely[..., None], right], -1).double()[likely > 0]
    wanted = objects[objects[..., 0] >= 0][:, :1].double()
    return torch.cat([found, F.pad(wanted, (0, 1 + len(steps)), value=-1)])


def precisions(rows: Tensor) -> Tensor:
    """Average precision of each class that has objects, at each step [classes, 10]: the mean over
    101 recalls of the highest precision at that recall or a higher one (COCO).
    """
    found, wanted = rows[rows[:, 1] >= 0], rows[rows[:, 1] < 0]
    recalls = torch.linspace(0, 1, 101, dtype=torch.float64, device=rows.device)
    means = []
    for label in wanted[:, 0].unique():
        count = int((wanted[:, 0] == label).sum())
        own = found[found[:, 0] == label]
        own = own[own[:, 1].argsort(descending=True, stable=True), 2:]
        hits = own.cumsum(0)
        order = torch.arange(1, len(own) + 1, device=rows.device)[:, None]
        highest = (hits / order).flip(0).cummax(0).values.flip(0)
        padded = torch.cat([highest, highest.new_zeros(1, highest.shape[1])])
        reached = (hits / count).T.contiguous()
        at = torch.searchsorted(reached, recalls.repeat(len(STEPS), 1))
        means.append(padded.gather(0, at.T).mean(0))
    return torch.stack(means) if means else rows.new_full((1, len(STEPS)), nan)


def mean_precision(rows: Tensor) -> float:
    """In percent, over classes and steps."""
    return 100 * float(precisions(rows).mean())


def mean_precision_at_half(rows: Tensor) -> float:
    """In percent, over classes, at an overlap of 0.5."""
    return 100 * float(precisions(rows)[:, 0].mean())


def join_rows(own: Tensor, others: Tensor) -> Tensor:
    """Those of both."""
    return torch.cat([own, others])


def assigned(objects: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a place shows an object, and which: bool [n, places], [n, places, 5]. It shows one
    within 6 pixels of whose middle it is, and in whose box; of several the smallest.
    """
    at = centres().to(objects.device)[:, None]  # [places, 1, 2]
    low, high = objects[:, None, :, 1:3], objects[:, None, :, 3:]
    inside = (at > low) & (at < high) & ((at - (low + high) / 2).abs() < 1.5 * STRIDE)
    area = (high - low).prod(-1).expand(inside.shape[:-1])
    area = area.masked_fill(~inside.all(-1) | (objects[:, None, :, 0] < 0), torch.inf)
    smallest, which = area.min(-1)
    return smallest < torch.inf, objects.gather(1, which[..., None].expand(-1, -1, 5))


def paired_overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of boxes [..., 4] with as many others."""
    return _shares(boxes, others)[0]


def generous_overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """GIoU of boxes [..., 4] with as many others (Rezatofighi et al. 2019)."""
    share, empty = _shares(boxes, others)
    return share - empty


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of all pairs: [n, a, 4], [n, b, 4] -> [n, a, b]."""
    return paired_overlaps(boxes[:, :, None], others[:, None])


def _shares(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """What boxes have in common, as a share of both; and what is in neither, of the smallest box
    around them.
    """
    low, high = (
        torch.maximum(boxes[..., :2], others[..., :2]),
        torch.minimum(boxes[..., 2:], others[..., 2:]),
    )
    common = (high - low).clamp_min(0).prod(-1)
    both = sum((each[..., 2:] - each[..., :2]).prod(-1) for each in (boxes, others)) - common
    least = torch.minimum(boxes[..., :2], others[..., :2])
    most = torch.maximum(boxes[..., 2:], others[..., 2:])
    around = (most - least).prod(-1)
    return common / both.clamp_min(1e-9), 1 - both / around.clamp_min(1e-9)


def write_data(out: Path, train: int, test: int) -> None:
    """Write the pictures, each kind from digits of its own."""
    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    kinds = {"train": (order[360:], train, 1), "test": (order[:360], test, 2)}
    arrays = {}
    for kind, (own, count, seed) in kinds.items():
        drawn = draw(bunch.images[own], bunch.target[own], count, seed)
        arrays |= {f"{name}_{kind}": values for name, values in drawn.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **arrays)


if __name__ == "__main__":
    write_data(Path(sys.argv[1]), train=4000, test=500)
