"""The part of the graph that the quantized traveller has yet to go through, as a function with
gradients.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from subbyte.graph.memory import Pair
from subbyte.graph.nodes import is_module, is_output, is_tensor
from subbyte.graph.samples import Samples
from subbyte.graph.tensors import tensor_at


class Rest:
    """The rest of the network: from the values where the quantized traveller stands to the output.

    Tensors of the network are looked up by their dotted names: first in what a call is given, then
    among the values that `Travel.requantize` set, then in the float network.
    """

    def __init__(
        self,
        nodes: list[fx.Node],
        values: dict[fx.Node, Pair],
        fixed: dict[fx.Node, Any],
        requantized: dict[str, Tensor],
        graph_module: fx.GraphModule,
        device: str,
    ) -> None:
        self._nodes, self._values, self._requantized = nodes, values, requantized
        self._fixed = {node: value for node, value in fixed.items() if not is_tensor(node)}
        self._graph_module, self._device = graph_module, device

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer as the quantized traveller has it."""
        return self._requantized.get(name, tensor_at(self._graph_module, name))

    def __call__(self, k: int, given: dict[str, Tensor]) -> Tensor:
        """The one output of the network for chunk k; see `outputs`."""
        (output,) = self.outputs(k, given)
        return output

    def outputs(self, k: int, given: dict[str, Tensor]) -> list[Tensor]:
        """The tensors that the network returns for chunk k, in order. given: tensors to use instead
        of the network's, by name.
        """
        done: dict[fx.Node, Any] = {}

        def argument(node: fx.Node) -> Any:
            if node in done:
                return done[node]
            if node in self._values:
                value = self._values[node].quantized[k]
                done[node] = value.to(self._device) if isinstance(value, Tensor) else value
            elif node in self._fixed:
                value = self._fixed[node]
                done[node] = value.to(self._device) if isinstance(value, Tensor) else value
            elif is_tensor(node):
                name = str(node.target)
                done[node] = given[name] if name in given else self.tensor(name)
            else:
                done[node] = run(node)
            return done[node]

        def run(node: fx.Node) -> Any:
            args, kwargs = fx.map_arg(node.args, argument), fx.map_arg(node.kwargs, argument)
            if is_module(node):
                return self._graph_module.get_submodule(str(node.target))(*args, **kwargs)
            assert callable(node.target)
            return node.target(*args, **kwargs)

        for node in self._nodes:
            if is_output(node):
                leaves = [
                    leaf for leaf in pytree.tree_leaves(node.args) if isinstance(leaf, fx.Node)
                ]
                return [argument(leaf) for leaf in leaves]
            if not is_tensor(node):
                argument(node)
        raise AssertionError("a captured graph has an output")


@torch.no_grad()
def float_outputs(graph_module: fx.GraphModule, chunks: list[Samples], device: str) -> list[Any]:
    """The float network's output for every chunk of samples: a tensor, or a tree of them."""
    calls = [chunk.to(device).call for chunk in chunks]
    return [graph_module(*call.args, **call.kwargs) for call in calls]
