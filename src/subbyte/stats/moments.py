"""Second moments: all that a rounding method may know of a layer's inputs.

With X the patches in the float network and X_q those in the network quantized so far (m rows each),

    H = X_q' X_q / m      G = X_q' X / m      F = X' X / m      mean = 1'X / m      mean_q = 1'X_q /
                                                                m

and for a row w of the layer and its rounding q the mean square output error is  w'Fw - 2 q'Gw +
                                                                                 q'Hq.
Rows may have weights, other ones for each of k runs of output channels:  H_k = sum_p a_k,p x_p x_p'
/ sum_p a_k,p  and so on. With the squared output gradients as weights this is GuidedQuant's Hessian
(Kim et al. 2025, section 3.2). Products are taken in float32, a chunk at a time, and added up in
float64, those of several processes in the order of their ranks. Cost: 2 m d^2 operations a matrix,
k times.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import Geometry
from subbyte.io.processes import ALONE, Processes
from subbyte.stats.patches import column_order, patches

_MAX_ELEMENTS = 2**24  # of one patch matrix: 64 MiB in float32


@dataclass(frozen=True, eq=False)
class LayerStats:
    """Means over all rows that a layer saw; float64, columns in the order of `Geometry.to_matrix`.

    Groups are those of the layer or, with weighted rows, parts of them; each has as many output
    channels, in order.
    H, G, F: [groups, columns, columns]; mean, mean_q: [groups, columns]; rows: number of rows m.
    """

    H: Tensor
    G: Tensor
    F: Tensor
    mean: Tensor
    mean_q: Tensor
    rows: int

    @classmethod
    def alike(cls, columns: int, device: str) -> "LayerStats":
        """Statistics by which every column counts alike: those of inputs that are independent, with
        mean 0 and variance 1.
        """
        H = torch.eye(columns, dtype=torch.float64, device=device)[None]
        mean = torch.zeros(1, columns, dtype=torch.float64, device=device)
        return cls(H, H, H, mean, mean, 1)

    def grouped(self, matrix: Tensor) -> Tensor:
        """View of [rows, columns] as [groups, rows / groups, columns], in float64."""
        return matrix.to(torch.float64).reshape(self.H.shape[0], -1, self.H.shape[-1])

    def output_error(self, weight: Tensor, rounded: Tensor) -> Tensor:
        """Mean square error of each output channel, w'Fw - 2 q'Gw + q'Hq: float64 [rows].

        weight, rounded: [rows, columns].
        """
        w, q = self.grouped(weight), self.grouped(rounded)
        error = ((w @ self.F) * w - 2 * (w @ self.G.mT) * q + (q @ self.H) * q).sum(-1)
        return error.reshape(-1).clamp_min(0)

    def of_float(self) -> "LayerStats":
        """The statistics as if the quantized network's inputs were the float network's."""
        return LayerStats(self.F, self.F, self.F, self.mean, self.mean, self.rows)

    def of_quantized(self) -> "LayerStats":
        """The statistics as if the float network's inputs were the quantized network's."""
        return LayerStats(self.H, self.H, self.H, self.mean_q, self.mean_q, self.rows)

    @property
    def dead(self) -> Tensor:
        """Columns that are 0 in the quantized network on every row: bool [groups, columns]."""
        return self.H.diagonal(dim1=-2, dim2=-1) <= 0


class MomentCollector:
    """Adds up the moments of one layer, chunk by chunk.

    rows_per_image: output positions to take of each image, drawn without replacement, the same in
        both networks;
    None for all. Neighbouring positions tell nearly the same, so a few hundred rows a column say as
    much as all.
    known: F and mean of the same rows, where they were found before: they are not added up again.
    before: images that other processes have, which come before those of this one: what is drawn for
        an image does not depend on whose it is.
    """

    def __init__(
        self,
        geometry: Geometry,
        rows_per_image: int | None = None,
        known: tuple[Tensor, Tensor] | None = None,
        before: int = 0,
    ) -> None:
        self._geometry, self._take, self._known = geometry, rows_per_image, known
        self._generator = torch.Generator().manual_seed(0)
        self._before = before  # images whose draws are still to be passed over
        self._sums: dict[str, Tensor] = {}
        self._rows = 0

    def add(self, x: Tensor, x_q: Tensor, weights: Tensor | None = None) -> None:
        """Take in a chunk: the layer's input in the float and in the quantized network (may be the
        same object).

        weights: of the rows, positive, [batch, groups * k, output positions]; in every chunk or in
            none.
        """
        available = self._geometry.positions(x.shape)
        taken = available if self._take is None else min(self._take, available)
        images = max(
            1, _MAX_ELEMENTS // max(1, taken * self._geometry.columns * self._geometry.groups)
        )
        for start in range(0, x.shape[0], images):
            part = x[start : start + images]
            positions = self._draw(part.shape[0], available, taken, x.device)
            part_q = part if x is x_q else x_q[start : start + images]
            chosen = (
                None
                if weights is None
                else self._choose(weights[start : start + images], positions)
            )
            self._add_rows(part, part_q, positions, chosen)

    def _draw(self, images: int, available: int, taken: int, device: torch.device) -> Tensor | None:
        if taken == available:
            return None
        for start in range(0, self._before, images):
            skipped = min(images, self._before - start)
            torch.rand(skipped, available, generator=self._generator)
        self._before = 0
        order = torch.rand(images, available, generator=self._generator).argsort(1)
        return order[:, :taken].to(device)

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
        if weights is not None:
            self._accumulate("weight", weights.sum(2, dtype=torch.float64).flatten())
        before = self._parted
        parted = before or rows is not rows_q or self._known is not None
        if parted and not before and "H" in self._sums:  # until now the networks agreed
            self._sums |= {name: self._sums["H"].clone() for name in "GF"}
            self._sums["mean"] = self._sums["mean_q"].clone()
        self._accumulate("H", _products(rows_q, rows_q, weights))
        self._accumulate("mean_q", _sums(rows_q, weights))
        if not parted:
            return
        self._accumulate("G", _products(rows_q, rows, weights))
        if self._known is None:
            self._accumulate("F", _products(rows, rows, weights))
            self._accumulate("mean", _sums(rows, weights))

    @property
    def _parted(self) -> bool:
        """Whether sums are kept of the float network, too."""
        return "G" in self._sums

    def _accumulate(self, name: str, value: Tensor) -> None:
        value = value.to(torch.float64)
        self._sums[name] = self._sums[name].add_(value) if name in self._sums else value

    def finish(self, processes: Processes = ALONE) -> LayerStats:
        """The moments of all chunks so far, of all processes."""
        sums = {name: processes.total(value) for name, value in self._sums.items()}
        _, rows = processes.counted(self._rows)
        order = column_order(self._geometry).to(sums["H"].device)

        weight = sums.get(
            "weight", torch.full((1,), float(rows), dtype=torch.float64, device=order.device)
        )

        def matrix(name: str) -> Tensor:
            return sums[name][:, order][:, :, order] / weight[:, None, None]

        def vector(name: str) -> Tensor:
            return sums[name][:, order] / weight[:, None]

        H, mean_q = matrix("H"), vector("mean_q")
        if not self._parted:
            return LayerStats(H, H, H, mean_q, mean_q, rows)
        F, mean = self._known or (matrix("F"), vector("mean"))
        return LayerStats(H, matrix("G"), F, mean, mean_q, rows)


def _products(left: Tensor, right: Tensor, weights: Tensor | None) -> Tensor:
    """Products of [groups, rows, columns]: [groups, columns, columns], or [groups * k, ...] with
    weighted rows.
    """
    if weights is None:
        return left.mT @ right
    each = [(left * weight[..., None]).mT @ right for weight in weights.unbind(1)]
    return torch.stack(each, 1).flatten(0, 1)


def _sums(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Sums of [groups, rows, columns]: float64 [groups, columns], or [groups * k, columns] with
    weighted rows.
    """
    if weights is None:
        return rows.sum(1, dtype=torch.float64)
    return (weights.double() @ rows.double()).flatten(0, 1)
