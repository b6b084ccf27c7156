"""Second derivatives of the loss: exact ones for small layers, Gauss-Newton for all, traces of any.

    Hessian block of row n       H_n = d^2 L / dw_n dw_n'
    Gauss-Newton                 H_n = outputs_n H        outputs: `GradientStats`, H: `LayerStats`
    Hutchinson                   tr A = E z'Az,  z of independent signs
    Hutch++                      tr A = tr Q'AQ + E z'(I - QQ')A(I - QQ')z,  Q an orthonormal basis
                                                                             of A S, S of signs

Gauss-Newton in this form takes squared output gradients for independent of inputs and of those at
other positions; `LayerStats` with weighted rows does without the first. Hutch++ (Meyer, Musco,
Musco, Woodruff 2021, algorithm 1) spends a third of its products on each of S, Q and z; its error
falls as 1/products (Hutchinson: 1/sqrt(products)).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.errors import ModelError, NumericsError, RecipeError
from subbyte.stats.layer_stats import LayerStats

_MAX_WEIGHTS = 2**13  # of a layer: as many products with its Hessian
_MAX_ENTRIES = 2**26  # of its blocks: 512 MiB
_AT_ONCE = 16  # products
MatMul = Callable[[Tensor], Tensor]
"""A symmetric matrix [n, n] as a function: float64 [n, k] to the product, [n, k]."""


def hessian_blocks(loss: Callable[[Tensor], Tensor], weight: Tensor, name: str) -> Tensor:
    """The exact Hessian of each output channel: weight's dtype, [rows, columns, columns].

    loss: a number as a function of the weights [rows, columns], such as `gradients.loss_of_weight`;
    name: of the layer, for messages. Cost: `rows x columns` products with the Hessian, each about
        two passes forward and back.
    Raises ModelError when the layer is too large, NumericsError when the result holds NaN or Inf.
    """
    rows, columns = weight.shape
    if rows * columns > _MAX_WEIGHTS or rows * columns**2 > _MAX_ENTRIES:
        raise ModelError(
            f"layer {name!r}: exact Hessian blocks of {rows} x {columns} weights are too much (at "
            f"most "
            f"{_MAX_WEIGHTS:,} weights and {_MAX_ENTRIES:,} second derivatives); use Gauss-Newton"
        )
    weight = weight.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(weight), weight, create_graph=True)
    if not gradient.requires_grad:  # the loss is linear in the weights
        return weight.new_zeros(rows, columns, columns)
    blocks = []
    for some in torch.arange(rows * columns, device=weight.device).split(_AT_ONCE):
        units = (
            torch.nn.functional.one_hot(some, rows * columns)
            .to(weight.dtype)
            .reshape(-1, rows, columns)
        )
        (products,) = torch.autograd.grad(
            gradient, weight, units, retain_graph=True, is_grads_batched=True
        )
        blocks.append(products[torch.arange(len(some), device=weight.device), some // columns])
    result = torch.cat(blocks).reshape(rows, columns, columns)
    if not bool(torch.isfinite(result).all()):
        raise NumericsError(f"layer {name!r}: its second derivatives hold NaN or Inf")
    return (result + result.mT) / 2


def gauss_newton(difference: Tensor, stats: LayerStats, outputs: Tensor) -> Tensor:
    """The rise of an image's loss, to second order: 1/2 outputs_n d_n' H d_n, float64 [rows].

    difference: d, of the weights, [rows, columns]; stats: of the float network's inputs, with
        weighted rows or without;
    outputs: [rows].
    """
    d = stats.grouped(difference)
    return outputs.double() * ((d @ stats.F) * d).sum(-1).reshape(-1).clamp_min(0) / 2


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace: its value and standard error."""

    value: float
    error: float


def hutchinson(matrix: MatMul, size: int, probes: int, seed: int = 0) -> Trace:
    """The trace of a symmetric [size, size] matrix from `probes` products; unbiased.

    Raises RecipeError for fewer than 2 probes, NumericsError on NaN or Inf.
    """
    if size < 1 or probes < 2:
        raise RecipeError(
            f"a trace needs a matrix and at least 2 probes, got size {size} and {probes} probes"
        )
    z = _signs(size, probes, torch.Generator().manual_seed(seed))
    return _estimate(0.0, (z * matrix(z)).sum(0))


def hutch_plus_plus(matrix: MatMul, size: int, probes: int, seed: int = 0) -> Trace:
    """The trace of a symmetric [size, size] matrix from at most `probes` products; unbiased.

    The error is that of the part outside Q's span; it is 0 when the matrix has rank `probes` / 3 or
    less.
    Raises RecipeError for fewer than 6 probes, NumericsError on NaN or Inf.
    """
    if size < 1 or probes < 6:
        raise RecipeError(
            f"Hutch++ needs a matrix and at least 6 probes, got size {size} and {probes} probes"
        )
    third, generator = probes // 3, torch.Generator().manual_seed(seed)
    image = matrix(_signs(size, min(third, size), generator))
    if not bool(torch.isfinite(image).all()):
        raise NumericsError("a product with the matrix holds NaN or Inf")
    Q = torch.linalg.qr(image).Q
    inside = float((Q * matrix(Q)).sum())
    z = _signs(size, probes - 2 * third, generator)
    z = z - Q @ (Q.mT @ z)
    return _estimate(inside, (z * matrix(z)).sum(0))


def _signs(size: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (size, count), generator=generator).double() * 2 - 1


def _estimate(known: float, samples: Tensor) -> Trace:
    """A known part plus the mean of independent samples."""
    trace = Trace(known + float(samples.mean()), float(samples.std()) / len(samples) ** 0.5)
    if not torch.isfinite(torch.tensor([trace.value, trace.error])).all():
        raise NumericsError("a product with the matrix holds NaN or Inf")
    return trace
