"""Networks of several inputs and outputs, in all forms that Python has for them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte import Inputs
from tests.reference.kinds.kind import Kind, Net


class Two(nn.Module):
    """Two layers for two values, and a third for their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(5, 8), nn.Linear(8, 4)

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(F.relu(self.a(x) + self.b(y)))


class Positional(Two):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.joined(x, y)


class Keyword(Two):
    def forward(self, x: Tensor, *, scale: float = 1.0, other: Tensor | None = None) -> Tensor:
        return self.joined(x, other) * scale if other is not None else self.head(self.a(x))


class Mapping(Two):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.joined(batch["x"], batch["y"])


class Listed(Two):
    def forward(self, values: list[Tensor]) -> Tensor:
        return self.joined(values[0], values[1])


@dataclass
class Batch:
    """Arguments in a class of the user's."""

    x: Tensor
    y: Tensor
    note: str = "train"


class Structured(Two):
    def forward(self, batch: Batch) -> Tensor:
        return self.joined(batch.x, batch.y)


class Ids(nn.Module):
    """Token ids, and which of them count."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = F.gelu(self.inner(self.table(input_ids)))
        mask = attention_mask[:, :, None].to(x.dtype)
        return self.head((x * mask).sum(1) / mask.sum(1).clamp_min(1))


class SharedMask(nn.Module):
    """A mask of tokens that is the same for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.q(x)
        scores = (x @ x.mT).masked_fill(~mask, -1e9)
        return self.head(scores.softmax(-1) @ x).mean(1)


class Both(NamedTuple):
    logits: Tensor
    boxes: Tensor


@dataclass
class Found:
    """Outputs in a class of the user's."""

    logits: Tensor
    features: Tensor
    loss: Tensor | None = None


def two(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 6), torch.randn(n, 5)


def id_call(n: int) -> Inputs:
    mask = (torch.arange(7)[None] < torch.randint(2, 8, (n, 1))).long()
    return Inputs(input_ids=torch.randint(0, 9, (n, 7)), attention_mask=mask)


def forked(pack: Any) -> Any:
    """A network that returns what `pack` makes of logits and features."""

    def run(m: Net, x: Tensor) -> Any:
        x = F.relu(m.body(x))
        return pack(m.head(x.mean((2, 3))), m.map(x))

    return lambda: Net(run, body=nn.Conv2d(3, 6, 3), head=nn.Linear(6, 4), map=nn.Conv2d(6, 5, 1))


IMAGE = (3, 6, 6)
TREES = {
    "two by position": Kind(Positional, lambda n: Inputs(*two(n))),
    "one by keyword": Kind(
        Keyword, lambda n: Inputs(torch.randn(n, 6), other=torch.randn(n, 5), scale=0.5)
    ),
    "None by keyword": Kind(Keyword, lambda n: Inputs(torch.randn(n, 6), other=None)),
    "dictionary": Kind(Mapping, lambda n: Inputs(dict(zip("xy", two(n), strict=True)))),
    "list": Kind(Listed, lambda n: Inputs(list(two(n)))),
    "dataclass": Kind(Structured, lambda n: Inputs(Batch(*two(n)))),
    "ids and int mask": Kind(Ids, id_call),
    "mask for all samples": Kind(
        SharedMask, lambda n: Inputs(torch.randn(n, 5, 8), torch.ones(5, 5).tril().bool())
    ),
    "tuple out": Kind(forked(lambda y, z: (y, z)), IMAGE),
    "list in tuple out": Kind(forked(lambda y, z: (y, [z, z * 2])), IMAGE),
    "dictionary out": Kind(forked(lambda y, z: {"out": y, "aux": z}), IMAGE),
    "named tuple out": Kind(forked(Both), IMAGE),
    "dataclass with None out": Kind(forked(Found), IMAGE),
    "None in tuple out": Kind(forked(lambda y, z: (None, y, {}, z)), IMAGE),
    "one value twice": Kind(forked(lambda y, z: (y, z, y)), IMAGE),
    "an input comes out": Kind(
        lambda: Net(lambda m, x: (m.layer(x), x), layer=nn.Linear(6, 3)), (6,)
    ),
    "classes out": Kind(forked(lambda y, z: (y, z.argmax(1))), IMAGE),
    "map": Kind(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 1)), IMAGE
    ),
    "number": Kind(lambda: nn.Sequential(nn.Linear(12, 1), nn.Flatten(0)), (12,)),
    "column": Kind(lambda: nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 1)), (12,)),
    "first axis is not the batch": Kind(
        lambda: nn.Sequential(nn.Linear(8, 5), nn.Flatten(0, 1)), (6, 8)
    ),
}
