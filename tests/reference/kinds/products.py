"""Products of two values, with masks and without, and weights that are no plain layer's."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte import Inputs
from tests.reference.kinds.kind import Kind, Net, parameter

TOKENS, WIDTH, HEADS = 6, 8, 2


def heads(x: Tensor, count: int = HEADS) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attention(change: Callable[..., Tensor], **parts: nn.Module | Tensor) -> Callable[[], Net]:
    """A network with attention between layers; change: gives the values [n, heads, tokens, width]
    of a module, queries, keys and values.
    """

    def run(m: Net, x: Tensor) -> Tensor:
        q, k, v = map(heads, m.qkv(x).chunk(3, -1))
        return m.out(change(m, q, k, v).transpose(1, 2).flatten(2)).mean(1)

    return lambda: Net(run, qkv=nn.Linear(WIDTH, 3 * WIDTH), out=nn.Linear(WIDTH, 5), **parts)


def fused(**settings: object) -> Callable[..., Tensor]:
    """The attention of torch's; settings: its arguments, functions of the module among them."""

    def change(m: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = {name: one(m) if callable(one) else one for name, one in settings.items()}
        return F.scaled_dot_product_attention(q, k, v, **given)

    return change


def additive(mask: Callable[[Net, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Attention written out, with a mask that is added to its scores."""

    def change(m: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return torch.softmax(mask(m, scores), -1) @ v

    return change


def later(value: float) -> Tensor:
    """A mask [tokens, tokens] with a value where a later token is."""
    return torch.full((TOKENS, TOKENS), value).triu(1)


def made_in_forward(value: float) -> Callable[[Net, Tensor], Tensor]:
    return lambda m, scores: scores + torch.full_like(scores[0, 0], value).triu(1)


def by_einsum(m: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


def relative(m: Net, scores: Tensor) -> Tensor:
    steps = torch.arange(TOKENS)
    index = steps[:, None] - steps[None] + TOKENS - 1
    return scores + m.table[index].permute(2, 0, 1)


def grouped(m: Net, x: Tensor) -> Tensor:
    q, k, v = m.q(x), m.k(x), m.v(x)
    found = F.scaled_dot_product_attention(
        heads(q, 4), heads(k, 2), heads(v, 2), is_causal=True, enable_gqa=True
    )
    return m.out(found.transpose(1, 2).flatten(2)).mean(1)


def own_attention(m: Net, x: Tensor) -> Tensor:
    return m.out(m.norm(x + m.attend(x, x, x, need_weights=False)[0])).mean(1)


class Padded(nn.Module):
    """Attention that is told which tokens are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.out = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.out(self.attend(x, x, x, key_padding_mask=padding)[0]).mean(1)


def padded_call(n: int) -> Inputs:
    lengths = torch.randint(2, TOKENS + 1, (n, 1))
    return Inputs(torch.randn(n, TOKENS, WIDTH), torch.arange(TOKENS)[None] >= lengths)


def layer() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True)


def divided(m: Net, x: Tensor) -> Tensor:
    y = 20 * m.gate(x)
    x = m.inner(x) / (1 + y * y)
    return m.head(x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6))


def tied_head(m: Net, x: Tensor) -> Tensor:
    return F.linear(m.inner(m.table(x).mean(1)), m.table.weight)


def transposed(m: Net, x: Tensor) -> Tensor:
    return m.head(F.relu(F.linear(x, m.weight)) @ m.weight)


def ids(n: int) -> Inputs:
    return Inputs(torch.randint(0, 10, (n, 7)))


def last_state(m: Net, x: Tensor) -> Tensor:
    return m.head(m.cell(x)[0][:, -1])


def recurrent(cell: nn.Module, width: int = 8) -> Net:
    return Net(last_state, cell=cell, head=nn.Linear(width, 3))


class Cells(nn.Module):
    """Recurrence written out: its weights are ordinary layers, called at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.other, self.head = nn.LSTMCell(6, 8), nn.GRUCell(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], 8)
        g = x.new_zeros(x.shape[0], 7)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
            g = self.other(h, g)
        return self.head(g)


MASKS: dict[str, Callable[..., Tensor]] = {
    "mask of -100": additive(lambda m, scores: scores + later(-100.0)),
    "mask of -1e4": additive(lambda m, scores: scores + later(-1e4)),
    "mask of -1e9, made in forward": additive(made_in_forward(-1e9)),
    "mask of the smallest number": additive(made_in_forward(torch.finfo(torch.float32).min)),
    "mask of -inf, made in forward": additive(made_in_forward(-torch.inf)),
    "filled with -inf": additive(lambda m, scores: scores.masked_fill(later(1.0) > 0, -torch.inf)),
    "chosen by where": additive(lambda m, s: torch.where(later(1.0) > 0, s.new_tensor(-1e9), s)),
}
PRODUCTS = {name: Kind(attention(change), (TOKENS, WIDTH)) for name, change in MASKS.items()} | {
    "mask of -inf in a buffer": Kind(
        attention(additive(lambda m, scores: scores + m.mask), mask=later(-torch.inf)),
        (TOKENS, WIDTH),
    ),
    "relative positions": Kind(
        lambda: attention(additive(relative), table=parameter(2 * TOKENS - 1, HEADS))(),
        (TOKENS, WIDTH),
    ),
    "fused attention": Kind(attention(fused()), (TOKENS, WIDTH)),
    "fused, causal": Kind(attention(fused(is_causal=True)), (TOKENS, WIDTH), "w4a8", decibels=8),
    "fused, bool mask": Kind(
        attention(fused(attn_mask=lambda m: m.seen), seen=later(1.0) == 0), (TOKENS, WIDTH)
    ),
    "fused, float mask": Kind(
        attention(fused(attn_mask=lambda m: m.mask, scale=0.3), mask=later(-1e4)), (TOKENS, WIDTH)
    ),
    "grouped queries": Kind(
        lambda: Net(
            grouped,
            q=nn.Linear(8, 8),
            k=nn.Linear(8, 4),
            v=nn.Linear(8, 4),
            out=nn.Linear(8, 5),
        ),
        (TOKENS, WIDTH),
    ),
    "einsum": Kind(attention(by_einsum), (TOKENS, WIDTH)),
    "multi-head attention": Kind(
        lambda: Net(
            own_attention,
            attend=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
            norm=nn.LayerNorm(WIDTH),
            out=nn.Linear(WIDTH, 5),
        ),
        (TOKENS, WIDTH),
    ),
    "padding mask": Kind(Padded, padded_call),
    "encoder layer": Kind(layer, (TOKENS, WIDTH)),
    "product with a parameter": Kind(
        lambda: Net(lambda m, x: m.head(x @ m.mix), mix=parameter(6, 7), head=nn.Linear(7, 3)),
        (5, 6),
    ),
    "linear attention": Kind(
        attention(lambda m, q, k, v: F.elu(q) @ (F.elu(k).mT @ v)), (TOKENS, WIDTH)
    ),
    "weights of a layer from another": Kind(
        lambda: Net(lambda m, x: x @ m.maker(x.mean(1)).reshape(-1, 6, 4), maker=nn.Linear(6, 24)),
        (5, 6),
    ),
    "bilinear": Kind(
        lambda: Net(
            lambda m, x: m.pair(m.first(x), x), first=nn.Linear(6, 8), pair=nn.Bilinear(8, 6, 3)
        ),
        (6,),
        counted=False,
    ),
    "decoder layer": Kind(
        lambda: nn.TransformerDecoderLayer(WIDTH, HEADS, 12, batch_first=True),
        lambda n: Inputs(torch.randn(n, TOKENS, WIDTH), torch.randn(n, 4, WIDTH)),
    ),
    "addmm": Kind(
        lambda: Net(
            lambda m, x: torch.addmm(m.shift, F.relu(m.first(x)), m.weight, beta=0.5, alpha=2),
            first=nn.Linear(6, 8),
            shift=parameter(4),
            weight=parameter(8, 4),
        ),
        (6,),
    ),
    "product with a vector": Kind(
        lambda: Net(lambda m, x: m.layer(x) @ m.query, layer=nn.Linear(6, 8), query=parameter(8)),
        (5, 6),
        counted=False,
    ),
    "divisors that are small and large": Kind(
        lambda: Net(divided, gate=nn.Linear(6, 8), inner=nn.Linear(6, 8), head=nn.Linear(8, 3)),
        (6,),
        decibels=10,
    ),
    "similarities": Kind(
        lambda: Net(
            lambda m, x: (m.a(x) @ m.b(x).mT).flatten(1), a=nn.Linear(8, 6), b=nn.Linear(8, 6)
        ),
        (4, 8),
    ),
    "a scaled value times itself": Kind(
        lambda: Net(
            lambda m, x: m.head((y := m.inner(x) * 0.5) @ y),
            inner=nn.Linear(6, 6),
            head=nn.Linear(6, 3),
        ),
        (6, 6),
    ),
    "weight of a layer times a parameter": Kind(
        lambda: Net(
            lambda m, x: m.inner(x) @ (m.inner.weight @ m.other),
            inner=nn.Linear(6, 6),
            other=parameter(6, 4),
        ),
        (6,),
        counted=False,
    ),
    "tied, transposed": Kind(
        lambda: Net(transposed, weight=parameter(9, 6), head=nn.Linear(6, 3)), (6,)
    ),
    "tied embedding": Kind(
        lambda: Net(tied_head, table=nn.Embedding(10, 6), inner=nn.Linear(6, 6)), ids
    ),
    "embedding": Kind(
        lambda: Net(
            lambda m, x: m.head(m.table(x).mean(1)), table=nn.Embedding(10, 6), head=nn.Linear(6, 3)
        ),
        ids,
    ),
    "lstm": Kind(lambda: recurrent(nn.LSTM(6, 8, batch_first=True)), (5, 6)),
    "lstm, both ways": Kind(
        lambda: recurrent(nn.LSTM(6, 4, 2, batch_first=True, bidirectional=True)), (5, 6)
    ),
    "cells": Kind(Cells, (4, 6)),
    "gru": Kind(lambda: recurrent(nn.GRU(6, 8, batch_first=True)), (5, 6)),
}
