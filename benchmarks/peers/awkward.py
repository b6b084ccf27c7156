"""Ten small networks with what quantizers stumble over, random weights."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...]]


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.ReLU())


class TwoInputs(nn.Module):
    """An image and a vector, joined before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = _convolution(3, 8, 2), nn.Linear(6, 8)
        self.last = nn.Linear(16, 5)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        seen = self.image(image).mean((2, 3))
        return self.last(torch.cat([seen, F.relu(self.vector(vector))], 1))


class ClassToken(nn.Module):
    """Patches behind a learned token that looks at them; the answer is read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 17, 16) / 4)
        self.norm, self.look = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.place
        seen = self.norm(tokens)
        tokens = tokens + self.look(seen, seen, seen, need_weights=False)[0]
        return self.last(tokens[:, 0])


class StandardizedConvolution(nn.Conv2d):
    """Its weights are brought to mean 0 and deviation 1 at every call."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class WeightStandardization(nn.Module):
    """Two convolutions with standardized weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = StandardizedConvolution(3, 8, 3, padding=1)
        self.second = StandardizedConvolution(8, 16, 3, 2, 1)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


class Masked(nn.Module):
    """Attention whose scores get -1e9 where a mask is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.last = nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 4 + (1 - mask)[:, None, :] * -1e9
        return self.last((torch.softmax(scores, -1) @ v).mean(1))


class TiedWeights(nn.Module):
    """One matrix reads the words and names them."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(20, 16), nn.Linear(16, 16)
        self.last = nn.Linear(16, 20, bias=False)
        self.last.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(F.relu(self.inner(self.words(ids))).mean(1))


class TransposedGrouped(nn.Module):
    """A transposed convolution in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = _convolution(3, 8, 2), nn.ConvTranspose2d(8, 12, 2, 2, groups=4)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.up(self.first(x))))


class TwoOutputs(nn.Module):
    """Two heads on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.kind, self.box = _convolution(3, 16, 2), nn.Linear(16, 5), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.trunk(x).mean((2, 3))
        return self.kind(seen), torch.sigmoid(self.box(seen))


class Half(nn.Module):
    """Half precision within, float outside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = _convolution(3, 16, 2).half(), nn.Linear(16, 5).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x.half()).mean((2, 3))).float()


class DynamicSize(nn.Module):
    """Whatever the image's size, it is pooled and shown again at that size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = _convolution(3, 8, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = F.avg_pool2d(self.first(x), 2)
        large = F.interpolate(small, size=(x.shape[2], x.shape[3]), mode="nearest")
        return self.last(large)


def _on_images(model: Callable[[], nn.Module]) -> Callable[[int], Made]:
    return lambda count: (model(), (torch.randn(count, 3, 16, 16),))


def _in_place() -> nn.Module:
    return nn.Sequential(
        nn.ReLU(inplace=True), *_convolution(3, 8, 2), nn.Flatten(), nn.Linear(512, 5)
    )


def _two_inputs(count: int) -> Made:
    return TwoInputs(), (torch.randn(count, 3, 16, 16), torch.randn(count, 6))


def _masked(count: int) -> Made:
    mask = (torch.arange(9) < torch.randint(3, 10, (count, 1))).float()
    return Masked(), (torch.randn(count, 9, 16), mask)


def _tied(count: int) -> Made:
    return TiedWeights(), (torch.randint(0, 20, (count, 7)),)


AWKWARD: dict[str, Callable[[int], Made]] = {
    "multi-input": _two_inputs,
    "class token": _on_images(ClassToken),
    "weight standardisation": _on_images(WeightStandardization),
    "masks": _masked,
    "tied weights": _tied,
    "transposed grouped convolution": _on_images(TransposedGrouped),
    "two outputs": _on_images(TwoOutputs),
    "in-place first operation": _on_images(_in_place),
    "half precision": _on_images(Half),
    "dynamic size": _on_images(DynamicSize),
}
"""By name: a network, and so many samples of its arguments."""
