"""Modules in the states and wrappers that users have them in."""

import threading
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from subbyte import Inputs
from tests.reference.kinds.kind import Kind, Net


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))


def images(dtype: torch.dtype) -> Any:
    return lambda n: Inputs(torch.randn(n, *IMAGE).to(dtype))


class Casting(nn.Module):
    """Half of it in another precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 8).bfloat16(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x.bfloat16())).float())


class Forwarding(nn.Module):
    """A wrapper that takes anything."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class Scaled(nn.Module):
    """A network that reads one of any keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, x: Tensor, **others: Tensor) -> Tensor:
        return self.layer(x) * others["scale"]


class Locked(nn.Module):
    """A module that can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.lock = nn.Linear(12, 4), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Derived(nn.Module):
    """A module that keeps a tensor with a history, which can't be copied either."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.factor = nn.Linear(12, 4), nn.Parameter(torch.rand(4) + 1)
        self.last = self.factor * 2

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.factor * 2
        return self.inner(x) * self.last


def changed_in_place(m: Net, x: Tensor) -> Tensor:
    x[:, 0] = 0
    x.mul_(2)
    return m.layer(F.relu_(x))


def without_gradients(m: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = F.relu(m.first(x))
    return m.second(x)


def in_autocast(m: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = F.relu(m.first(x))
    return m.second(x.float())


def checkpointed(m: Net, x: Tensor) -> Tensor:
    return m.second(checkpoint(lambda x: F.relu(m.first(x)), x, use_reentrant=False))


def contexts(run: Any) -> Any:
    return lambda: Net(run, first=nn.Linear(12, 8), second=nn.Linear(8, 4))


def compiled() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own
        return torch.compile(plain())


def exported() -> torch.export.ExportedProgram:
    batch = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(plain().eval(), (torch.randn(2, *IMAGE),), dynamic_shapes=batch)


def buffered(value: float) -> nn.Module:
    network = nn.Sequential(nn.Linear(12, 3))
    network.register_buffer("best", torch.tensor(value))
    return network


IMAGE = (3, 6, 6)
MODULES = {
    "half": Kind(lambda: plain().half(), images(torch.float16)),
    "bfloat16": Kind(lambda: plain().bfloat16(), images(torch.bfloat16)),
    "double": Kind(lambda: plain().double(), images(torch.float64)),
    "two precisions": Kind(Casting, (12,)),
    "data parallel": Kind(lambda: nn.DataParallel(plain()), IMAGE),
    "averaged": Kind(lambda: AveragedModel(plain()), IMAGE),
    "compiled": Kind(compiled, IMAGE),
    "any arguments": Kind(Forwarding, IMAGE),
    "any keywords": Kind(Scaled, lambda n: Inputs(torch.randn(n, 12), scale=torch.rand(n, 1) + 1)),
    "exported program": Kind(exported, IMAGE),
    "first operation in place": Kind(
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(12, 3)), (12,)
    ),
    "inputs changed in place": Kind(lambda: Net(changed_in_place, layer=nn.Linear(12, 3)), (12,)),
    "a lock": Kind(Locked, (12,)),
    "a tensor with a history": Kind(Derived, (12,)),
    "infinite buffer": Kind(lambda: buffered(-torch.inf), (12,)),
    "no gradients": Kind(contexts(without_gradients), (12,)),
    "autocast": Kind(contexts(in_autocast), (12,)),
    "checkpoint": Kind(contexts(checkpointed), (12,)),
}
