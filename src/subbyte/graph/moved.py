"""A network computed with its numbers moved a little: the rounding that a runtime may make."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from subbyte.graph.instrument import Instrumented
from subbyte.graph.tensors import tensor_at


@contextmanager
def moved(
    instrumented: Instrumented, tensors: Iterable[str], share: float, seed: int, sign: int
) -> Iterator[None]:
    """Within, each number of `tensors` (dotted names) and of the values before and behind
    activation quantizers is multiplied by 1 + sign * share * u, u uniform in -1..1.

    sign: 1 or -1; runs with both and the same seed move every number to either side.
    """
    generator = torch.Generator().manual_seed(seed)

    def move(value: Tensor) -> Tensor:
        u = torch.rand(value.shape, generator=generator).to(value.device)
        return value * (1 + sign * share * (2 * u - 1))

    def before(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (move(inputs[0]),)

    def behind(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return move(output)

    taps = [instrumented.tap(name) for name in instrumented.taps]
    kept = {name: tensor_at(instrumented.graph_module, name) for name in sorted(set(tensors))}
    whole = {name: tensor.clone() for name, tensor in kept.items()}
    hooks: list[RemovableHandle] = []
    try:
        with torch.no_grad():
            for name, tensor in kept.items():
                tensor.copy_(move(whole[name]))
        for tap in taps:
            hooks += [tap.register_forward_pre_hook(before), tap.register_forward_hook(behind)]
        yield
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for name, tensor in kept.items():
                tensor.copy_(whole[name])
