"""Every layer is a matrix: the geometry that turns weights into rows and back.

A row holds all weights of one output channel; its columns run over (input channel of the group,
kernel position), the kernel position fastest. For transposed convolutions the kernel is flipped, so
that the layer is an ordinary convolution of the zero-stuffed input (see `stats.patches`).
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import Tensor

Kind = Literal["linear", "conv", "conv_transpose"]


@dataclass(frozen=True)
class Geometry:
    """Shape and arithmetic of a layer.

    weight_shape: as torch has it: [out, in] | [out, in / groups, *kernel] | [in, out / groups,
        *kernel].
    padding: (before, after) of each spatial axis; the other tuples have one number an axis. Empty
        for linear layers.
    output_padding: transposed convolutions only.
    """

    kind: Kind
    weight_shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1

    @property
    def kernel(self) -> tuple[int, ...]:
        """Kernel size, one number a spatial axis."""
        return self.weight_shape[2:]

    @property
    def rows(self) -> int:
        """Output channels."""
        return (
            self.weight_shape[1] * self.groups
            if self.kind == "conv_transpose"
            else self.weight_shape[0]
        )

    @property
    def columns(self) -> int:
        """Weights of one output channel."""
        return prod(self.weight_shape) // self.rows

    def to_matrix(self, weight: Tensor) -> Tensor:
        """[rows, columns] of a weight in torch's shape."""
        if self.kind != "conv_transpose":
            return weight.reshape(self.rows, self.columns)
        spatial = tuple(range(2, weight.ndim))
        grouped = weight.flip(spatial).reshape(self.groups, -1, self.weight_shape[1], *self.kernel)
        return grouped.transpose(1, 2).reshape(self.rows, self.columns)

    def to_weight(self, matrix: Tensor) -> Tensor:
        """The weight in torch's shape: inverse of `to_matrix`."""
        if self.kind != "conv_transpose":
            return matrix.reshape(self.weight_shape)
        inputs = self.weight_shape[0] // self.groups
        grouped = matrix.reshape(self.groups, self.weight_shape[1], inputs, *self.kernel).transpose(
            1, 2
        )
        return grouped.reshape(self.weight_shape).flip(tuple(range(2, len(self.weight_shape))))
