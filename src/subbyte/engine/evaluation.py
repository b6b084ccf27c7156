"""Accuracy of a network that names classes, on a labelled split, with its logits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.data import Split
from subbyte.engine.judging import BATCH, forward_of, judge
from subbyte.errors import DataError, ModelError
from subbyte.graph import Samples
from subbyte.io.numbers import Whole
from subbyte.io.processes import check_device
from subbyte.methods import Outputs
from subbyte.tasks import Classification, check_classes

_NETWORK = "network"


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on `count` images.

    top1, top5: percent; with 5 classes or fewer, top5 is 100. loss: mean cross-entropy, in nats.
    """

    top1: float
    top5: float
    loss: float
    count: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """accuracy: of all images. logits: float32 [n, classes] on the CPU, in the order of the
    split.
    """

    accuracy: Accuracy
    logits: Tensor

    @property
    def top1(self) -> float:
        """Percent of images whose class was named first."""
        return self.accuracy.top1

    @property
    def top5(self) -> float:
        """Percent of images whose class was among the first five."""
        return self.accuracy.top5


def evaluate(
    model: Callable[[Tensor], Tensor],
    split: Split,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Run `model` on all images of `split` and compare with the labels.

    model: images float32 [b, C, H, W] on `device` -> logits [b, classes]; an nn.Module is in eval
        mode meanwhile.
    progress: called with the numbers of images done and in all, after every batch.
    Raises DataError when the split is empty or has no labels, the model cannot take its images, or
    a label is beyond the logits; ModelError when the model does not return [b, classes], and for a
    device that is not there; NumericsError when a logit is NaN or Inf; RecipeError for a batch size
    below 1. Other tasks: `judging.judge`.
    """
    Whole(1).check("batch_size", batch_size)
    check_device(str(device))
    if not len(split):
        raise DataError(f"split {split.name!r} is empty: there is nothing to evaluate on")
    labels, kept = split.labels, list[Tensor]()
    forward = forward_of(model, device)

    def logits_of(samples: Samples) -> Outputs:
        outputs = forward(samples)
        if len(outputs) != 1 or outputs[0].ndim != 2 or len(outputs[0]) != len(samples):
            what = " and ".join(str(list(output.shape)) for output in outputs) or "no tensor"
            raise ModelError(
                f"the network returns {what} for images {samples.described}; "
                "evaluation needs one row of logits per image, [b, classes]"
            )
        if not kept:
            check_classes(labels, outputs[0].shape[1], f"split {split.name!r} ")
        kept.append(outputs[0])
        return outputs

    counted = judge(
        {_NETWORK: logits_of},
        {},
        Classification(),
        split,
        batch_size=batch_size,
        progress=progress or (lambda done, total: None),
    )[_NETWORK]
    top1, top5, loss = (one.figure(one.counted) for one in counted.scores)
    return Evaluation(Accuracy(top1, top5, loss, len(split)), torch.cat(kept))


@dataclass(frozen=True)
class ClassAccuracy:
    """The results on the images of one class.

    label: the class. count: its images. top1: percent that were named right. mistaken_for: the
    class that the others were most often named, the first of several; mistakes: how often; 0 when
    there were none.
    """

    label: int
    count: int
    top1: float
    mistaken_for: int
    mistakes: int


def class_accuracy(logits: Tensor, labels: Tensor) -> list[ClassAccuracy]:
    """Accuracy by class, of the classes that have images, in order. logits: [n, classes]; labels:
    int64 [n].
    """
    named, classes = logits.argmax(dim=1), logits.shape[1]
    confusion = torch.bincount(labels * classes + named, minlength=classes**2).view(
        classes, classes
    )
    rows = []
    for label, counts in enumerate(confusion):
        count, right = int(counts.sum()), int(counts[label])
        if count:
            others = counts.clone()
            others[label] = 0
            worst = int(others.argmax())
            rows.append(ClassAccuracy(label, count, 100 * right / count, worst, int(others[worst])))
    return rows
