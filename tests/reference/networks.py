"""Small networks of many habits, everything in them random: name -> (factory, shape of one
input).
"""

from collections.abc import Callable
from functools import cache
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

from subbyte.graph import Network, capture, prepare
from subbyte.graph.instrument import copied


class Calls(nn.Module):
    """Parts by name and a forward written as a function of the module and its input."""

    def __init__(
        self, run: Callable[["Calls", Tensor], Tensor], **parts: nn.Module | nn.Parameter
    ) -> None:
        super().__init__()
        self._run = [run]
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self._run[0](self, x)


class Block(nn.Module):
    """A residual block with in-place operations; its shortcut slices and pads when the width
    changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.extra:
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride],
                (0, 0, 0, 0, self.extra // 2, self.extra // 2),
            )
        y += x
        return self.relu(y)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.b1, self.b2 = Block(4, 4), Block(4, 8, 2)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn(self.stem(x)), inplace=True))
        x = F.adaptive_avg_pool2d(self.b2(self.b1(x)), 1)
        return self.fc(self.drop(x.view(x.size(0), -1)))


class Mixer(nn.Module):
    """Linear layers over the last axis and over the one before it, as in a transformer without
    attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.tokens, self.head = nn.Linear(5, 5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x.mean(1))


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.a(x).chunk(2, 1)
        return torch.cat([self.b(left), self.c(right), right], 1)


def shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return x.view(batch, -1, height, width)


def views(m: Calls, x: Tensor) -> Tensor:
    batch = x.shape[0]
    x = m.first(x.view(batch, 2, 12)).view(batch * 2, 5)
    return m.second(x).view(batch, 2, 5)[:, 1:, :]


def shared(m: Calls, x: Tensor) -> Tensor:
    return m.head(m.inner(F.relu(m.inner(x))))


def functional(m: Calls, x: Tensor) -> Tensor:
    x = F.conv2d(input=x, weight=m.kernel, stride=2, padding=(1, 0))
    x = F.conv2d(F.pad(x, (1, 1, 1, 1)), m.other, m.shift)
    x = F.conv2d(F.pad(x, (1, 0, 0, 1), value=0.5), m.other)
    return F.linear(x.flatten(2), m.weight)


def clamps(m: Calls, x: Tensor) -> Tensor:
    y = m.a(x)
    z = F.relu6(m.b(F.relu(y) + y)).clamp(0.5, 2)
    return m.c(F.avg_pool2d(z, 2)) * 2


def reused_bias(m: Calls, x: Tensor) -> Tensor:
    return m.full(F.relu(F.linear(x, m.full.weight)))


def tied() -> nn.Module:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


_FACTORIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "sequential": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(36, 7),
            nn.ReLU6(inplace=True),
            nn.Linear(7, 3),
        ),
        (1, 8, 8),
    ),
    "residual": (Residual, (3, 12, 12)),
    "mixer": (Mixer, (5, 6)),
    "split": (Split, (4, 5, 5)),
    "shuffle": (
        lambda: Calls(
            lambda m, x: m.b(shuffle(F.relu(m.a(x)))),
            a=nn.Conv2d(4, 8, 1, groups=2),
            b=nn.Conv2d(8, 4, 3, groups=4),
        ),
        (4, 5, 6),
    ),
    "views": (lambda: Calls(views, first=nn.Linear(12, 5), second=nn.Linear(5, 5)), (24,)),
    "shared": (
        lambda: Calls(shared, inner=nn.Conv2d(4, 4, 3, padding=1), head=nn.Conv2d(4, 2, 1)),
        (4, 5, 5),
    ),
    "tied": (tied, (3, 4, 4)),
    "functional": (
        lambda: Calls(
            functional,
            kernel=nn.Parameter(torch.randn(4, 3, 3, 2)),
            other=nn.Parameter(torch.randn(4, 4, 3, 3)),
            shift=nn.Parameter(torch.randn(4)),
            weight=nn.Parameter(torch.randn(2, 6)),
        ),
        (3, 8, 7),
    ),
    "clamps": (
        lambda: Calls(clamps, **{n: nn.Conv2d(4, 4, 3, padding=1) for n in "abc"}),
        (4, 6, 6),
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, 2, 1, groups=2),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Conv1d(6, 6, 3, dilation=2, groups=6),
            nn.BatchNorm1d(6),
        ),
        (4, 15),
    ),
    "conv3d": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 4, (2, 3, 3), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(4),
            nn.ReLU(inplace=True),
            nn.Conv3d(4, 4, 2, groups=4),
        ),
        (2, 4, 5, 5),
    ),
    "transposed1d": (
        lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm1d(6)),
        (4, 7),
    ),
    "transposed2d": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, (2, 3), (2, 1), dilation=(1, 2)),
            nn.BatchNorm2d(4),
        ),
        (4, 4, 5),
    ),
    "transposed3d": (
        lambda: nn.Sequential(nn.ConvTranspose3d(4, 4, 2, 2, groups=4), nn.BatchNorm3d(4)),
        (4, 3, 2, 3),
    ),
    "linear norm": (
        lambda: nn.Sequential(
            nn.Linear(6, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Linear(8, 3, bias=False),
            nn.BatchNorm1d(3, affine=False),
        ),
        (6,),
    ),
    "norms": (
        lambda: Calls(
            lambda m, x: m.last(m.c(m.first(x))),
            first=nn.BatchNorm2d(3, affine=False),
            c=nn.Conv2d(3, 4, 3),
            last=nn.BatchNorm2d(4, momentum=None),
        ),
        (3, 5, 5),
    ),
    "token norm": (
        lambda: Calls(
            lambda m, x: m.head(m.bn(m.inner(x))),
            inner=nn.Linear(6, 5),
            bn=nn.BatchNorm1d(5),
            head=nn.Linear(5, 2),
        ),
        (5, 6),
    ),
    "computed": (
        lambda: Calls(
            lambda m, x: m.head(F.relu(m.body(x))),
            body=weight_norm(nn.Conv2d(3, 4, 3)),
            head=nn.Conv2d(4, 2, 1),
        ),
        (3, 6, 6),
    ),
    "padded": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)),
            nn.Conv2d(3, 3, 2, padding="valid"),
            nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
            nn.ZeroPad2d((1, 0, 2, 1)),
            nn.Conv2d(3, 3, 3, padding=(1, 2), padding_mode="circular"),
            nn.ConstantPad2d(1, 2.0),
            nn.Conv2d(3, 2, 1),
        ),
        (2, 6, 7),
    ),
    "reused bias": (lambda: Calls(reused_bias, full=nn.Linear(6, 6)), (6,)),
    "bare": (lambda: nn.Linear(6, 3, bias=False), (6,)),
}
NAMES = list(_FACTORIES)


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics, scales and shifts in every batch-norm; in training mode, as models often
    come.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is not None:
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return model.train()


def build(name: str) -> nn.Module:
    """A new network of this name, always with the same numbers."""
    torch.manual_seed(1)
    return randomize(_FACTORIES[name][0]())


def images(name: str, count: int = 3, seed: int = 5) -> Tensor:
    """Inputs of a network."""
    return torch.randn((count, *_FACTORIES[name][1]), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """What a model says in evaluation mode; its mode is kept, module by module."""
    modes = {module: module.training for module in model.modules()}
    expected = model.eval()(x)
    for module, mode in modes.items():
        module.training = mode
    return expected


@cache
def captured(name: str) -> tuple[nn.Module, nn.Module]:
    """A network and its graph; do not change them."""
    model = build(name)
    return model, capture(model, images(name))


@cache
def prepared(name: str) -> Network:
    """A network captured (once for `captured` and this), folded, searched; do not change it."""
    model, graph_module = captured(name)
    with patch("subbyte.graph.network.capture", lambda *_: copied(graph_module)):
        return prepare(model, images(name))
