"""Operations that hold products or multiplications, as what they are made of.

    attention(Q, K, V) = softmax(scale Q K' + mask) V          (Vaswani et al. 2017, equation 1)

The scale is applied to the scores, so that the values that the products read are those that their
layers gave.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

aten = torch.ops.aten


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention in evaluation mode, [..., queries, width]."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(repeats, -3) for each in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(query, key.transpose(-2, -1)) * factor
    if is_causal:
        seen = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)
        attn_mask = seen.tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # finite: a row that sees nothing is no NaN
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.matmul(torch.softmax(scores, -1), value)


def _baddbmm(base: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    product = torch.bmm(left, right)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (base if beta == 1 else base * beta)


def _addmm(base: Tensor, left: Tensor, right: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    product = torch.matmul(left, right)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (base if beta == 1 else base * beta)


def _mv(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.matmul(matrix, vector[:, None])[:, 0]


def _hardswish(value: Tensor) -> Tensor:
    return value * nn.functional.hardsigmoid(value)


def _silu(value: Tensor) -> Tensor:
    return value * torch.sigmoid(value)


def _own(operation: torch._ops.OpOverload) -> Callable[..., Any]:
    """PyTorch's own way of taking an operation apart."""
    return partial(operation._op_dk, torch._C.DispatchKey.CompositeImplicitAutograd)


DECOMPOSED: dict[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: _attention,
    aten.baddbmm.default: _baddbmm,
    aten.addmm.default: _addmm,
    aten.mv.default: _mv,
    aten.hardswish.default: _hardswish,
    aten.silu.default: _silu,
    **{
        operation: _own(operation)
        for operation in (
            aten.einsum.default,
            aten.tensordot.default,
            aten.inner.default,
            aten.lstm_cell.default,
            aten.gru_cell.default,
            aten.rnn_tanh_cell.default,
            aten.rnn_relu_cell.default,
        )
    },
}
"""How torch.export takes each apart."""
