"""Every layer is a matrix: the geometry that turns weights into rows and back, and inputs into what
each output position sees.

A row holds all weights of one output channel; its columns run over (input channel of the group,
kernel position), the kernel position fastest. For transposed convolutions the kernel is flipped, so
that the layer is an ordinary convolution of the zero-stuffed input: with a stride of s, of the
input with s - 1 zeros between neighbours.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["linear", "conv", "conv_transpose", "embedding", "recurrent"]


@dataclass(frozen=True)
class Geometry(ABC):
    """Shape and arithmetic of a layer.

    weight_shape: as torch has it: [out, in] | [out, in / groups, *kernel] | [in, out / groups,
        *kernel].
    padding: (before, after) of each spatial axis; the other tuples have one number an axis. Empty
        for linear layers.
    output_padding: transposed convolutions only.
    """

    kind: ClassVar[Kind]
    """The name of such layers in recipes and files."""
    transposed: ClassVar[bool] = False
    """Whether torch's weight has its input channels first, and the kernel the other way round."""
    observed: ClassVar[bool] = True
    """Whether what the rows are multiplied with are values of the graph, so that moments can be
    taken of them; else all columns count alike.
    """

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
        return self.weight_shape[0]

    @property
    def columns(self) -> int:
        """Weights of one output channel."""
        return prod(self.weight_shape) // self.rows

    @property
    def row_axis(self) -> int | None:
        """The axis of torch's weight that has the rows; None when they take up two."""
        return 0

    def to_matrix(self, weight: Tensor) -> Tensor:
        """[rows, columns] of a weight in torch's shape."""
        return weight.reshape(self.rows, self.columns)

    def to_weight(self, matrix: Tensor) -> Tensor:
        """The weight in torch's shape: inverse of `to_matrix`."""
        return matrix.reshape(self.weight_shape)

    @abstractmethod
    def channel_axis(self, axes: int) -> int:
        """Where inputs and outputs of so many axes have their channels."""

    @abstractmethod
    def channels_first(self, output: Tensor) -> Tensor:
        """An output in torch's shape as [batch, rows, positions]."""

    @abstractmethod
    def windows(self, x: Tensor) -> Tensor:
        """The part of an input, in torch's shape, that each output position sees: [batch, *out,
        *kernel, channels].
        """

    def positions(self, shape: torch.Size) -> int:
        """Output positions of one image, for inputs of this shape (batch included)."""
        windows = self.windows(torch.empty(1, *shape[1:], device="meta"))
        return prod(windows.shape[1 : windows.ndim - len(self.kernel) - 1])

    def multiplications(self, shape: torch.Size) -> int:
        """Products of weights and inputs for one image, for inputs of this shape."""
        return self.rows * self.columns * self.positions(shape)


class Linear(Geometry):
    """A product with the last axis of the input, at every position."""

    kind: ClassVar[Kind] = "linear"

    def channel_axis(self, axes: int) -> int:
        """See `Geometry`."""
        return axes - 1

    def channels_first(self, output: Tensor) -> Tensor:
        """See `Geometry`."""
        return output.reshape(output.shape[0], -1, self.rows).transpose(1, 2)

    def windows(self, x: Tensor) -> Tensor:
        """See `Geometry`: [batch, positions, features]."""
        return x.reshape(x.shape[0], -1, x.shape[-1])


class Convolution(Geometry):
    """A convolution of any number of axes, in groups or not."""

    kind: ClassVar[Kind] = "conv"

    def channel_axis(self, axes: int) -> int:
        """See `Geometry`."""
        return 1

    def channels_first(self, output: Tensor) -> Tensor:
        """See `Geometry`."""
        return output.flatten(2)

    def windows(self, x: Tensor) -> Tensor:
        """See `Geometry`: a view of a padded channels-last copy."""
        return self._cut(_pad(x.movedim(1, -1), self.padding), self.stride)

    def _cut(self, x: Tensor, stride: tuple[int, ...]) -> Tensor:
        """Windows of a padded input [batch, *spatial, channels]."""
        x = x.contiguous()
        axes = zip(x.shape[1:-1], self.kernel, stride, self.dilation, strict=True)
        out = [(size - step * (k - 1) - 1) // jump + 1 for size, k, jump, step in axes]
        jumps = [s * j for s, j in zip(x.stride()[1:-1], stride, strict=True)]
        steps = [s * d for s, d in zip(x.stride()[1:-1], self.dilation, strict=True)]
        return x.as_strided(
            (x.shape[0], *out, *self.kernel, x.shape[-1]), (x.stride()[0], *jumps, *steps, 1)
        )


class TransposedConvolution(Convolution):
    """The convolution of a zero-stuffed input, at a stride of 1."""

    kind: ClassVar[Kind] = "conv_transpose"
    transposed = True

    @property
    def rows(self) -> int:
        """Output channels."""
        return self.weight_shape[1] * self.groups

    @property
    def row_axis(self) -> int | None:
        """See `Geometry`."""
        return 1 if self.groups == 1 else None

    def to_matrix(self, weight: Tensor) -> Tensor:
        """See `Geometry`."""
        spatial = tuple(range(2, weight.ndim))
        grouped = weight.flip(spatial).reshape(self.groups, -1, self.weight_shape[1], *self.kernel)
        return grouped.transpose(1, 2).reshape(self.rows, self.columns)

    def to_weight(self, matrix: Tensor) -> Tensor:
        """See `Geometry`."""
        inputs = self.weight_shape[0] // self.groups
        grouped = matrix.reshape(self.groups, self.weight_shape[1], inputs, *self.kernel).transpose(
            1, 2
        )
        return grouped.reshape(self.weight_shape).flip(tuple(range(2, len(self.weight_shape))))

    def windows(self, x: Tensor) -> Tensor:
        """See `Geometry`: a view of a zero-stuffed, padded channels-last copy."""
        return self._cut(self._stuffed(x.movedim(1, -1)), (1,) * len(self.kernel))

    def multiplications(self, shape: torch.Size) -> int:
        """See `Geometry`. Each input, not each output, meets the whole kernel."""
        return self.rows * self.columns * prod(shape[2:])

    def _stuffed(self, x: Tensor) -> Tensor:
        """[batch, *spatial, channels] with zeros between and around."""
        sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[1:-1], self.stride, strict=True)]
        stuffed = x.new_zeros((x.shape[0], *sizes, x.shape[-1]))
        stuffed[(slice(None), *(slice(None, None, s) for s in self.stride))] = x
        margins = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        padding = tuple(
            (m - before, m - after + extra)
            for m, (before, after), extra in zip(
                margins, self.padding, self.output_padding, strict=True
            )
        )
        return _pad(stuffed, padding)


class _Unobserved(Geometry):
    """Rows that no value of the graph is multiplied with."""

    observed = False

    def channel_axis(self, axes: int) -> int:
        """See `Geometry`."""
        return axes - 1

    def channels_first(self, output: Tensor) -> Tensor:
        """See `Geometry`; never asked for."""
        raise AssertionError(f"{self.kind} layers have no observed outputs")

    def windows(self, x: Tensor) -> Tensor:
        """See `Geometry`; never asked for."""
        raise AssertionError(f"{self.kind} layers have no observed inputs")


class Embedding(_Unobserved):
    """A table whose rows are looked up."""

    kind: ClassVar[Kind] = "embedding"

    def multiplications(self, shape: torch.Size) -> int:
        """See `Geometry`: none."""
        return 0


class Recurrent(_Unobserved):
    """One weight of an LSTM, GRU or plain recurrent layer, used at every step."""

    kind: ClassVar[Kind] = "recurrent"

    def multiplications(self, shape: torch.Size) -> int:
        """See `Geometry`. shape: [batch, steps, features], or steps first."""
        return self.rows * self.columns * prod(shape[1:-1])


def _pad(x: Tensor, padding: tuple[tuple[int, int], ...]) -> Tensor:
    flat = [n for pair in reversed(padding) for n in pair]
    return F.pad(x, [0, 0, *flat])  # the channels come last
