"""The quantized network as an exported program of torch's own operations: nothing of subbyte's in
it, so that torch alone can run it.

    weight      float32, dequantized
    activation  clamp(round(x / scale), low, high) * scale       as `instrument.FakeQuantize`, to
                                                                 the bit
    uneven      levels[number of middles between levels that x / scale lies above] * scale
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from subbyte.graph.capture import exported_program
from subbyte.graph.instrument import FakeQuantize, Instrumented, copied
from subbyte.graph.quiet import silence
from subbyte.graph.signature import Signature

_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""Notes on nodes that say where in whose source they come from."""


class _Even(nn.Module):
    """Whole numbers of steps between two ends."""

    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, tap: FakeQuantize) -> None:
        super().__init__()
        assert tap.spec is not None
        ends = tap.spec.alphabet.ladder(tap.zero_point, tap.own).ends
        self.axis = tap.axis
        for name, part in zip(("scale", "low", "high"), (tap.scale, *ends), strict=True):
            self.register_buffer(name, torch.as_tensor(part, dtype=torch.float32).clone())

    def forward(self, x: Tensor) -> Tensor:
        scale, low, high = (
            _along(part, x, self.axis) for part in (self.scale, self.low, self.high)
        )
        return torch.clamp(torch.round(x / scale), low, high) * scale


class _Dynamic(nn.Module):
    """Steps that every batch chooses anew."""

    def __init__(self, tap: FakeQuantize) -> None:
        super().__init__()
        self.tap = tap

    def forward(self, x: Tensor) -> Tensor:
        assert self.tap.spec is not None
        alphabet, axis = self.tap.spec.alphabet, self.tap.axis
        scale, zero_point = (_along(part, x, axis) for part in self.tap.chosen(x))
        own = _along(self.tap.own, x, axis) if self.tap.own.numel() else self.tap.own
        low, high = (torch.as_tensor(end) for end in alphabet.ladder(zero_point, own).ends)
        return torch.clamp(torch.round(x / scale), low.float(), high.float()) * scale


class _Uneven(nn.Module):
    """Any rising levels."""

    def __init__(self, tap: FakeQuantize) -> None:
        super().__init__()
        self.tap = tap

    def forward(self, x: Tensor) -> Tensor:
        return self.tap.on_levels(x, *self.tap.chosen(x))


def _along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """[channels] in a shape that spreads over x; a number as it is."""
    if axis is None or not parameter.ndim:
        return parameter
    return parameter.reshape(-1, *[1] * (x.ndim - 1 - axis))


def _plain(tap: FakeQuantize) -> nn.Module:
    assert tap.spec is not None
    if not tap.spec.alphabet.even:
        return _Uneven(tap)
    return _Even(tap) if tap.fit is None else _Dynamic(tap)


@dataclass(frozen=True, eq=False)
class Program:
    """A program of torch's own operations, with what is to be known of it to call it."""

    exported: torch.export.ExportedProgram

    @property
    def module(self) -> nn.Module:
        """The program as a module, called as the network is."""
        module = self.exported.module(check_guards=False)
        assert isinstance(module, nn.Module)
        return module.requires_grad_(False)

    @property
    def taken(self) -> list[tuple[torch.dtype, tuple[int | None, ...]]]:
        """Types and shapes of the tensors that it takes, in order; None for sizes that are free."""
        values = {node.name: node.meta["val"] for node in self.exported.graph.nodes if node.meta}
        tensors = [values[name] for name in self._names if isinstance(values.get(name), Tensor)]
        return [
            (t.dtype, tuple(size if isinstance(size, int) else None for size in t.shape))
            for t in tensors
        ]

    @property
    def _names(self) -> list[Any]:
        """Names of the inputs' nodes, and values that are no tensors."""
        return list(self.exported.graph_signature.user_inputs)

    @property
    def operations(self) -> Counter[str]:
        """How many operations of each kind there are."""
        nodes = self.exported.graph.nodes
        return Counter(str(node.target) for node in nodes if node.op == "call_function")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters, buffers and constants by name."""
        held = {**self.exported.state_dict, **self.exported.constants}
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}

    @property
    def flat(self) -> Callable[..., tuple[Tensor, ...]]:
        """The program from the tensors that it takes, in order, to the tensors that it gives."""
        module, (args, kwargs) = self.module, self.exported.example_inputs
        leaves, tree = pytree.tree_flatten((args, kwargs))

        def run(*given: Tensor) -> tuple[Tensor, ...]:
            rest = iter(given)
            filled = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            own_args, own_kwargs = pytree.tree_unflatten(filled, tree)
            with torch.no_grad():
                found = pytree.tree_leaves(module(*own_args, **own_kwargs))
            return tuple(leaf for leaf in found if isinstance(leaf, Tensor))

        return run


def plain_program(instrumented: Instrumented, signature: Signature) -> Program:
    """The network as a program for any number of samples, and any size along dynamic axes."""
    graph_module = copied(instrumented.graph_module)
    for node in instrumented.taps.values():
        target = str(node.target)
        tap = graph_module.get_submodule(target)
        assert isinstance(tap, FakeQuantize)
        graph_module.set_submodule(target, _plain(tap))
    with silence(), torch.no_grad():
        return without_traces(exported_program(graph_module, signature.zeros(2)))


def without_traces(exported: torch.export.ExportedProgram) -> Program:
    """A program without notes on whose source its nodes come from; in place."""
    for node in exported.graph.nodes:
        for name in _TRACES:
            node.meta.pop(name, None)
    return Program(exported)
