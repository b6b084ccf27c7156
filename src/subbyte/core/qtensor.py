"""A quantized matrix: integer codes and the grid that gives them meaning."""

from dataclasses import dataclass, replace

from torch import Tensor

from subbyte.core.grid import Grid
from subbyte.core.packing import pack, packed_bytes


@dataclass(frozen=True, eq=False)
class QTensor:
    """codes: integers [rows, columns]; row = output channel of a layer (see `graph.geometry`)."""

    codes: Tensor
    grid: Grid

    @classmethod
    def nearest(cls, x: Tensor, grid: Grid) -> "QTensor":
        """Round x [rows, columns] to the nearest representable values."""
        return cls(grid.encode(x), grid)

    def dequantize(self) -> Tensor:
        """Real values, float32 [rows, columns]."""
        return self.grid.decode(self.codes)

    def with_scale(self, scale: Tensor) -> "QTensor":
        """The same codes on another scale."""
        return replace(self, grid=self.grid.with_scale(scale))

    def pack(self) -> Tensor:
        """The codes as bytes: uint8 [packed_bytes]."""
        return pack(self.codes, self.grid)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales, zero points, and the alphabet's own numbers."""
        return packed_bytes(self.grid, self.codes.shape) + self.grid.nbytes

    @property
    def zeros(self) -> float:
        """Share of the weights that are exactly 0, percent."""
        return 100 * float((self.dequantize() == 0).double().mean())

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per code, scales and zero points included."""
        return 8 * self.nbytes / self.codes.numel()
