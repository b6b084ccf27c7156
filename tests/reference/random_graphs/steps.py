"""Kinds of steps of random networks: what each reads, and the module that it draws.

A function a kind, under `kind`: from a growing network and the number of a value to a step, or None
where the kind does not fit the value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.reference.kinds.constants import Standardised
from tests.reference.kinds.kind import parameter
from tests.reference.random_graphs.growing import Growing, Step

Draw = Callable[[Growing, int], Step | None]


class Part(nn.Module):
    """Parts by name, and a forward written as a function of them and the values that it reads."""

    def __init__(self, run: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self._run = [run]
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *values: Tensor) -> Any:
        return self._run[0](self, *values)


@dataclass(frozen=True)
class Kind:
    """A kind of steps.

    draw: see `Draw`; axes: of the value that it begins with, None: any; dtype: of that value;
    counted: whether PyTorch counts what it multiplies as we do; onnx: whether torch.onnx has a form
    of it.
    """

    draw: Draw
    axes: int | None
    dtype: torch.dtype = torch.float32
    counted: bool = True
    onnx: bool = True


STEPS: dict[str, Kind] = {}
"""All kinds by name."""


def kind(axes: int | None, **about: Any) -> Callable[[Draw], Draw]:
    """Decorator: a function that draws steps of the kind that has its name."""

    def add(draw: Draw) -> Draw:
        STEPS[draw.__name__.replace("_", " ").strip()] = Kind(draw, axes, **about)
        return draw

    return add


def does(k: int, run: Callable[[Tensor], Any]) -> Step:
    """A step that has no parts and reads one value."""
    return Step(Part(lambda m, x: run(x)), (k,))


# layers


@kind(4)
def convolution(g: Growing, k: int) -> Step:
    inputs, out, size = g.values[k].shape[1], g.width(), g.one(1, 3, (3, 1), 2)
    settings = {
        "stride": g.one(1, 1, 2),
        "padding": g.one(0, 1, 1),
        "padding_mode": g.one("zeros", "zeros", "zeros", "reflect", "circular"),
        "bias": g.chance(0.5),
    }
    return Step(nn.Conv2d(inputs, out, size, groups=g.divisor(inputs, out), **settings), (k,))


@kind(4)
def dilated_convolution(g: Growing, k: int) -> Step:
    layer = nn.Conv2d(g.values[k].shape[1], g.width(), 3, dilation=2, padding=g.one("same", 2, 1))
    return Step(layer, (k,))


@kind(4)
def depthwise_convolution(g: Growing, k: int) -> Step:
    inputs = g.values[k].shape[1]
    out = inputs * g.one(1, 1, 2)
    return Step(nn.Conv2d(inputs, out, 3, padding=1, groups=inputs, bias=g.chance(0.5)), (k,))


@kind(4)
def transposed_convolution(g: Growing, k: int) -> Step:
    inputs, out = g.values[k].shape[1], g.width()
    groups = g.divisor(inputs, out)
    settings = g.one({"kernel_size": 2, "stride": 2}, {"kernel_size": 3, "padding": 1})
    if g.chance(0.3):
        settings = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
    return Step(nn.ConvTranspose2d(inputs, out, groups=groups, **settings), (k,))


@kind(3)
def convolution_of_one_axis(g: Growing, k: int) -> Step:
    inputs, out = g.values[k].shape[1], g.width()
    size, groups = g.one(1, 3, 5), g.divisor(inputs, out)
    settings = {"padding": size // 2, "stride": g.one(1, 2), "groups": groups}
    return Step(nn.Conv1d(inputs, out, size, **settings), (k,))


@kind(3)
def transposed_convolution_of_one_axis(g: Growing, k: int) -> Step:
    inputs, out = g.values[k].shape[1], g.width()
    return Step(nn.ConvTranspose1d(inputs, out, 3, g.one(1, 2), g.one(0, 1)), (k,))


@kind(4)
def weight_computed(g: Growing, k: int) -> Step:
    inputs, out = g.values[k].shape[1], g.width()
    layer: nn.Module = nn.Conv2d(inputs, out, 3, padding=1)
    change = g.one(parametrizations.weight_norm, parametrizations.spectral_norm, None)
    return Step(change(layer) if change else Standardised(inputs, out), (k,))


@kind(None)
def linear(g: Growing, k: int) -> Step:
    return Step(nn.Linear(g.values[k].shape[-1], g.width(), bias=g.chance(0.7)), (k,))


@kind(None)
def pruned_linear(g: Growing, k: int) -> Step:
    layer = nn.Linear(g.values[k].shape[-1], g.width())
    prune.random_unstructured(layer, "weight", 0.5)
    return Step(layer, (k,))


@kind(None)
def product_with_a_parameter(g: Growing, k: int) -> Step:
    weight = parameter(g.values[k].shape[-1], g.width())
    return Step(Part(lambda m, x: x @ m.weight, weight=weight), (k,))


@kind(None)
def bias_computed(g: Growing, k: int) -> Step:
    inputs, out = g.values[k].shape[-1], g.width()

    def run(m: Part, x: Tensor) -> Tensor:
        return F.linear(x, m.layer.weight, torch.cat([m.bias, torch.zeros_like(m.bias)]))

    layer = nn.Linear(inputs, 2 * out, bias=False)
    return Step(Part(run, layer=layer, bias=parameter(out)), (k,))


@kind(2)
def addmm(g: Growing, k: int) -> Step:
    out, factors = g.width(), {"beta": g.one(1, 0.5), "alpha": g.one(1, 2)}
    parts = {"shift": parameter(out), "weight": parameter(g.values[k].shape[1], out)}
    return Step(Part(lambda m, x: torch.addmm(m.shift, x, m.weight, **factors), **parts), (k,))


@kind(None)
def layer_called_again(g: Growing, k: int) -> Step | None:
    fits = [
        step.module
        for step in g.steps
        if isinstance(step.module, nn.Linear | nn.Conv2d | nn.Conv1d | nn.Sequential)
        and g.values[step.reads[0]].shape == g.values[k].shape
    ]
    return Step(g.one(*fits), (k,)) if fits else None


@kind(None)
def tied_weight(g: Growing, k: int) -> Step:
    inner = nn.Linear(g.values[k].shape[-1], g.width())
    return Step(Part(lambda m, x: F.relu(m.inner(x)) @ m.inner.weight, inner=inner), (k,))


@kind(None, counted=False)
def statistic_of_a_weight(g: Growing, k: int) -> Step:
    layer = nn.Linear(g.values[k].shape[-1], g.width())
    return Step(Part(lambda m, x: m.layer(x) * m.layer.weight.abs().sum(1), layer=layer), (k,))


@kind(3)
def recurrent(g: Growing, k: int) -> Step:
    cell = g.one(nn.LSTM, nn.GRU)(g.values[k].shape[2], 6, batch_first=True)
    return Step(Part(lambda m, x: m.cell(x)[0], cell=cell), (k,))


@kind(2, dtype=torch.int64)
def embedding(g: Growing, k: int) -> Step:
    return Step(nn.Embedding(10, g.width()), (k,))


@kind(2, dtype=torch.int64)
def tied_embedding(g: Growing, k: int) -> Step:
    width = g.width()
    parts = {"table": nn.Embedding(10, width), "inner": nn.Linear(width, width)}
    return Step(Part(lambda m, x: F.linear(m.inner(m.table(x)), m.table.weight), **parts), (k,))


# norms


@kind(4)
def batch_norm(g: Growing, k: int) -> Step:
    return Step(nn.BatchNorm2d(g.values[k].shape[1], affine=g.chance(0.8)), (k,))


@kind(3)
def batch_norm_of_one_axis(g: Growing, k: int) -> Step:
    return Step(nn.BatchNorm1d(g.values[k].shape[1]), (k,))


@kind(2)
def batch_norm_of_vectors(g: Growing, k: int) -> Step:
    return Step(nn.BatchNorm1d(g.values[k].shape[1]), (k,))


@kind(4)
def convolution_and_norm(g: Growing, k: int) -> Step:
    inputs, out = g.values[k].shape[1], g.width()
    layer = nn.Conv2d(inputs, out, 3, padding=1, bias=False)
    return Step(nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU()), (k,))


@kind(4, counted=False)
def parallel_branches(g: Growing, k: int) -> Step:
    """They become one layer."""
    inputs, out = g.values[k].shape[1], g.width()
    parts = {
        "wide": nn.Sequential(nn.Conv2d(inputs, out, 3, padding=1), nn.BatchNorm2d(out)),
        "narrow": nn.Sequential(nn.Conv2d(inputs, out, 1), nn.BatchNorm2d(out)),
    }
    return Step(Part(lambda m, x: m.wide(x) + m.narrow(x), **parts), (k,))


@kind(4)
def group_norm(g: Growing, k: int) -> Step:
    channels = g.values[k].shape[1]
    return Step(nn.GroupNorm(g.divisor(channels), channels), (k,))


@kind(4)
def instance_norm(g: Growing, k: int) -> Step:
    return Step(nn.InstanceNorm2d(g.values[k].shape[1], affine=g.chance(0.5)), (k,))


@kind(None)
def layer_norm(g: Growing, k: int) -> Step:
    make = g.one(nn.LayerNorm, nn.LayerNorm, nn.RMSNorm)
    return Step(make(g.values[k].shape[-1]), (k,))


@kind(4)
def layer_norm_of_channels(g: Growing, k: int) -> Step:
    def run(m: Part, x: Tensor) -> Tensor:
        return m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return Step(Part(run, norm=nn.LayerNorm(g.values[k].shape[1])), (k,))


@kind(None)
def normalized(g: Growing, k: int) -> Step:
    return does(k, lambda x: 3 * F.normalize(x, dim=-1))


# activations and arithmetic


@kind(None)
def activation(g: Growing, k: int) -> Step:
    relu = nn.ReLU(inplace=g.chance(0.3))
    return Step(g.one(relu, relu, relu, nn.ReLU6(), nn.Hardtanh(-1.5, 1)), (k,))


@kind(None)
def smooth_activation(g: Growing, k: int) -> Step:
    kinds = nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.PReLU
    more = nn.Softplus, nn.Hardsigmoid, nn.SELU, nn.Mish, nn.Softsign
    return Step(g.one(*kinds, *more)(), (k,))


@kind(None)
def function(g: Growing, k: int) -> Step:
    functions: list[Callable[[Tensor], Tensor]] = [
        torch.abs,
        torch.square,
        torch.sin,
        lambda x: torch.sqrt(x.abs() + 0.1),
        lambda x: torch.exp(-x.abs()),
        lambda x: torch.log1p(x.abs()),
        lambda x: x.clamp(-1, 0.5),
        lambda x: x.clamp(min=-0.5),
        lambda x: torch.where(x > 0, x, 0.3 * x),
        lambda x: x.masked_fill(x < -1, 0.0),
        lambda x: F.glu(x) if x.shape[-1] % 2 == 0 else x * 2,
        lambda x: x.pow(3) / 3,
        lambda x: torch.maximum(x, x.flip(-1)),
    ]
    return does(k, g.one(*functions))


@kind(None)
def arithmetic_with_numbers(g: Growing, k: int) -> Step:
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x * 0.5,
        lambda x: x / 3,
        lambda x: 1 - x,
        lambda x: x + 0.25,
        lambda x: -x,
        lambda x: 1 / (1 + x.abs()),
    ]
    return does(k, g.one(*functions))


@kind(None)
def sum_of_values(g: Growing, k: int) -> Step | None:
    other = g.alike(k)
    if other is None:
        return None
    sign = g.one(1, 1, -1)
    run = g.one(lambda x, y: x + y, lambda x, y: torch.add(x, y, alpha=0.5), torch.sub)
    return Step(Part(lambda m, x, y: run(x, sign * y) if sign < 0 else run(x, y)), (k, other))


@kind(None)
def product_of_values(g: Growing, k: int) -> Step | None:
    other = g.alike(k)
    run = g.one(lambda x, y: x * y, lambda x, y: x * torch.sigmoid(y), lambda x, y: x / (1 + y * y))
    return None if other is None else Step(Part(lambda m, x, y: run(x, y)), (k, other))


@kind(4)
def gate_of_channels(g: Growing, k: int) -> Step:
    channels = g.values[k].shape[1]
    end = g.one(torch.sigmoid, F.hardsigmoid)

    def run(m: Part, x: Tensor) -> Tensor:
        return x * end(m.up(F.relu(m.down(x.mean((2, 3), keepdim=True)))))

    return Step(Part(run, down=nn.Conv2d(channels, 4, 1), up=nn.Conv2d(4, channels, 1)), (k,))


@kind(None)
def scale_and_shift(g: Growing, k: int) -> Step:
    """By parameters a channel, or computed from such."""
    shape = [1] * (g.values[k].ndim - 1)
    shape[g.one(0, -1)] = 0
    shape = [n or size for n, size in zip(shape, g.values[k].shape[1:], strict=True)]
    parts = {"scale": nn.Parameter(torch.rand(shape) + 0.5), "shift": parameter(*shape)}
    run = g.one(
        lambda m, x: x * m.scale,
        lambda m, x: x + m.shift,
        lambda m, x: x * (1 + m.scale) + m.shift / 2,
        lambda m, x: (x - m.shift) / m.scale,
    )
    return Step(Part(run, **parts), (k,))


# attention and other products


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": torch.zeros_like,
    "-100": lambda later: later * -100.0,
    "-1e9": lambda later: later * -1e9,
    "-inf": lambda later: torch.zeros_like(later).masked_fill(later > 0, -torch.inf),
    "finfo.min": lambda later: later * torch.finfo(torch.float32).min,
    "boolean": lambda later: later == 0,
}


def of_heads(g: Growing, k: int, change: Callable[..., Tensor], **parts: Any) -> Step:
    """Queries, keys and values of two heads, and what `change` makes of them, between layers."""
    width, out = 8, g.width()

    def run(m: Part, x: Tensor, *others: Tensor) -> Tensor:
        q, k, v = (one.unflatten(-1, (2, -1)).transpose(1, 2) for one in m.qkv(x).chunk(3, -1))
        return m.out(change(m, q, k, v).transpose(1, 2).flatten(2))

    parts |= {"qkv": nn.Linear(g.values[k].shape[2], 3 * width), "out": nn.Linear(width, out)}
    return Step(Part(run, **parts), (k,))


def masked(g: Growing, k: int) -> Tensor:
    """A mask [tokens, tokens] of a kind, over later tokens."""
    size = g.values[k].shape[1]
    return MASKS[g.one(*MASKS)](torch.ones(size, size).triu(1))


@kind(3)
def fused_attention(g: Growing, k: int) -> Step:
    call = F.scaled_dot_product_attention
    if g.chance(0.3):
        settings = {"is_causal": g.chance(0.5), "scale": g.one(None, 0.3)}
        return of_heads(g, k, lambda m, q, k, v: call(q, k, v, **settings))
    return of_heads(g, k, lambda m, q, k, v: call(q, k, v, m.mask), mask=masked(g, k))


@kind(3)
def attention_written_out(g: Growing, k: int) -> Step:
    by_einsum, first = g.chance(0.3), g.chance(0.5)

    def change(m: Part, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        factor = 1 / math.sqrt(q.shape[-1])
        q = q * factor if first else q
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) if by_einsum else q @ k.transpose(-2, -1)
        scores = scores if first else scores * factor
        if m.mask.dtype == torch.bool:
            scores = scores.masked_fill(~m.mask, -1e9)
        else:
            scores = scores + m.mask
        weights = scores.softmax(-1)
        return torch.einsum("bhqk,bhkd->bhqd", weights, v) if by_einsum else weights @ v

    return of_heads(g, k, change, mask=masked(g, k))


@kind(3)
def mask_made_in_forward(g: Growing, k: int) -> Step:
    value = g.one(-100.0, -1e4, torch.finfo(torch.float32).min, -torch.inf)

    def change(m: Part, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT / 2
        mask = torch.full((q.shape[-2], q.shape[-2]), value, device=q.device).triu(1)
        return torch.softmax(scores + mask, -1) @ v

    return of_heads(g, k, change)


@kind(3)
def padding_mask(g: Growing, k: int) -> Step | None:
    """Tokens that an input calls padding are not attended to."""
    tokens = g.values[k].shape[:2]
    masks = [j for j, v in enumerate(g.values) if v.dtype == torch.bool and v.shape == tokens]
    width, attend = g.values[k].shape[2], nn.MultiheadAttention
    if not masks or width % 2:
        return None
    parts = {"attend": attend(width, 2, batch_first=True)}
    need = g.chance(0.5)

    def run(m: Part, x: Tensor, mask: Tensor) -> Tensor:
        return m.attend(x, x, x, key_padding_mask=mask, need_weights=need)[0]

    return Step(Part(run, **parts), (k, masks[0]))


@kind(3)
def multi_head_attention(g: Growing, k: int) -> Step | None:
    width = g.values[k].shape[2]
    if width % 2:
        return None
    attend = nn.MultiheadAttention(width, 2, batch_first=True)
    return Step(Part(lambda m, x: x + m.attend(x, x, x)[0], attend=attend), (k,))


@kind(3)
def linear_attention(g: Growing, k: int) -> Step:
    return of_heads(g, k, lambda m, q, k, v: F.elu(q) @ (F.elu(k).mT @ v) / 4)


@kind(3)
def relative_positions(g: Growing, k: int) -> Step:
    size = g.values[k].shape[1]
    steps = torch.arange(size)
    index = steps[:, None] - steps[None] + size - 1

    def change(m: Part, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = m.table[m.index].permute(2, 0, 1)
        return torch.softmax(q @ k.mT / 2 + bias, -1) @ v

    return of_heads(g, k, change, table=parameter(2 * size - 1, 2), index=index)


@kind(3)
def matrix_product(g: Growing, k: int) -> Step | None:
    width = g.values[k].shape[2]
    other = g.partner(k, lambda value: value.ndim == 3 and value.shape[2] == width)
    run = g.one(
        lambda x, y: x @ y.transpose(1, 2),
        lambda x, y: torch.bmm(x, y.mT),
        lambda x, y: torch.einsum("nad,nbd->nab", x, y),
    )
    factor = width**-0.5
    return None if other is None else Step(Part(lambda m, x, y: run(x, y) * factor), (k, other))


@kind(4)
def product_of_images(g: Growing, k: int) -> Step | None:
    """Channels that look at each other."""
    other = g.alike(k)
    factor = math.prod(g.values[k].shape[2:]) ** -0.5

    def run(m: Part, x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("nahw,nbhw->nab", x, y) * factor

    return None if other is None else Step(Part(run), (k, other))


@kind(3, counted=False)
def product_with_a_vector(g: Growing, k: int) -> Step:
    return Step(Part(lambda m, x: x @ m.query, query=parameter(g.values[k].shape[2])), (k,))


@kind(3)
def weight_from_another_layer(g: Growing, k: int) -> Step:
    width, out = g.values[k].shape[2], g.width()

    def run(m: Part, x: Tensor) -> Tensor:
        return x @ m.maker(x.mean(1)).reshape(-1, width, out)

    return Step(Part(run, maker=nn.Linear(width, width * out)), (k,))


@kind(2, counted=False)
def bilinear(g: Growing, k: int) -> Step | None:
    other = g.partner(k, lambda value: value.ndim == 2)
    if other is None:
        return None
    sizes = [g.values[j].shape[1] for j in (k, other)]
    return Step(nn.Bilinear(*sizes, g.width()), (k, other))


@kind(2)
def outer_product(g: Growing, k: int) -> Step | None:
    other = g.partner(k, lambda value: value.ndim == 2)
    run = g.one(lambda x, y: x[:, :, None] * y[:, None], partial(torch.einsum, "na,nb->nab"))
    return None if other is None else Step(Part(lambda m, x, y: run(x, y)), (k, other))


@kind(None)
def softmax(g: Growing, k: int) -> Step:
    return does(k, lambda x: 4 * x.softmax(-1))


# moves


@kind(None)
def concatenation(g: Growing, k: int) -> Step | None:
    shape = g.values[k].shape
    if len(shape) < 2:
        return None
    axis = g.one(*range(1, len(shape)))

    def fits(value: Tensor) -> bool:
        sizes = list(value.shape)
        return value.ndim == len(shape) and sizes[:axis] + sizes[axis + 1 :] == [
            *shape[:axis],
            *shape[axis + 1 :],
        ]

    others = [g.partner(k, fits) for _ in range(g.one(1, 2))]
    reads = (k, *(other for other in others if other is not None))
    return Step(Part(lambda m, *values: torch.cat(values, axis)), reads)


@kind(None)
def split(g: Growing, k: int) -> Step | None:
    """Into values that all others may read."""
    axis = g.one(1, -1) if g.values[k].ndim > 1 else 0
    size = g.values[k].shape[axis]
    if size < 4 or axis == 0:
        return None
    first = g.one(size // 2, 2, 1)
    run = g.one(
        lambda x: x.chunk(2, axis),
        lambda x: x.split([first, size - first], axis),
        lambda x: torch.tensor_split(x, 2, axis),
    )
    return does(k, run)


@kind(3)
def unbind(g: Growing, k: int) -> Step | None:
    return does(k, lambda x: x.unbind(1)) if g.values[k].shape[1] < 7 else None


@kind(None)
def slice_(g: Growing, k: int) -> Step | None:
    if g.values[k].ndim < 2:
        return None
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x[:, 1:],
        lambda x: x[..., :-1],
        lambda x: x[..., ::2],
        lambda x: x[:, ::2],
        lambda x: x.flip(-1),
        lambda x: x.roll(1, -1),
        lambda x: x[:, [1, 0]],
        lambda x: x.narrow(1, 0, 2),
    ]
    return does(k, g.one(*functions)) if min(g.values[k].shape[1:]) > 2 else None


@kind(3)
def one_token(g: Growing, k: int) -> Step:
    run = g.one(lambda x: x[:, 0], lambda x: x[:, -1], lambda x: x.mean(1), lambda x: x.amax(1))
    return does(k, run)


@kind(3)
def class_token(g: Growing, k: int) -> Step:
    def run(m: Part, x: Tensor) -> Tensor:
        return torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1) + m.positions

    tokens, width = g.values[k].shape[1:]
    parts = {"token": parameter(1, 1, width), "positions": parameter(1, tokens + 1, width)}
    return Step(Part(run, **parts), (k,))


@kind(3, counted=False)
def positions_computed(g: Growing, k: int) -> Step:
    tokens, width = g.values[k].shape[1:]

    def run(m: Part, x: Tensor) -> Tensor:
        return x + m.second(F.relu(m.first(m.coordinates)))

    first, second = nn.Linear(2, 6), nn.Linear(6, width)
    return Step(Part(run, first=first, second=second, coordinates=torch.randn(tokens, 2)), (k,))


@kind(4)
def pool(g: Growing, k: int) -> Step | None:
    functions = [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 1, 1, count_include_pad=g.chance(0.5)),
        nn.AdaptiveAvgPool2d(g.one(1, 2, 3)),
        nn.AdaptiveMaxPool2d(1),
        nn.MaxPool2d(2, ceil_mode=True),
    ]
    return Step(g.one(*functions), (k,)) if min(g.values[k].shape[2:]) > 2 else None


@kind(3)
def pool_of_one_axis(g: Growing, k: int) -> Step | None:
    functions = nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2), nn.AvgPool1d(3, 1, 1)
    return Step(g.one(*functions), (k,)) if g.values[k].shape[2] > 3 else None


@kind(4, onnx=False)
def without_a_form_in_onnx(g: Growing, k: int) -> Step | None:
    uneven = [n for n in (2, 3) if g.values[k].shape[2] % n and g.values[k].shape[2] > n]
    return Step(nn.AdaptiveMaxPool2d(g.one(*uneven)), (k,)) if uneven else None


@kind(4)
def padding(g: Growing, k: int) -> Step | None:
    if min(g.values[k].shape[2:]) < 3:
        return None
    modules = (
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.ConstantPad2d(1, 0.5),
        nn.ReflectionPad2d(1),
        nn.ReplicationPad2d((1, 0, 1, 0)),
    )
    return Step(g.one(*modules), (k,))


@kind(4)
def resize(g: Growing, k: int) -> Step:
    modules = (
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(size=(7, 7), mode="bilinear", align_corners=True),
        nn.Upsample(size=(5, 4), mode="bicubic"),
    )
    return Step(g.one(*modules), (k,))


@kind(4)
def shuffle(g: Growing, k: int) -> Step | None:
    channels = g.values[k].shape[1]
    if channels % 4:
        return None
    modules = nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.ChannelShuffle(channels // 2)
    return Step(g.one(*modules), (k,))


@kind(4)
def to_tokens(g: Growing, k: int) -> Step:
    run = g.one(
        lambda x: x.flatten(2).transpose(1, 2),
        lambda x: x.flatten(2),
        lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1]),
        lambda x: x.mean(-1),
    )
    return does(k, run)


@kind(4)
def to_vectors(g: Growing, k: int) -> Step:
    run = g.one(
        lambda x: x.mean((2, 3)),
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: x.amax((2, 3)),
        lambda x: x.flatten(1),
    )
    return does(k, run)


@kind(3)
def other_way_round(g: Growing, k: int) -> Step:
    return does(k, lambda x: x.transpose(1, 2))


@kind(3)
def to_images(g: Growing, k: int) -> Step | None:
    height = g.divisor(g.values[k].shape[1])

    def run(x: Tensor) -> Tensor:
        return x.transpose(1, 2).unflatten(2, (height, -1)).contiguous()

    return does(k, run) if height > 1 else None


@kind(2)
def to_tokens_again(g: Growing, k: int) -> Step:
    tokens = g.divisor(g.values[k].shape[1])
    return does(
        k, g.one(lambda x: x.unflatten(1, (tokens, -1)), lambda x: x[:, None].repeat(1, 3, 1))
    )
