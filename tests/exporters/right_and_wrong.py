"""Networks with five kinds of outputs, small and random, and ONNX files with one thing wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor, nn

KINDS = ["[n]", "[n, 1]", "[n, c]", "[n, c, h, w]", "heads"]


class Heads(nn.Module):
    """Convolutions around an add, a concatenation and pools as the seed has it; two layers, `one`
    and `two`, of equal shape; outputs of one of the `KINDS`, of `heads` three: rows of all samples,
    rows of positions, and one of the two as classes.
    """

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__()
        self.kind, self.seed, width = kind, seed, 6 + seed % 7
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.wide = nn.Conv2d(width, width, 3, padding=1, groups=width if seed % 3 == 1 else 1)
        last = 2 * width if seed % 2 else width
        self.head = nn.Linear(last, {"[n]": 1, "[n, 1]": 1}.get(kind, 5))
        self.classes, self.pixels = nn.Linear(last, 6), nn.Conv2d(last, 4, 1)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for weight in self.parameters():
                scale = (2 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.1
                weight.normal_(0, scale)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.two(F.relu(self.one(x))))
        x = F.avg_pool2d(x, 2) if self.seed % 4 < 2 else F.max_pool2d(x, 2)
        y = F.relu(self.wide(x))
        x = torch.cat([x, y], 1) if self.seed % 2 else y
        if self.kind == "[n, c, h, w]":
            return self.pixels(x)
        if self.kind == "heads":
            tokens = self.head(x.flatten(2).transpose(1, 2))
            classes = self.classes(x.mean((2, 3)))
            return {
                "tokens": tokens.flatten(0, 1),
                "positions": tokens.transpose(0, 1),
                "classes": classes.argmax(1),
            }
        y = self.head(x.mean((2, 3)))
        return y.flatten(0) if self.kind == "[n]" else y


def samples(count: int = 40, seed: int = 5) -> Tensor:
    """Images that differ in brightness."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.randn((count, 3, 1, 1), generator=generator)
    return brightness + 0.5 * torch.randn((count, 3, 8, 8), generator=generator)


def _scale(program: ModelProto) -> None:
    _change(program, "two.weight.scale", lambda scale: scale * np.float32(1.02))


def _permuted(program: ModelProto) -> None:
    _change(program, "one.weight.codes", lambda codes: codes[[1, 0, *range(2, len(codes))]])


def _swapped(program: ModelProto) -> None:
    for part in ("codes", "scale", "zero_point"):
        pair = [t for t in program.graph.initializer if t.name in _both(part)]
        if len(pair) == 2:
            pair[0].raw_data, pair[1].raw_data = pair[1].raw_data, pair[0].raw_data


def _both(part: str) -> tuple[str, str]:
    return f"one.weight.{part}", f"two.weight.{part}"


def _no_zero_point(program: ModelProto) -> None:
    name = next(
        tensor.name
        for tensor in program.graph.initializer
        if tensor.name.endswith("zero_point") and numpy_helper.to_array(tensor).any()
    )
    _change(program, name, np.zeros_like)


FAULTS: dict[str, Callable[[ModelProto], None]] = {
    "a weight scale off by 2 %": _scale,
    "a permuted channel": _permuted,
    "two swapped layers": _swapped,
    "a missing zero point": _no_zero_point,
}


def spoil(path: Path, fault: str) -> Path:
    """A copy of an ONNX file with a fault."""
    program = onnx.load(path)
    FAULTS[fault](program)
    spoilt = path.with_name(f"{path.stem} with {fault}.onnx")
    onnx.save(program, spoilt)
    return spoilt


def _change(program: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor: TensorProto = next(t for t in program.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
