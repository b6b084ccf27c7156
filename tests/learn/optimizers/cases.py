"""Networks without layers: tensors of several shapes, and gradients that depend on weights, step
and tensor alone.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

SHAPES = ((4, 3, 3, 3), (5,), (), (6, 7))
FINE = {"resolution": 26, "schedule": "fixed"}  # a lattice as fine as float32 makes it
ON_STALL = {"name": "on-stall", "share": 0.9, "window": 4}
"""Measured after steps 1, 2, 3, 4, 8, 12 ..."""


def normal(shape: Iterable[int], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(
        tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def parameters(
    shapes: Iterable[Iterable[int]] = SHAPES, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    return [normal(shape, 100 * seed + k, dtype).requires_grad_() for k, shape in enumerate(shapes)]


def copies(params: Iterable[Tensor]) -> list[Tensor]:
    """The same values in the same memory format."""
    return [p.detach().clone().requires_grad_() for p in params]


def set_gradients(params: list[Tensor], step: int, without: Iterable[int] = ()) -> None:
    """The way to a target, and noise; None for the tensors whose numbers are in `without`."""
    for k, p in enumerate(params):
        noise = normal(p.shape, 7919 * step + k, p.dtype)
        target = normal(p.shape, 31337 + k, p.dtype)
        p.grad = None if k in without else 0.5 * (p.detach() - target) + 0.3 * noise


def run(
    optimizer: Optimizer, params: list[Tensor], steps: Iterable[int], without: Any = None
) -> None:
    """Steps of these numbers; without: number of a step -> tensors that have no gradient in it."""
    for step in steps:
        set_gradients(params, step, without(step) if without else ())
        optimizer.step()


def move(optimizer: Optimizer, p: Tensor, *gradients: Tensor | list[float]) -> None:
    """Steps of one tensor along given gradients."""
    for gradient in gradients:
        p.grad = torch.as_tensor(gradient, dtype=p.dtype).reshape(p.shape).clone()
        optimizer.step()


def apart(first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
    """The largest difference between the weights of two networks."""
    return max(
        float((a.detach() - b.detach()).abs().max()) for a, b in zip(first, second, strict=True)
    )


def same(first: Iterable[Tensor], second: Iterable[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class _NoReading(TorchDispatchMode):
    """Refuses what would have a GPU waited for: numbers read from a tensor, results whose shape
    depends on values.
    """

    _reads = (
        "_local_scalar_dense",
        "nonzero",
        "is_nonzero",
        "equal",
        "masked_select",
        "unique",
        "bincount",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0].lstrip("_")
        chosen = args[1] if name in {"index", "index_put"} else ()
        if name in {read.lstrip("_") for read in self._reads} or any(
            c is not None and c.dtype == torch.bool for c in chosen
        ):
            raise AssertionError(f"{func.name()} reads from the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_read() -> Iterator[None]:
    """Nothing may be read from a tensor in here."""

    def refuse(*_: object) -> None:
        raise AssertionError("reads from the device")

    with pytest.MonkeyPatch.context() as patch, _NoReading():
        for name in ("tolist", "numpy", "cpu", "__array__"):  # these go past the dispatcher
            patch.setattr(torch.Tensor, name, refuse)
        yield
