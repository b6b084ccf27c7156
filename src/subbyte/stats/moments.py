"""Collecting a layer's moments (`layer_stats`), chunk by chunk.

Products and sums are taken in float32, a unit of samples at a time, and added up in float64, those
of several processes in the order of their ranks. Cost of m rows of d columns: 2 m d^2 operations a
matrix, nearly half of them where it is symmetric; k times as many with weighted rows; of powers
alone m d.
"""

from abc import ABC, abstractmethod
from math import prod

import torch
from torch import Tensor

from subbyte.core import Geometry
from subbyte.io.processes import ALONE, Processes
from subbyte.io.repeatable import UNIT
from subbyte.stats.layer_stats import LayerStats, Powers, Products
from subbyte.stats.patches import in_matrix_order, patches

_MAX_ELEMENTS = 2**24  # of one patch matrix: 64 MiB in float32
_STRIPS, _STRIP = 8, 96  # of a symmetric product: how many at most, columns of one at least


class Collector(ABC):
    """Adds up what the inputs of one layer are like, chunk by chunk.

    rows_per_image: output positions to take of each image, drawn without replacement, the same in
        both networks;
    None for all. Neighbouring positions tell nearly the same, so a few hundred rows a column say as
    much as all.
    before: images that other processes have, which come before those of this one: what is drawn for
        an image does not depend on whose it is.
    """

    def __init__(
        self, geometry: Geometry, rows_per_image: int | None = None, before: int = 0
    ) -> None:
        self._geometry, self._take = geometry, rows_per_image
        self._generator = torch.Generator().manual_seed(0)
        self._before = before  # images whose draws are still to be passed over
        self._sums: dict[str, Tensor] = {}
        self._rows = self._independent = 0

    def add(self, x: Tensor, x_q: Tensor, weights: Tensor | None = None) -> None:
        """Take in a chunk: the layer's input in the float and in the quantized network (may be the
        same object).

        weights: of the rows, positive, [batch, groups * k, output positions]; in every chunk or in
            none.
        """
        available = self._geometry.positions(x.shape)
        taken = available if self._take is None else min(self._take, available)
        self._independent += len(x) * min(taken, self._apart(x.shape))
        images = max(
            1, _MAX_ELEMENTS // max(1, taken * self._geometry.columns * self._geometry.groups)
        )
        units = range(0, x.shape[0], UNIT)
        for place in (k for unit in units for k in _pieces(unit, min(unit + UNIT, len(x)), images)):
            part = x[place]
            positions = self._draw(part.shape[0], available, taken, x.device)
            part_q = part if x is x_q else x_q[place]
            chosen = None if weights is None else self._choose(weights[place], positions)
            self._add_rows(part, part_q, positions, chosen)

    def _apart(self, shape: torch.Size) -> int:
        """Rows of an image that hold each of its inputs once, as far as patches overlap."""
        return max(1, prod(shape[1:]) // (self._geometry.columns * self._geometry.groups))

    def _draw(self, images: int, available: int, taken: int, device: torch.device) -> Tensor | None:
        if taken == available:
            return None
        for start in range(0, self._before, images):
            skipped = min(images, self._before - start)
            torch.rand(skipped, available, generator=self._generator)
        self._before = 0
        drawn = torch.rand(images, available, generator=self._generator)
        return drawn.topk(taken, largest=False).indices.to(device)

    def _choose(self, weights: Tensor, positions: Tensor | None) -> Tensor:
        """Weights of the rows taken: float32 [groups, k, rows]."""
        if positions is not None:
            weights = weights.gather(2, positions[:, None].expand(-1, weights.shape[1], -1))
        rows = weights.float().transpose(0, 1).flatten(1)
        return rows.reshape(self._geometry.groups, -1, rows.shape[1])

    def _add_rows(
        self, x: Tensor, x_q: Tensor, positions: Tensor | None, weights: Tensor | None
    ) -> None:
        rows = patches(x, self._geometry, positions)
        rows_q = rows if x is x_q else patches(x_q, self._geometry, positions)
        self._rows += rows.shape[1]
        self._add_patches(rows, rows_q, weights)

    @abstractmethod
    def _add_patches(self, rows: Tensor, rows_q: Tensor, weights: Tensor | None) -> None:
        """Take in patches [groups, rows, columns] of both networks."""

    def _accumulate(self, name: str, value: Tensor) -> None:
        value = value.to(torch.float64)
        self._sums[name] = self._sums[name].add_(value) if name in self._sums else value

    @abstractmethod
    def finish(self, processes: Processes = ALONE) -> LayerStats:
        """The means over all chunks so far, of all processes."""

    def _totals(self, processes: Processes) -> tuple[dict[str, Tensor], int, int]:
        """Sums over all processes, by name; the numbers of rows and of independent ones."""
        (_, rows), (_, independent) = map(processes.counted, (self._rows, self._independent))
        sums = {name: processes.total(value) for name, value in self._sums.items()}
        return sums, rows, independent


def _pieces(start: int, end: int, most: int) -> list[slice]:
    """From start to end, at most so many at once."""
    return [slice(k, min(k + most, end)) for k in range(start, end, most)]


class MomentCollector(Collector):
    """Adds up second moments of all pairs of columns.

    known: F and mean of the same rows, where they were found before: they are not added up again.
    """

    def __init__(
        self,
        geometry: Geometry,
        rows_per_image: int | None = None,
        before: int = 0,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(geometry, rows_per_image, before)
        self._known = known

    def _add_patches(self, rows: Tensor, rows_q: Tensor, weights: Tensor | None) -> None:
        if weights is not None:
            self._accumulate("weight", weights.sum(2, dtype=torch.float64).flatten())
        before = self._parted
        parted = before or rows is not rows_q or self._known is not None
        if parted and not before and "H" in self._sums:  # until now the networks agreed
            self._sums |= {name: self._sums["H"].clone() for name in "GF"}
            self._sums["mean"] = self._sums["mean_q"].clone()
        self._accumulate("H", _own_products(rows_q, weights))
        self._accumulate("mean_q", _sums(rows_q, weights))
        if not parted:
            return
        self._accumulate("G", _products(rows_q, rows, weights))
        if self._known is None:
            self._accumulate("F", _own_products(rows, weights))
            self._accumulate("mean", _sums(rows, weights))

    @property
    def _parted(self) -> bool:
        """Whether sums are kept of the float network, too."""
        return "G" in self._sums

    def finish(self, processes: Processes = ALONE) -> LayerStats:
        """See `Collector`."""
        sums, rows, independent = self._totals(processes)
        weight = sums.get("weight", sums["H"].new_full((1,), rows))

        def matrix(name: str) -> Tensor:
            ordered = in_matrix_order(sums[name], self._geometry, 1)
            return in_matrix_order(ordered, self._geometry, 2) / weight[:, None, None]

        def vector(name: str) -> Tensor:
            return in_matrix_order(sums[name], self._geometry) / weight[:, None]

        H, mean_q = matrix("H"), vector("mean_q")
        if not self._parted:
            return LayerStats(Products(H, H, H), mean_q, mean_q, rows, independent)
        F, mean = self._known or (matrix("F"), vector("mean"))
        return LayerStats(Products(H, matrix("G"), F), mean, mean_q, rows, independent)


class PowerCollector(Collector):
    """Adds up squares of columns alone; rows have no weights."""

    def _add_patches(self, rows: Tensor, rows_q: Tensor, weights: Tensor | None) -> None:
        for name, x in (("", rows), ("_q", rows_q)):
            self._accumulate("mean" + name, _sums(x, None))
            self._accumulate("power" + name, x.square().sum(1))

    def finish(self, processes: Processes = ALONE) -> LayerStats:
        """See `Collector`."""
        sums, rows, independent = self._totals(processes)
        power, power_q, mean, mean_q = (
            in_matrix_order(sums[name], self._geometry) / rows
            for name in ("power", "power_q", "mean", "mean_q")
        )
        return LayerStats(Powers(power_q, power), mean, mean_q, rows, independent)


def _own_products(rows: Tensor, weights: Tensor | None) -> Tensor:
    """`_products` of rows with themselves: strips of the upper triangle, mirrored below."""
    size = rows.shape[-1]
    if weights is not None or size < 2 * _STRIP:
        return _products(rows, rows, weights)
    width = max(_STRIP, -(-size // _STRIPS))
    products = rows.new_empty(len(rows), size, size)
    for start in range(0, size, width):
        end = start + width
        products[:, start:end, start:] = rows[..., start:end].mT @ rows[..., start:]
        products[:, end:, start:end] = products[:, start:end, end:].mT
    return products


def _products(left: Tensor, right: Tensor, weights: Tensor | None) -> Tensor:
    """Products of [groups, rows, columns]: [groups, columns, columns], or [groups * k, ...] with
    weighted rows.
    """
    if weights is None:
        return left.mT @ right
    each = [(left * weight[..., None]).mT @ right for weight in weights.unbind(1)]
    return torch.stack(each, 1).flatten(0, 1)


def _sums(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Sums of [groups, rows, columns]: [groups, columns], or float64 [groups * k, columns] with
    weighted rows.
    """
    if weights is None:
        return rows.sum(1)
    return (weights.double() @ rows.double()).flatten(0, 1)
