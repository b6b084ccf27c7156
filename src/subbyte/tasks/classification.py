"""Judge class scores [n, classes] by labels [n].

The place of the true class is counted, not sorted for: a sample is right in the top k when fewer
than k classes have a larger logit, or an equal one and a lower index. So ties are settled alike on
every device.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import DataError
from subbyte.io.numbers import Real
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks.comparison import RELATIVE_ERROR, agreement_of_classes, divergence
from subbyte.tasks.tallies import mean_of_sum, relative_error, share

TOP = 5
TOP1, TOP5 = Measure("top-1", "%"), Measure(f"top-{TOP}", "%")
LOSS = Measure("loss", "nats", higher=False)


@dataclass(frozen=True)
class Classification(Task):
    """Top-1, top-5 and mean cross-entropy; agreement of classes and relative error. With 5 classes
    or fewer, top-5 is 100.

    label_smoothing: share of a label that is spread over all classes, in the loss that is trained
    with. Raises RecipeError for others than 0 to below 1.
    """

    label_smoothing: Annotated[float, Real(0, 1, below=True)] = 0.0

    per_head = True

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        (output,) = outputs
        if output.ndim != 2:
            raise DataError(
                f"classification: the network's output is {list(output.shape)}; it must be "
                f"[n, classes]"
            )
        for labels in targets:
            if labels.ndim != 1 or labels.is_floating_point():
                raise DataError(
                    f"classification: targets are {labels.dtype} {list(labels.shape)}; they must "
                    f"be int64 [n]"
                )
            check_classes(labels, output.shape[1], "classification: ")

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        (logits,), (labels,) = outputs, targets
        place = places(logits, labels)
        loss = F.cross_entropy(logits.double(), labels, reduction="sum")
        return [
            share(TOP1, place < 1),
            share(TOP5, place < TOP),
            mean_of_sum(LOSS, loss, len(labels)),
        ]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (other,) = outputs, others
        return [
            *agreement_of_classes(output, other),
            relative_error(RELATIVE_ERROR, output, other),
        ]

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. Cross-entropy."""
        (logits,), (labels,) = outputs, targets
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def imitation(self, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
        """See `methods.Task`. The divergence of both distributions of classes."""
        (output,), (other,) = outputs, others
        return divergence(output, other, temperature)


def check_classes(labels: Tensor, classes: int, where: str) -> None:
    """Raise DataError when a label is beyond the logits of so many classes. where: for the
    message.
    """
    if not labels.numel():
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}has label {low if low < 0 else high}, but the network has {classes} logits, "
            f"0 to {classes - 1}; give a network and a data set that go together"
        )


def places(logits: Tensor, labels: Tensor) -> Tensor:
    """[b]: how many classes come before the true one."""
    true = labels[:, None]
    own = logits.gather(1, true)
    before = torch.arange(logits.shape[1], device=logits.device) < true
    return ((logits > own) | ((logits == own) & before)).sum(dim=1)


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
