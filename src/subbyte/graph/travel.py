"""Two travellers through a graph, node by node: the mechanics of the walk.

Values are kept in chunks for as long as a later node reads them. A node whose inputs are the same
for both travellers is computed once. Weights replaced by `requantize` hold for the quantized
traveller only.
"""

import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.graph.instrument import Instrumented
from subbyte.graph.layers import tensor_at
from subbyte.graph.memory import Chunks, Memory, Pair
from subbyte.graph.nodes import is_call, is_input, is_output, is_tensor
from subbyte.graph.rest import Rest


class Travel:
    """Runs an instrumented graph on chunks of images.

    at_layer(name, input): before a layer is computed; at_tap(name, value): returns the quantized
    traveller's value; after(name, value): when a layer or activation quantizer is done.
    """

    def __init__(
        self,
        instrumented: Instrumented,
        memory: Memory,
        device: str,
        *,
        at_layer: Callable[[str, Pair], None],
        at_tap: Callable[[str, Pair], Chunks],
        after: Callable[[str, Pair], None],
    ) -> None:
        self.memory, self.device = memory, device
        self._graph_module = instrumented.graph_module
        self._layers = {node: name for name, node in instrumented.layers.items()}
        self._taps = {node: name for name, node in instrumented.taps.items()}
        self._at_layer, self._at_tap, self._after = at_layer, at_tap, after
        self._values: dict[fx.Node, Pair] = {}
        self._constants: dict[fx.Node, Any] = {}
        self._requantized: dict[str, Tensor] = {}
        self._ahead: list[fx.Node] = []

    def rest(self) -> Rest:
        """The rest of the network, from the node that is being visited."""
        return Rest(self._ahead, self._values, self._requantized, self._graph_module, self.device)

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer as the quantized traveller has it."""
        return self._requantized.get(name, tensor_at(self._graph_module, name))

    def changed(self, name: str) -> bool:
        """Whether `requantize` has replaced a parameter or buffer."""
        return name in self._requantized

    def requantize(self, name: str, value: Tensor) -> None:
        """Replace a weight or bias, by its dotted name, for the quantized traveller from here
        on.
        """
        self._requantized[name] = value

    @torch.no_grad()
    def run(self, chunks: list[Tensor]) -> Pair:
        """Go from the images to the output."""
        nodes = list(self._graph_module.graph.nodes)
        last_reader = {argument: node for node in nodes for argument in node.all_input_nodes}
        for position, node in enumerate(nodes):
            self._ahead = nodes[position:]
            if is_tensor(node):
                self._constants[node] = tensor_at(self._graph_module, str(node.target))
            elif is_call(node) and all(a in self._constants for a in node.all_input_nodes):
                # from weights alone
                self._constants[node] = self._execute(node, self._constants.__getitem__)
            elif is_input(node):
                stored = [self.memory.admit(chunk) for chunk in chunks]
                self._values[node] = Pair(stored, stored)
            elif is_output(node):
                return self._values[node.all_input_nodes[0]]
            else:
                self._visit(node)
            for argument in node.all_input_nodes:
                if last_reader[argument] is node and argument in self._values:
                    self._drop(argument)
        raise AssertionError("a captured graph has an output")

    def _drop(self, node: fx.Node) -> None:
        self.memory.release(self._values.pop(node))

    def _visit(self, node: fx.Node) -> None:
        if node in self._taps:
            source = self._values[node.all_input_nodes[0]]
            quantized = [
                self.memory.admit(value) for value in self._at_tap(self._taps[node], source)
            ]
            pair = Pair([self.memory.admit(value) for value in source.float], quantized)
        else:
            if node in self._layers:
                self._at_layer(self._layers[node], self._values[node.all_input_nodes[0]])
            float_chunks = self._step(node, quantized=False)
            pair = Pair(
                float_chunks,
                float_chunks if self._agree(node) else self._step(node, quantized=True),
            )
        self._values[node] = pair
        name = self._layers.get(node) or self._taps.get(node)
        if name is not None:
            self._after(name, pair)

    def _agree(self, node: fx.Node) -> bool:
        """Whether the node's inputs are the same for both travellers."""
        inputs = node.all_input_nodes
        replaced = any(is_tensor(a) and str(a.target) in self._requantized for a in inputs)
        return not replaced and all(self._values[a].same for a in inputs if a in self._values)

    def _step(self, node: fx.Node, *, quantized: bool) -> Chunks:
        return [self.memory.admit(value) for value in self._outputs(node, quantized)]

    def _outputs(self, node: fx.Node, quantized: bool) -> Iterator[Any]:
        count = max(len(self._values[a].float) for a in node.all_input_nodes if a in self._values)
        for k in range(count):
            yield self._execute(node, partial(self._argument, k=k, quantized=quantized))

    def _argument(self, node: fx.Node, *, k: int, quantized: bool) -> Any:
        if node in self._constants:
            constant = self._constants[node]
            return self._requantized.get(str(node.target), constant) if quantized else constant
        chunks = self._values[node].quantized if quantized else self._values[node].float
        value = chunks[k]
        return value.to(self.device) if isinstance(value, Tensor) else value

    def _execute(self, node: fx.Node, argument: Callable[[fx.Node], Any]) -> Any:
        assert is_call(node) and callable(node.target), f"unexpected {node.op} in a captured graph"
        value = node.target(*fx.map_arg(node.args, argument), **fx.map_arg(node.kwargs, argument))
        return (
            value.cpu()
            if isinstance(value, Tensor) and node.target is not operator.getitem
            else value
        )
