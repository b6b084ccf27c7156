"""Batch-norms that are alive: modules which compute with the statistics of each batch while a
network is trained.

Where a layer took a batch-norm up, its module stands behind the layer in training only: in
evaluation the layer's numbers have it in them. Where it stayed, the module stands in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subbyte.graph.affine import UNCHANGED, Affine, NormNumbers, Unfoldable, find_norms
from subbyte.graph.instrument import Instrumented

_FOLDER = "subbyte_norms"


class AliveNorm(_BatchNorm):
    """A batch-norm over axis 1 of values with any number of axes."""

    def __init__(self, numbers: NormNumbers) -> None:
        super().__init__(len(numbers.mean), numbers.eps, numbers.momentum)
        with torch.no_grad():
            for own, given in zip(_tensors(self), numbers.tensors, strict=True):
                own.copy_(given)
        self.weight.requires_grad_(numbers.learned)
        self.bias.requires_grad_(numbers.learned)

    def _check_input_dim(self, input: Tensor) -> None:
        """See torch: none is refused."""


def _tensors(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gamma, beta, mean and variance, as they are now."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.weight, norm.bias, norm.running_mean, norm.running_var


class Behind(nn.Module):
    """A batch-norm behind the layer that took it up."""

    def __init__(self, numbers: NormNumbers) -> None:
        super().__init__()
        self.norm: _BatchNorm = AliveNorm(numbers)  # torch may put one that spans processes here

    def forward(self, x: Tensor) -> Tensor:
        """The value behind it in training; in evaluation the layer has done it all."""
        return self.norm(x) if self.training else x

    @property
    def numbers(self) -> NormNumbers:
        """Its numbers as they are now."""
        gamma, beta, mean, variance = (part.detach().double() for part in _tensors(self.norm))
        learned = self.norm.weight.requires_grad
        return NormNumbers(gamma, beta, mean, variance, self.norm.eps, self.norm.momentum, learned)


@dataclass(frozen=True, eq=False)
class _Left:
    """A batch-norm that no layer took up. node: of its module's call; names: of its tensors in the
    network, in the order of `NormNumbers.tensors`; "" for those that it does not have.
    """

    node: fx.Node
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Norms:
    """The batch-norms of a graph that are alive: `behind` layers, by the names of these, and where
    no layer took them up.
    """

    graph_module: fx.GraphModule
    behind: Mapping[str, Behind] = field(default_factory=dict)
    stayed: tuple[_Left, ...] = ()

    def affine(self, layer: str) -> Affine:
        """A layer's batch-norm as it is in evaluation."""
        found = self.behind.get(layer)
        return UNCHANGED if found is None else found.numbers.affine

    @property
    def left(self) -> dict[str, Tensor]:
        """The tensors of those that no layer took up, by their names in the network."""
        found: dict[str, Tensor] = {}
        for one in self.stayed:
            tensors = (tensor.detach() for tensor in _tensors(self._module(one)))
            found |= {name: t for name, t in zip(one.names, tensors, strict=True) if name}
        return found

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that they learn."""
        modules = [*(one.norm for one in self.behind.values()), *map(self._module, self.stayed)]
        return [parameter for module in modules for parameter in module.parameters()]

    def settle(self) -> None:
        """Turn factors behind layers that have become negative."""
        for one in self.behind.values():
            one.norm.weight.abs_()

    def _module(self, one: _Left) -> _BatchNorm:
        found = self.graph_module.get_submodule(str(one.node.target))
        assert isinstance(found, _BatchNorm)
        return found


def enliven(network: Instrumented, behind: Mapping[str, NormNumbers]) -> Norms:
    """Put modules in place of batch-norms, but for those whose numbers hang on the input. behind:
    those that layers took up, by the names of these.
    """
    graph_module, stayed = network.graph_module, list[_Left]()
    for norm in find_norms(graph_module):
        try:
            module = AliveNorm(norm.numbers(graph_module))
        except Unfoldable:
            continue
        found = _call(graph_module, norm.value, norm.input, module)
        norm.value.replace_all_uses_with(found)
        stayed.append(_Left(found, norm.tensors))
    modules = {layer: Behind(numbers) for layer, numbers in behind.items()}
    for layer, one in modules.items():
        node = network.layers[layer]
        readers = list(node.users)
        found = _call(graph_module, node, node, one)
        for reader in readers:
            reader.replace_input_with(node, found)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return Norms(graph_module, modules, tuple(stayed))


def _call(graph_module: fx.GraphModule, after: fx.Node, value: fx.Node, norm: nn.Module) -> fx.Node:
    """Call a module of the graph's own on a value, behind a node."""
    if _FOLDER not in graph_module._modules:
        graph_module.add_submodule(_FOLDER, nn.Module())
    target = f"{_FOLDER}.n{len(graph_module.get_submodule(_FOLDER)._modules)}"
    graph_module.add_submodule(target, norm)
    with graph_module.graph.inserting_after(after):
        found = graph_module.graph.call_module(target, (value,))
    found.meta = dict(after.meta)
    return found
