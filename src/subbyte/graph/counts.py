"""Multiplications of layers and products, read off one run of the graph.

A layer with rows x columns weights multiplies rows * columns times for each output position; a
product of [m, k] and [k, n] m * k * n times. Additions are not counted.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.graph.layers import LAYER_OPERATIONS, Layer, argument, geometry_of
from subbyte.graph.products import Product
from subbyte.graph.samples import Samples


class Counter(fx.Interpreter):
    """Runs a graph on flat inputs and notes what layers and products multiply.

    multiplications: for one sample, by name.
    """

    def __init__(
        self, graph_module: fx.GraphModule, layers: Sequence[Layer], products: Sequence[Product]
    ) -> None:
        super().__init__(graph_module)
        self.multiplications: dict[str, int] = {}
        self._layers: dict[fx.Node, list[Layer]] = {}
        for layer in layers:
            self._layers.setdefault(layer.node, []).append(layer)
        self._products = {product.node: product for product in products}
        self._samples = 1

    @torch.no_grad()
    def outputs(self, samples: Samples) -> list[Any]:
        """The leaves of the network's output."""
        self._samples = len(samples)
        return list(self.run(*samples.leaves, enable_io_processing=False))

    def run_node(self, n: fx.Node) -> Any:
        """See `fx.Interpreter`."""
        value = super().run_node(n)
        for layer in self._layers.get(n, []):
            # an embedding's first argument is its table: it multiplies nothing
            x = self.env[n.all_input_nodes[0]]
            x = self.env[argument(n, 0)] if layer.geometry.observed else x
            total = layer.geometry.multiplications(x.shape) * x.shape[0]
            self.multiplications[layer.name] = total // self._samples
        if n in self._products:
            left, right = (self.env[argument(n, k)] for k in (0, 1))
            total = _multiplied(n, left, right, value)
            self.multiplications[self._products[n].name] = total // self._samples
        return value


def _multiplied(node: fx.Node, left: Tensor, right: Tensor, value: Tensor) -> int:
    if node.target in LAYER_OPERATIONS:
        return geometry_of(node, right).multiplications(left.shape) * left.shape[0]
    return value.numel() * left.shape[-1]
