"""The contract between a cell and a tool: what a tool is given, and what it hands back.

A tool is a file in tools/ with `quantize(job)`, and a NOTE that says with which settings. Lines
between `# user code` and `# end of user code` are what a user writes, and are counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

FLOAT = 32
TERNARY_BITS = 2


@dataclass(frozen=True)
class Width:
    """Bits of weights and of activations. ternary: whether weights are -1, 0 and 1 alone."""

    name: str
    weights: int = FLOAT
    activations: int = FLOAT
    ternary: bool = False

    @property
    def weights_only(self) -> bool:
        """Whether activations stay float."""
        return self.activations == FLOAT


WIDTHS = {
    width.name: width
    for width in (
        Width("W8A8", 8, 8),
        Width("W4A8", 4, 8),
        Width("W4A4", 4, 4),
        Width("W4", 4),
        Width("W3", 3),
        Width("W2", 2),
        Width("ternary", TERNARY_BITS, ternary=True),
    )
}
UNQUANTIZED = Width("float")


class CannotError(Exception):
    """A tool has no way to do what a cell asks: the cell stays empty, with this as its reason."""


@dataclass(frozen=True, eq=False)
class Job:
    """A network to quantize.

    model: float, in evaluation mode. inputs: its arguments, each [n, ...], for calibration.
    width: of all layers; ends8: but the first and the last have 8 bits. folder: for files.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    width: Width
    ends8: bool
    folder: Path

    def batches(self, size: int) -> Iterator[tuple[Tensor, ...]]:
        """Arguments of calls of `size` samples, the last of fewer; fresh, as a loader's are."""
        return zip(*(each.clone().split(size) for each in self.inputs), strict=True)

    def feeds(self, size: int, names: list[str]) -> Iterator[dict[str, Any]]:
        """Inputs of an ONNX file whose inputs are called so, `size` samples a call."""
        for batch in self.batches(size):
            yield {n: x.numpy() for n, x in zip(names, batch, strict=True)}


@dataclass(frozen=True, eq=False)
class Made:
    """A quantized network.

    run: called as the float one. write: makes the files that are shipped, the one to run first;
    raises whatever it fails with, which is kept as the reason why there is none.
    """

    run: Callable[..., Any]
    write: Callable[[], list[Path]]
