"""Accuracy of a network on a split of a data set.

The place of the true class is counted, not sorted for: an image is right in the top k when fewer
than k
classes have a larger logit, or an equal one and a lower index. So ties are settled alike on every
device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.data.dataset import Split
from subbyte.errors import DataError, ModelError, NumericsError, SubbyteError

TOP = 5


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
    batch_size: int = 250,
    progress: Callable[[int, int], None] | None = None,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Run `model` on all images of `split` and compare with the labels.

    model: images float32 [b, C, H, W] on `device` -> logits [b, classes]; an nn.Module is in eval
        mode
        meanwhile.
    progress: called with the numbers of images done and in all, after every batch.
    Raises DataError when the split is empty, the model cannot take its images, or a label is beyond
    the
    logits; ModelError when the model does not return [b, classes]; NumericsError when a logit is
    NaN or Inf.
    """
    total = len(split)
    if total == 0:
        raise DataError(f"split {split.name!r} is empty: there is nothing to evaluate on")
    logits = torch.empty(0)
    right, right5, loss, done = 0, 0, 0.0, 0
    with torch.no_grad(), _eval_mode(model):
        for images, labels in split.batches(batch_size):
            output = _run(model, images.to(device), split, done)
            if done == 0:
                logits = torch.empty(total, output.shape[1])
                check_labels(split, output.shape[1])
            place = _place(output, labels)
            right += int((place < 1).sum())
            right5 += int((place < TOP).sum())
            loss += float(F.cross_entropy(output.double(), labels, reduction="sum"))
            logits[done : done + len(labels)] = output
            done += len(labels)
            if progress is not None:
                progress(done, total)
    return Evaluation(
        Accuracy(100 * right / total, 100 * right5 / total, loss / total, total), logits
    )


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


def class_accuracy(evaluation: Evaluation, split: Split) -> list[ClassAccuracy]:
    """Accuracy by class, of the classes that have images in `split`, in order; `evaluation` is of
    the same split.
    """
    named, classes = evaluation.logits.argmax(dim=1), evaluation.logits.shape[1]
    confusion = torch.bincount(split.labels * classes + named, minlength=classes**2).view(
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


def agreement(logits_a: Tensor, logits_b: Tensor) -> float:
    """Percent of images that both logits [n, classes] put in one class. Raises DataError on other
    shapes.
    """
    if logits_a.shape != logits_b.shape or logits_a.ndim != 2 or not logits_a.numel():
        raise DataError(
            f"agreement of logits {list(logits_a.shape)} and {list(logits_b.shape)}: "
            "both must be [n, classes] of the same images"
        )
    return 100 * float((logits_a.argmax(dim=1) == logits_b.argmax(dim=1)).double().mean())


def _run(model: Callable[[Tensor], Tensor], images: Tensor, split: Split, done: int) -> Tensor:
    """Logits float32 [b, classes] on the CPU, checked."""
    try:
        output = model(images)
    except (SubbyteError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as reason:
        raise DataError(
            f"the network cannot take images {list(images.shape[1:])} (channels, height, width) of "
            f"split "
            f"{split.name!r} ({type(reason).__name__}: {reason}). Choose other data, or fit these "
            f"with "
            "--resize and --crop"
        ) from reason
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(images):
        what = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ModelError(
            f"the network returns {what} for images {list(images.shape)}; "
            "evaluation needs one row of logits per image, [b, classes]"
        )
    output = output.detach().float().cpu()
    wrong = (~torch.isfinite(output)).any(dim=1).nonzero()
    if len(wrong):
        raise NumericsError(
            f"the logits of {len(wrong)} of {len(output)} images are NaN or Inf, the first is "
            f"image {done + int(wrong[0])} of split {split.name!r}; "
            "look for overflow in the network, or bad weights"
        )
    return output


def check_labels(split: Split, classes: int) -> None:
    """Raise DataError when a label of `split` is beyond the logits of so many classes."""
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"split {split.name!r} has label {low if low < 0 else high}, "
            f"but the network has {classes} logits, 0 to {classes - 1}; "
            "give a network and a data set that go together"
        )


def _place(logits: Tensor, labels: Tensor) -> Tensor:
    """[b]: how many classes come before the true one."""
    true = labels[:, None]
    own = logits.gather(1, true)
    before = torch.arange(logits.shape[1]) < true
    return ((logits > own) | ((logits == own) & before)).sum(dim=1)


@contextmanager
def _eval_mode(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put every module in eval mode, and those that were not back afterwards."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
