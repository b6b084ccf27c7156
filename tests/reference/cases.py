"""Three variants each of the networks of ../shared/cases/networks.py, by the name of the function:
a network, its inputs and the recipe.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tests.reference.kinds.kind import Net, parameter

Case = tuple[nn.Module, Tensor, str]
INF = torch.inf


def linears(run: Callable[..., Any], shape: tuple[int, ...], recipe: str, **parts: Any) -> Case:
    """A network that is a function of its parts."""
    return Net(run, **parts), torch.randn(*shape), recipe


def layers(shape: tuple[int, ...], recipe: str, *parts: nn.Module) -> Case:
    return nn.Sequential(*parts), torch.randn(*shape), recipe


def head(run: Callable[..., Any], recipe: str = "w4a4", **parts: Any) -> Case:
    """What a function makes of a layer's values."""
    return linears(
        lambda m, x: run(m, m.layer(x)), (16, 12), recipe, layer=nn.Linear(12, 8), **parts
    )


def dead(*layers: nn.Module, shape: tuple[int, ...]) -> Case:
    """Layers, the first of which has channels of weights near 0 and large biases."""
    with torch.no_grad():
        layers[0].weight[:2] = 1e-9  # type: ignore[operator, index]
        layers[0].bias[:2] = torch.tensor([1.0, -2.0])  # type: ignore[operator, index]
    return nn.Sequential(*layers), torch.rand(32, *shape), "w8a8"


def attention(scores: Callable[[Net, Tensor, Tensor], Tensor], recipe: str, **parts: Any) -> Case:
    """Scores of queries and keys, and their softmax over 6 tokens."""
    parts |= {"q": nn.Linear(8, 8), "k": nn.Linear(8, 8), "o": nn.Linear(6, 4)}
    return linears(
        lambda m, x: m.o(scores(m, m.q(x), m.k(x)).softmax(-1).mean(1)), (16, 6, 8), recipe, **parts
    )


def masked(change: Callable[[Net, Tensor], Tensor], **parts: Any) -> Case:
    """Attention over 9 tokens of width 16; change: masks its scores."""

    def run(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).chunk(3, -1)
        return m.o(change(m, q @ k.transpose(1, 2) / 4).softmax(-1) @ v).mean(1)

    parts |= {"qkv": nn.Linear(16, 48), "o": nn.Linear(16, 10)}
    return linears(run, (64, 9, 16), "w8a8", **parts)


def later(value: float) -> Tensor:
    return torch.full((9, 9), value).triu(1)


def fraction(dtype: torch.dtype, *layers: nn.Module, shape: tuple[int, ...] = (12,)) -> Case:
    return nn.Sequential(*layers).to(dtype), torch.rand(16, *shape).to(dtype), "w8a8"


def image(*layers: nn.Module, recipe: str = "w8a8", size: int = 16) -> Case:
    return nn.Sequential(*layers), torch.rand(32, 3, size, size), recipe


def buffered(value: Tensor, where: str) -> Case:
    net = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    net.get_submodule(where).register_buffer("best", value)
    return net, torch.rand(16, 12), "w4a4"


def computed_convolution(m: Net, x: Tensor) -> Tensor:
    return F.conv2d(x, m.w.weight, m.w.bias * m.gain + m.shift, padding=1)


def joined_bias(m: Net, x: Tensor) -> Tensor:
    return F.linear(x, m.w.weight, torch.cat([m.q, torch.zeros_like(m.q), m.v]))


VARIANTS: dict[str, tuple[Callable[[], Case], ...]] = {
    "sum_of_parameters": (
        lambda: head(lambda m, y: y + m.p * m.q, p=parameter(8), q=parameter(8)),
        lambda: head(lambda m, y: y - (m.p[None] + m.q).mean(0), p=parameter(8), q=parameter(3, 8)),
        lambda: head(lambda m, y: y + (m.p + torch.arange(8) / 8).relu(), p=parameter(8)),
    ),
    "gate_from_a_parameter": (
        lambda: head(lambda m, y: y * torch.sigmoid(m.gate), "w8a8", gate=parameter(8)),
        lambda: head(lambda m, y: y * m.gate.exp().clamp(max=4), "w8a8", gate=parameter(1)),
        lambda: head(lambda m, y: y / (1 + m.gate.square()), "w8a8", gate=parameter(8)),
    ),
    "bias_that_is_computed": (
        lambda: linears(
            computed_convolution,
            (8, 3, 6, 6),
            "w8a8",
            w=nn.Conv2d(3, 6, 3),
            gain=parameter(6),
            shift=torch.ones(6),
        ),
        lambda: linears(
            joined_bias,
            (8, 5, 16),
            "w8a8",
            w=nn.Linear(16, 48, bias=False),
            q=parameter(16),
            v=parameter(16),
        ),
        lambda: linears(
            lambda m, x: F.linear(x, m.w.weight, m.table[1]),
            (8, 16),
            "w8a8",
            w=nn.Linear(16, 8, bias=False),
            table=parameter(3, 8),
        ),
    ),
    "linear_on_tokens_two_bits": (
        lambda: (nn.Linear(32, 32), torch.randn(16, 6, 32), "w2"),
        lambda: (nn.Linear(7, 5, bias=False), torch.randn(16, 2, 3, 7), "w2"),
        lambda: layers((16, 4, 10), "w2", nn.Linear(10, 33), nn.GELU(), nn.Linear(33, 3)),
    ),
    "first_axis_is_not_the_batch": (
        lambda: linears(lambda m, x: m.l(x).transpose(0, 1), (16, 6, 32), "w2", l=nn.Linear(32, 5)),
        lambda: linears(lambda m, x: m.l(x.reshape(-1, 8)), (16, 6, 32), "w2", l=nn.Linear(8, 5)),
        lambda: linears(
            lambda m, x: m.l(x).permute(2, 1, 0), (16, 6, 32), "w2", l=nn.Linear(32, 5)
        ),
    ),
    "one_number_an_image": (
        lambda: linears(lambda m, x: m.l(x).squeeze(1), (64, 12), "w4", l=nn.Linear(12, 1)),
        lambda: linears(lambda m, x: m.l(x).mean(1), (64, 12), "w4", l=nn.Linear(12, 5)),
        lambda: linears(lambda m, x: x @ m.w, (64, 12), "w4", w=parameter(12)),
    ),
    "first_operation_in_place": (
        lambda: linears(lambda m, x: m.l(x.mul_(2).add_(1)), (64, 12), "w8a8", l=nn.Linear(12, 3)),
        lambda: layers((64, 12), "w8a8", nn.Hardtanh(inplace=True), nn.Linear(12, 3)),
        lambda: linears(
            lambda m, x: m.l(x.masked_fill_(x < 0, 0.5)), (64, 12), "w8a8", l=nn.Linear(12, 3)
        ),
    ),
    "infinite_buffer": (
        lambda: buffered(torch.tensor(INF), ""),
        lambda: buffered(later(-INF), "0"),
        lambda: buffered(torch.tensor([INF, -INF, 0.0]).double(), "2"),
    ),
    "double_precision": (
        lambda: fraction(torch.float16, nn.Linear(12, 3)),
        lambda: fraction(torch.bfloat16, nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3)),
        lambda: fraction(
            torch.float64, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), shape=(3, 6, 6)
        ),
    ),
    "swa_average": (
        lambda: (nn.DataParallel(nn.Linear(12, 3)), torch.rand(16, 12), "w8a8"),
        lambda: (AveragedModel(nn.DataParallel(nn.Linear(12, 3))), torch.rand(16, 12), "w8a8"),
        lambda: (AveragedModel(AveragedModel(nn.Linear(12, 3))), torch.rand(16, 12), "w8a8"),
    ),
    "attention_without_rows": (
        lambda: attention(lambda m, q, k: torch.bmm(q, k.mT), "w4a4"),
        lambda: attention(lambda m, q, k: torch.einsum("nqd,nkd->nqk", q, k), "w4a4"),
        lambda: attention(lambda m, q, k: (q * 8**-0.5) @ k.permute(0, 2, 1), "w4a4"),
    ),
    "additive_mask": (
        lambda: masked(lambda m, s: s + m.mask, mask=later(-INF)),
        lambda: masked(lambda m, s: s + torch.full_like(s[0], torch.finfo(s.dtype).min).triu(1)),
        lambda: masked(lambda m, s: s.masked_fill(m.mask < 0, -1e9), mask=later(-1.0)),
    ),
    "one_dead_channel": (
        lambda: dead(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4), shape=(12,)),
        lambda: dead(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 4, 3), shape=(4, 8, 8)),
        lambda: dead(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 1), shape=(3, 9)),
    ),
    "pad_before_a_convolution": (
        lambda: image(nn.ZeroPad2d(1), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)),
        lambda: image(
            nn.Conv2d(3, 8, 1), nn.ReLU(), nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(8, 4, 3, groups=4)
        ),
        lambda: image(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2, padding=1), nn.ReLU()),
    ),
    "output_name": (
        lambda: image(nn.Conv2d(3, 8, 3), nn.ReLU(), size=8),
        lambda: image(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 4), nn.Softmax(1), size=8),
        lambda: image(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Flatten(1, 2), recipe="w4", size=8),
    ),
    "segmentation_agreement": (
        lambda: image(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        lambda: image(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.ConvTranspose2d(8, 5, 2, 2)),
        lambda: image(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2), nn.Conv2d(4, 6, 1), size=9),
    ),
}
