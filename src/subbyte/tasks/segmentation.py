"""Judge maps of class scores [n, classes, h, w] by maps of classes [n, h, w].

    IoU of a class = pixels of it that were put in it / pixels of it, or that were put in it

mean IoU: over the classes that are in the targets or were named, of the whole data set at once.
Pixels whose target is `ignore_index` count nowhere.
"""

from dataclasses import dataclass
from math import nan

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.errors import DataError
from subbyte.methods import Measure, Outputs, Tally, Targets, Task
from subbyte.tasks.classification import check_classes
from subbyte.tasks.comparison import RELATIVE_ERROR, agreement_of_classes, divergence
from subbyte.tasks.tallies import mean_of_sum, relative_error

IOU, PIXELS = Measure("mean IoU", "%"), Measure("pixel accuracy", "%")


@dataclass(frozen=True)
class Segmentation(Task):
    """Mean intersection over union and pixel accuracy; agreement by pixel and relative error.

    ignore_index: the class of pixels that don't count.
    """

    ignore_index: int = 255

    per_head = True

    def check(self, outputs: Outputs, targets: Targets) -> None:
        """See `methods.Task`."""
        (output,) = outputs
        if output.ndim < 3:
            raise DataError(
                f"segmentation: the network's output is {list(output.shape)}; it must be "
                f"[n, classes, height, width]"
            )
        for maps in targets:
            self._check_maps(output, maps)

    def score(self, outputs: Outputs, targets: Targets) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (maps,) = outputs, targets
        self._check_maps(output, maps)
        classes = output.shape[1]
        kept = maps != self.ignore_index
        wanted, named = maps[kept], output.argmax(1)[kept]
        counts = torch.bincount(wanted * classes + named, minlength=classes**2)
        confusion = counts.view(classes, classes).double()
        right = confusion.diag()
        union = confusion.sum(0) + confusion.sum(1) - right
        return [
            Tally(IOU, torch.stack([right, union]), _mean_iou),
            mean_of_sum(PIXELS, 100 * right.sum(), confusion.sum()),
        ]

    def compare(self, outputs: Outputs, others: Outputs) -> list[Tally]:
        """See `methods.Task`."""
        (output,), (other,) = outputs, others
        return [
            *agreement_of_classes(output, other),
            relative_error(RELATIVE_ERROR, output, other),
        ]

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """See `methods.Task`. Cross-entropy by pixel."""
        (output,), (maps,) = outputs, targets
        total = F.cross_entropy(output, maps, ignore_index=self.ignore_index, reduction="sum")
        return total / self._kept(maps).clamp_min(1)

    def imitation(self, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
        """See `methods.Task`. The divergence of both distributions of classes."""
        (output,), (other,) = outputs, others
        return divergence(output, other, temperature)

    def counted(self, targets: Targets) -> int:
        """See `methods.Task`. The pixels that count."""
        (maps,) = targets
        return int(self._kept(maps))

    def _kept(self, maps: Tensor) -> Tensor:
        return (maps != self.ignore_index).sum()

    def _check_maps(self, output: Tensor, maps: Tensor) -> None:
        if maps.is_floating_point():
            raise DataError(
                f"segmentation: targets are {maps.dtype}; maps hold the class of each pixel: store "
                f"them as whole numbers"
            )
        if maps.shape[1:] != output.shape[2:]:
            raise DataError(
                f"segmentation: maps are {list(maps.shape)} for outputs {list(output.shape)}; they "
                f"must be [n, {_sizes(output)}]: bring images and maps to one size"
            )
        check_classes(maps[maps != self.ignore_index], output.shape[1], "segmentation: a map ")


def _sizes(output: Tensor) -> str:
    return ", ".join(map(str, output.shape[2:]))


def _mean_iou(counted: Tensor) -> float:
    right, union = counted
    there = union > 0
    return 100 * float((right[there] / union[there]).mean()) if bool(there.any()) else nan
