"""Small networks as users write them, everything in them random, and what comes of quantizing
them.
"""

from collections.abc import Callable
from functools import cache
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import assemble
from subbyte.engine.walk import WalkResult, walk
from subbyte.graph import Network, prepare
from subbyte.recipe import make_plan
from tests.reference.networks import Block, Calls, randomize

EVERY_ROW = Limits(rows=0)


class Residual(nn.Module):
    """Convolutions with batch-norms, two residual adds, one of them over a sliced and padded
    shortcut.
    """

    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.b1, self.b2 = Block(width, width), Block(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b2(self.b1(F.relu(self.bn(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class Mobile(nn.Module):
    """Depthwise, pointwise and grouped convolutions under ReLU6, an inverted residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.point = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.grouped, self.fc = nn.Conv2d(8, 12, 3, groups=4), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.point(self.depthwise(x))
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.grouped(x)), 1).flatten(1))


class Decoder(nn.Module):
    """Transposed convolutions, one of them grouped, one depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.up1, self.bn1 = nn.ConvTranspose2d(4, 8, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.up2, self.bn2 = (
            nn.ConvTranspose2d(8, 6, 3, 2, 1, groups=2, bias=False),
            nn.BatchNorm2d(6),
        )
        self.up3, self.fc = nn.ConvTranspose2d(6, 6, 2, groups=6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.up2(F.relu(self.bn1(self.up1(x))))))
        return self.fc(self.up3(x).mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers on 3-D values around a layer norm that no layer takes up."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down, self.head = (
            nn.LayerNorm(8),
            nn.Linear(8, 16),
            nn.Linear(16, 8),
            nn.Linear(8, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(F.relu(self.up(self.norm(x))))
        return self.head(x.mean(1))


class Chain(nn.Module):
    """`depth` convolutions one after the other, and nothing else that multiplies."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return x.mean((2, 3))


def _shared(m: Calls, x: Tensor) -> Tensor:
    return m.head(F.relu(m.inner(F.relu(m.inner(x)))).mean((2, 3)))


def _functional(m: Calls, x: Tensor) -> Tensor:
    x = F.relu(F.conv2d(x, m.kernel, stride=2, padding=1))
    return F.linear(x.mean((2, 3)), m.matrix, m.shift)


_FACTORIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 12, 12)),
    "mobile": (Mobile, (3, 12, 12)),
    "decoder": (Decoder, (4, 4, 4)),
    "tokens": (Tokens, (6, 8)),
    "waves": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 8, 5, 2, 2),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Conv1d(8, 8, 3, groups=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        ),
        (4, 20),
    ),
    "shared": (
        lambda: Calls(_shared, inner=nn.Conv2d(4, 4, 3, padding=1), head=nn.Linear(4, 3)),
        (4, 6, 6),
    ),
    "functional": (
        lambda: Calls(
            _functional,
            kernel=nn.Parameter(torch.randn(6, 3, 3, 3)),
            matrix=nn.Parameter(torch.randn(4, 6)),
            shift=nn.Parameter(torch.randn(4)),
        ),
        (3, 8, 8),
    ),
    "norm first": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 6, 3, bias=False),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        ),
        (3, 8, 8),
    ),
}
NAMES = list(_FACTORIES)


def build(name: str, seed: int = 1) -> nn.Module:
    """A new network of this name in evaluation mode; the same seed gives the same numbers.

    Logits have mean 0 on its images, so that every class is some image's.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = randomize(_FACTORIES[name][0](), seed).eval()
        for weight in model.parameters():
            if weight.ndim > 1:  # lively enough that the images matter
                weight.normal_(0, (2 / weight[0].numel()) ** 0.5)
        last_bias = list(model.parameters())[-1]
        last_bias -= model(images(name)).mean(0)
        return model.requires_grad_(False)


def images(name: str, count: int = 40, seed: int = 5) -> Tensor:
    """Inputs of a network, whose images and channels differ in brightness."""
    shape = _FACTORIES[name][1]
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.randn((count, shape[0], *(1 for _ in shape[1:])), generator=generator)
    return brightness + 0.5 * torch.randn((count, *shape), generator=generator)


def captured(name: str) -> Network:
    """A network captured; do not change it."""
    with _CAPTURING:
        return _captured(name)


_CAPTURING = Lock()  # torch.export is for one thread at a time


@cache
def _captured(name: str) -> Network:
    return prepare(build(name), images(name)[:2])


@cache
def walked(name: str, recipe: str, *settings: str, limits: Limits = EVERY_ROW) -> WalkResult:
    """What a walk decided on by a preset with some settings changed; do not change it."""
    plan = make_plan(captured(name), subbyte.load_recipe(recipe, list(settings)))
    return walk(captured(name), plan, images(name), limits=limits)


@cache
def quantized(name: str, recipe: str, *settings: str) -> subbyte.QuantizedModel:
    """What `subbyte.quantize` returns for a network and its images; do not change it."""
    plan = make_plan(captured(name), subbyte.load_recipe(recipe, list(settings)))
    return assemble(captured(name), plan, walked(name, recipe, *settings))


def signal_to_noise(expected: Tensor, got: Tensor) -> float:
    """10 log10 of the signal's power over that of the difference, in dB."""
    noise = (expected - got).double().square().sum()
    return float(10 * torch.log10(expected.double().square().sum() / noise))
