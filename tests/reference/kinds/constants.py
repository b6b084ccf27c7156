"""Whatever depends on parameters and buffers alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.reference.kinds.kind import Kind, Net, parameter


def tokens(m: Net, x: Tensor) -> Tensor:
    x = torch.cat([m.token.expand(x.shape[0], -1, -1), m.patches(x)], 1) + m.positions
    return m.head(m.mix(x)[:, 0])


def bias_of_parts(m: Net, x: Tensor) -> Tensor:
    bias = torch.cat([m.q, torch.zeros_like(m.q), m.v])
    return m.head(F.linear(x, m.qkv.weight, bias))


def zeroed_bias(m: Net, x: Tensor) -> Tensor:
    bias = m.qkv.bias.clone()
    bias[4:8].zero_()
    return m.head(F.linear(x, m.qkv.weight, bias))


class Standardised(nn.Conv2d):
    """A convolution with weights of mean 0 and variance 1, and a gain a channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True, unbiased=False)
        weight = self.gain * (self.weight - mean) * torch.rsqrt(variance * 27 + 1e-4)
        return self._conv_forward(x, weight, self.bias)


def reparametrised(m: Net, x: Tensor) -> Tensor:
    weight = m.wide.weight + F.pad(m.narrow.weight, (1, 1, 1, 1))
    return m.head(F.relu(F.conv2d(x, weight, m.wide.bias + m.narrow.bias, padding=1)))


def pruned() -> nn.Module:
    layer = nn.Linear(12, 8)
    prune.random_unstructured(layer, "weight", 0.5)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 4))


def normed(norm: object, part: nn.Module) -> nn.Module:
    return nn.Sequential(norm(part), nn.ReLU(), nn.Conv2d(4, 3, 1))  # type: ignore[operator]


class Counter(nn.Module):
    """Counts its calls, and answers by the number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) * self.calls


def position_network(m: Net, x: Tensor) -> Tensor:
    """A table of positions made by layers whose input is a constant."""
    return m.head(m.first(x) + m.second(F.relu(m.coordinates_in(m.coordinates))))


def resized(m: Net, x: Tensor) -> Tensor:
    table = F.interpolate(m.table[None], size=6, mode="linear")[0].t()
    return m.head(m.first(x) + table).mean(1)


def weight_statistic(m: Net, x: Tensor) -> Tensor:
    """What is computed from a quantized weight follows its codes."""
    return m.head(F.relu(m.layer(x)) * m.layer.weight.abs().mean(1))


CONSTANTS = {
    "class token and positions": Kind(
        lambda: Net(
            tokens,
            token=parameter(1, 1, 8),
            positions=parameter(1, 6, 8),
            patches=nn.Linear(7, 8),
            mix=nn.Linear(8, 8),
            head=nn.Linear(8, 3),
        ),
        (5, 7),
    ),
    "bias of parts": Kind(
        lambda: Net(
            bias_of_parts,
            qkv=nn.Linear(8, 12, bias=False),
            q=parameter(4),
            v=parameter(4),
            head=nn.Linear(12, 3),
        ),
        (5, 8),
    ),
    "bias zeroed in part": Kind(
        lambda: Net(zeroed_bias, qkv=nn.Linear(8, 12), head=nn.Linear(12, 3)), (5, 8)
    ),
    "weight standardisation": Kind(
        lambda: nn.Sequential(Standardised(3, 6), nn.ReLU(), nn.Conv2d(6, 4, 1)), (3, 6, 6)
    ),
    "weight norm": Kind(
        lambda: normed(parametrizations.weight_norm, nn.Conv2d(3, 4, 3)), (3, 6, 6)
    ),
    "spectral norm": Kind(
        lambda: normed(parametrizations.spectral_norm, nn.Conv2d(3, 4, 3)), (3, 6, 6)
    ),
    "pruning mask": Kind(pruned, (12,)),
    "reparametrised branch": Kind(
        lambda: Net(
            reparametrised,
            wide=nn.Conv2d(3, 4, 3),
            narrow=nn.Conv2d(3, 4, 1),
            head=nn.Conv2d(4, 2, 1),
        ),
        (3, 6, 6),
    ),
    "low-rank adapter": Kind(
        lambda: Net(
            lambda m, x: F.linear(x, m.layer.weight + m.b @ m.a, m.layer.bias),
            layer=nn.Linear(8, 5),
            a=parameter(2, 8),
            b=parameter(5, 2),
        ),
        (8,),
        counted=False,
    ),
    "sum of parameters": Kind(
        lambda: Net(
            lambda m, x: m.layer(x) + (m.p + m.q),
            layer=nn.Linear(12, 8),
            p=parameter(8),
            q=parameter(8),
        ),
        (12,),
    ),
    "gate": Kind(
        lambda: Net(
            lambda m, x: (m.layer(x) * (1 + m.gate)).mean(1),
            layer=nn.Linear(16, 16),
            gate=parameter(16),
        ),
        (5, 16),
    ),
    "counter": Kind(Counter, (12,)),
    "position network": Kind(
        lambda: Net(
            position_network,
            first=nn.Linear(6, 8),
            coordinates_in=nn.Linear(2, 10),
            second=nn.Linear(10, 8),
            coordinates=torch.randn(5, 2),
            head=nn.Linear(8, 3),
        ),
        (5, 6),
        counted=False,
    ),
    "resized table": Kind(
        lambda: Net(resized, first=nn.Linear(7, 8), table=parameter(8, 3), head=nn.Linear(8, 4)),
        (6, 7),
    ),
    "statistic of a weight": Kind(
        lambda: Net(weight_statistic, layer=nn.Linear(12, 8), head=nn.Linear(8, 4)), (12,)
    ),
}
