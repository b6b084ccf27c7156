"""Two travellers through a graph, node by node: the mechanics of the walk.

Values are kept in chunks for as long as a later node reads them. A node whose inputs are the same
for both travellers is computed once. Weights replaced by `requantize` hold for the quantized
traveller only.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.graph.instrument import Instrumented
from subbyte.graph.memory import Chunks, Memory, Pair
from subbyte.graph.nodes import is_call, is_input, is_output, is_tensor
from subbyte.graph.rest import Rest
from subbyte.graph.samples import Samples
from subbyte.graph.tensors import tensor_at


class Travel:
    """Runs an instrumented graph on chunks of samples.

    at_layer(name, input): before a layer is computed, for each of its weights; at_tap(name, value):
    gives the quantized traveller's value, chunk by chunk; after(name, value): when a layer, product
    or activation quantizer is done.
    """

    def __init__(
        self,
        instrumented: Instrumented,
        memory: Memory,
        device: str,
        *,
        at_layer: Callable[[str, Pair], None],
        at_tap: Callable[[str, Pair], Iterable[Any]],
        after: Callable[[str, Pair], None],
    ) -> None:
        self.memory, self.device = memory, device
        self._graph_module = instrumented.graph_module
        self._layers: dict[fx.Node, list[str]] = {}
        for name, node in instrumented.layers.items():
            self._layers.setdefault(node, []).append(name)
        self._products = {node: name for name, node in instrumented.products.items()}
        self._taps = {node: name for name, node in instrumented.taps.items()}
        self._at_layer, self._at_tap, self._after = at_layer, at_tap, after
        self._values: dict[fx.Node, Pair] = {}
        self._fixed: dict[fx.Node, Any] = {}
        self._requantized: dict[str, Tensor] = {}
        self._requantized_nodes: dict[fx.Node, Any] = {}  # computed from such tensors alone
        self._ahead: list[fx.Node] = []
        self._read: set[str] = set()
        self.stale = False
        """Whether a tensor was replaced that the quantized traveller had read as it was (a weight
        that is computed from another one's).
        """

    def rest(self) -> Rest:
        """The rest of the network, from the node that is being visited."""
        return Rest(
            self._ahead,
            self._values,
            self._fixed | self._requantized_nodes,
            self._requantized,
            self._graph_module,
            self.device,
        )

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
        self.stale = self.stale or name in self._read

    @torch.no_grad()
    def run(self, chunks: list[Samples]) -> list[Pair]:
        """Go from the inputs to the outputs: the leaves of what the network returns, those that are
        no tensors left out.
        """
        nodes = list(self._graph_module.graph.nodes)
        last_reader = {argument: node for node in nodes for argument in node.all_input_nodes}
        inputs = iter(range(len(chunks[0].leaves)))
        for position, node in enumerate(nodes):
            self._ahead = nodes[position:]
            if is_tensor(node):
                self._fixed[node] = tensor_at(self._graph_module, str(node.target))
            elif is_input(node):
                self._take_in(node, next(inputs), chunks)
            elif is_output(node):
                return [self._given(each, len(chunks)) for each in node.all_input_nodes]
            else:
                self._visit(node)
            self._read |= {str(a.target) for a in node.all_input_nodes if is_tensor(a)}
            for argument in node.all_input_nodes:
                if last_reader[argument] is node and argument in self._values:
                    self._drop(argument)
        raise AssertionError("a captured graph has an output")

    def _take_in(self, node: fx.Node, number: int, chunks: list[Samples]) -> None:
        """An input; one that is the same for all samples is kept once."""
        if chunks[0].batched[number]:
            stored = [self.memory.admit(chunk.leaves[number]) for chunk in chunks]
            self._values[node] = Pair(stored, stored)
        else:
            self._fixed[node] = chunks[0].leaves[number]

    def _given(self, node: fx.Node, count: int) -> Pair:
        """An output, by chunk; one that depends on no sample is the same in each."""
        if node in self._values:
            return self._values[node]
        own, other = (self._argument(node, k=0, quantized=side) for side in (False, True))
        chunks = [self.memory.admit(own) for _ in range(count)]
        if own is other:
            return Pair(chunks, chunks)
        return Pair(chunks, [self.memory.admit(other) for _ in range(count)])

    def _drop(self, node: fx.Node) -> None:
        self.memory.release(self._values.pop(node))

    def _visit(self, node: fx.Node) -> None:
        if not any(a in self._values for a in node.all_input_nodes):
            self._settle(node)
            return
        for name in self._layers.get(node, []):
            self._at_layer(name, self._read_by(node))
        pair = self._rounded(node) if node in self._taps else self._computed(node)
        self._values[node] = pair
        for name in self._names(node):
            self._after(name, _leading(pair))

    def _names(self, node: fx.Node) -> list[str]:
        """Names of all that is measured at a node."""
        others = [named[node] for named in (self._taps, self._products) if node in named]
        return self._layers.get(node, []) + others

    def _rounded(self, node: fx.Node) -> Pair:
        source = self._values[node.all_input_nodes[0]]
        given = self._at_tap(self._taps[node], source)
        quantized = [self.memory.admit(value) for value in given]
        return Pair([self.memory.admit(value) for value in source.float], quantized)

    def _settle(self, node: fx.Node) -> None:
        """A value that depends on no sample: computed once for each traveller."""
        self._fixed[node] = self._execute(node, partial(self._argument, k=0, quantized=False))
        if not self._agree(node):
            changed = self._execute(node, partial(self._argument, k=0, quantized=True))
            self._requantized_nodes[node] = changed

    def _computed(self, node: fx.Node) -> Pair:
        float_chunks = self._step(node, quantized=False)
        same = self._agree(node)
        return Pair(float_chunks, float_chunks if same else self._step(node, quantized=True))

    def _read_by(self, node: fx.Node) -> Pair:
        """The value that a layer multiplies; of one that looks up rows, their numbers."""
        return next(self._values[a] for a in node.all_input_nodes if a in self._values)

    def _agree(self, node: fx.Node) -> bool:
        """Whether the node's inputs are the same for both travellers."""
        inputs = node.all_input_nodes
        replaced = any(is_tensor(a) and str(a.target) in self._requantized for a in inputs)
        moved = any(a in self._requantized_nodes for a in inputs)
        same = all(self._values[a].same for a in inputs if a in self._values)
        return same and not replaced and not moved

    def _step(self, node: fx.Node, *, quantized: bool) -> Chunks:
        return [self.memory.admit(value) for value in self._outputs(node, quantized)]

    def _outputs(self, node: fx.Node, quantized: bool) -> Iterator[Any]:
        count = max(len(self._values[a].float) for a in node.all_input_nodes if a in self._values)
        for k in range(count):
            yield self._execute(node, partial(self._argument, k=k, quantized=quantized))

    def _argument(self, node: fx.Node, *, k: int, quantized: bool) -> Any:
        if node in self._fixed:
            value = self._fixed[node]
            if quantized:
                value = self._requantized.get(str(node.target), value)
                value = self._requantized_nodes.get(node, value)
        else:
            pair = self._values[node]
            value = (pair.quantized if quantized else pair.float)[k]
        return value.to(self.device) if isinstance(value, Tensor) else value

    def _execute(self, node: fx.Node, argument: Callable[[fx.Node], Any]) -> Any:
        assert is_call(node) and callable(node.target), f"unexpected {node.op} in a captured graph"
        return node.target(*fx.map_arg(node.args, argument), **fx.map_arg(node.kwargs, argument))


def _leading(pair: Pair) -> Pair:
    """The first value of an operation that gives several (recurrent layers)."""
    if isinstance(pair.float[0], Tensor):
        return pair
    leading = [value[0] for value in pair.float]
    return Pair(leading, leading if pair.same else [value[0] for value in pair.quantized])
