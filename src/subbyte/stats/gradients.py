"""The gradients of the loss with respect to a layer's weights and outputs.

With g_i,p the gradient of image i's loss with respect to the layer's output at position p and x_i,p
the row that it
sees there, image i's gradient with respect to the weights is  g_i = sum_p g_i,p x_i,p'  and

    gradient = mean_i g_i      absolute = mean_batches |mean_i g_i|      fisher = mean_i g_i^2
    outputs  = mean_i sum_p g_i,p^2

element by element. Where an image has several targets each counts by its share. Cost: 2 d
operations for each output and target, plus `rows x columns` an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import Geometry
from subbyte.errors import NumericsError
from subbyte.io.processes import ALONE, Processes
from subbyte.stats.patches import in_matrix_order, patches

_MAX_ELEMENTS = 2**24  # of patches and gradients at a time: 64 MiB in float32


@dataclass(frozen=True, eq=False)
class GradientStats:
    """Means over images; float64, columns in the order of `Geometry.to_matrix`.

    gradient: of the loss; absolute: the mean over batches (by their sizes) of the size of a batch's
        mean gradient;
    fisher: the squared gradient of one image, the diagonal of the Fisher information when targets
        are the network's
    own: all [rows, columns]. outputs: the squared gradient with respect to an output, summed over
        positions: [rows].
    images: how many.
    """

    gradient: Tensor
    absolute: Tensor
    fisher: Tensor
    outputs: Tensor
    images: int


class GradientCollector:
    """Adds up the gradients of one layer, batch by batch."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._batch: Tensor | None = None  # sum of the open batch's gradients
        self._in_batch = self._images = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, calls: Sequence[tuple[Tensor, Tensor]], share: Tensor | None = None) -> None:
        """Take in one target of the open batch.

        calls: for each use of the weight the input and the gradient of each image's loss with
        respect to the output, both in torch's shape, an image's entries together along the first
        axis; share: of the target, [images], or None for a batch whose images have one target each.
        """
        images = calls[0][0].shape[0] if share is None else len(share)
        share = calls[0][0].new_ones(images) if share is None else share
        geometry, self._in_batch = self._geometry, images
        rows = sum(x.shape[0] // images * geometry.positions(x.shape) for x, _ in calls)
        step = max(
            1,
            _MAX_ELEMENTS
            // (rows * geometry.columns * geometry.groups + geometry.rows * geometry.columns),
        )
        for start in range(0, images, step):
            part, gradients, squares = share[start : start + step], [], []
            for x, g in calls:
                each = x.shape[0] // images
                inner = slice(start * each, (start + len(part)) * each)
                outputs = _by_position(g[inner], geometry, len(part))
                gradients.append(_by_image(x[inner], outputs, geometry))
                squares.append(outputs.square().sum(2))
            self._accumulate(sum(gradients[1:], gradients[0]), sum(squares[1:], squares[0]), part)

    def _accumulate(self, gradient: Tensor, squares: Tensor, share: Tensor) -> None:
        gradient = gradient.transpose(0, 1).flatten(1, 2).double()  # [images, rows, columns]
        share = share.double()
        total = torch.einsum("n,nrc->rc", share, gradient)
        self._batch = total if self._batch is None else self._batch.add_(total)
        self._sum("fisher", torch.einsum("n,nrc->rc", share, gradient.square()))
        self._sum("outputs", torch.einsum("n,gnr->gr", share, squares.double()).reshape(-1))

    def _sum(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def end_batch(self) -> None:
        """Close the batch: all targets of its images have been added."""
        if self._batch is not None:
            self._sum("gradient", self._batch)
            self._sum("absolute", self._batch.abs())
            self._images += self._in_batch
        self._batch = None

    def finish(self, processes: Processes = ALONE) -> GradientStats:
        """The means over all closed batches, of all processes. Raises NumericsError when a gradient
        was NaN or Inf.
        """
        _, images = processes.counted(self._images)
        means = {name: processes.total(value) / images for name, value in self._sums.items()}
        if not all(bool(torch.isfinite(value).all()) for value in means.values()):
            raise NumericsError("gradients hold NaN, Inf or numbers too large to square")
        gradient, absolute, fisher = (
            in_matrix_order(means[name], self._geometry)
            for name in ("gradient", "absolute", "fisher")
        )
        return GradientStats(gradient, absolute, fisher, means["outputs"], images)


def _by_position(g: Tensor, geometry: Geometry, images: int) -> Tensor:
    """Gradients by outputs as [groups, images, positions, rows / groups]."""
    g = geometry.channels_first(g)
    grouped = g.reshape(images, -1, geometry.groups, geometry.rows // geometry.groups, g.shape[2])
    return grouped.permute(2, 0, 1, 4, 3).flatten(2, 3)


def _by_image(x: Tensor, outputs: Tensor, geometry: Geometry) -> Tensor:
    """Gradients by weights of each image, [groups, images, rows / groups, columns], columns in the
    order of `patches`. outputs: as `_by_position` gives them.
    """
    seen = patches(x, geometry).reshape(geometry.groups, outputs.shape[1], -1, geometry.columns)
    return outputs.mT @ seen


def gradients_by_image(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """Each image's gradient by the weights, [images, rows, columns], of a layer called once.

    x, g: its input and the gradients by its output, in torch's shape, the images first.
    """
    found = _by_image(x, _by_position(g, geometry, len(x)), geometry)
    return in_matrix_order(found.transpose(0, 1).flatten(1, 2), geometry)


def position_weights(g: Tensor, geometry: Geometry, parts: int) -> Tensor:
    """Squared gradients with respect to a layer's output, mean over each run of channels: [batch,
    parts, positions].

    g: in torch's shape; parts: how many runs of equal length, in order. What GuidedQuant weighs
        rows by.
    """
    g = geometry.channels_first(g)
    return g.reshape(g.shape[0], parts, geometry.rows // parts, -1).square().mean(2)
