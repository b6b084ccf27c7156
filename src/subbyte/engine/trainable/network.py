"""The quantized network in trainable form, and back: an ordinary module for any loop.

t = trainable(q)    learns latent weights, scales, biases, activation ranges, and what is float
q = freeze(t)       every weight on its grid; outputs are those of t.eval(), bit for bit

Batch-norms are folded into layers before a network is quantized, and stay so; or they are alive
while it learns (`alive`): each computes with the statistics of the batch, and layers take them up
when the network is frozen.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from subbyte.core import Grid
from subbyte.engine.quantized import Findings, QuantizedModel
from subbyte.engine.trainable.activations import LearnedQuantizer
from subbyte.engine.trainable.measures import RATIOS
from subbyte.engine.trainable.weights import FloatLayer, TrainableLayer, within_cells
from subbyte.graph import FakeQuantize, Instrumented, Layer, Network, Norms, tensor_at
from subbyte.methods import Estimator, Learned
from subbyte.tuning.estimators import Straight

STRAIGHT = Straight()


class Trainable(nn.Module):
    """A quantized network that learns; `trainable` makes one, `freeze` ends it.

    progress: from 0 to 1, the part of the way that is behind it; the estimator reads it. In
    training mode weights are what the estimator makes of them; in evaluation mode they are on their
    grids, and outputs, which have no gradients then, are those of the network that `freeze` gives.
    """

    def __init__(
        self,
        quantized: QuantizedModel,
        instrumented: Instrumented,
        layers: Mapping[str, TrainableLayer | FloatLayer],
        norms: Norms,
        estimator: Estimator,
    ) -> None:
        """instrumented: a copy of the network's, in which `norms` are alive, which becomes this
        one's own; layers: those that learn, by name.
        """
        super().__init__()
        self.estimator, self.progress = estimator, 0.0
        self._start = (quantized,)  # in a tuple: it is no part of this module
        self._norms, self.network = norms, instrumented.graph_module
        self._targets = {name: str(node.target) for name, node in instrumented.taps.items()}
        self.layers = nn.ModuleDict({_key(name): layer for name, layer in layers.items()})
        for name in self._targets:
            fixed = instrumented.tap(name)
            if fixed.grid is not None and fixed.grid.spec.alphabet.even:
                self.network.set_submodule(self._targets[name], LearnedQuantizer(fixed))
        floats = quantized.leftovers.keys() - norms.left.keys()
        self._floats = sorted(floats & dict(self.network.named_parameters()).keys())
        for name in self._floats:
            self.network.get_parameter(name).requires_grad_()

    @property
    def quantized(self) -> QuantizedModel:
        """The network that this one was made of."""
        return self._start[0]

    @property
    def _learned(self) -> list[Layer]:
        return [layer for layer in self.quantized.owners if _key(layer.name) in self.layers]

    @property
    def _rounded(self) -> list[Layer]:
        return [layer for layer in self._learned if layer.name in self.quantized.weights]

    def layer(self, name: str) -> TrainableLayer:
        """The trainable form of the layer of this name, whose weight is on a grid."""
        found = self._any_layer(name)
        assert isinstance(found, TrainableLayer)
        return found

    def _any_layer(self, name: str) -> TrainableLayer | FloatLayer:
        found = self.layers[_key(name)]
        assert isinstance(found, TrainableLayer | FloatLayer)
        return found

    def quantizer(self, name: str) -> LearnedQuantizer | FakeQuantize:
        """The activation quantizer of this name."""
        found = self.network.get_submodule(self._targets[name])
        assert isinstance(found, LearnedQuantizer | FakeQuantize)
        return found

    @property
    def kinds(self) -> dict[Learned, list[nn.Parameter]]:
        """All that is learned, by kind."""
        layers = [self.layer(layer.name) for layer in self._rounded]
        quantizers = [self.quantizer(name) for name in self._targets]
        ranges = [one for one in quantizers if isinstance(one, LearnedQuantizer)]
        floats = [one.weight for one in self.layers.values() if isinstance(one, FloatLayer)]
        floats += [self.network.get_parameter(name) for name in self._floats]
        found = {
            Learned.LATENT: [layer.latent for layer in layers],
            Learned.SCALE: [layer.growth for layer in layers],
            Learned.RANGE: [part for one in ranges for part in (one.growth, one.zero)],
            Learned.BIAS: [layer.bias for layer in layers],
            Learned.FLOAT: floats + self._norms.parameters,
        }
        return {kind: [p for p in some if p.requires_grad] for kind, some in found.items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output for arguments as the original takes them. Raises DataError for
        others.
        """
        args, kwargs = self.quantized.signature.checked(args, kwargs)
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            return functional_call(self.network, self._tensors(), args, kwargs)

    @torch.no_grad()
    def settle(self, seed: int) -> None:
        """Keep of latent weights what the estimator keeps after an update, and of the factors of
        batch-norms their size: a grid takes up no negative ones. seed: of what is drawn; another
        one for each update.
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in self._rounded:
            self.layer(layer.name).settle(self.estimator, generator)
        self._norms.settle()

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and biases by their names in the graph."""
        tensors = {}
        for layer in self._learned:
            learned = self._any_layer(layer.name)
            if self.training:
                matrix, bias = learned(self.estimator, self.progress)
            else:
                behind = self._norms.affine(layer.name)
                matrix, bias = learned.at_end(behind, self.input_grid(layer))
            tensors[layer.weight], tensors[layer.bias] = layer.geometry.to_weight(matrix), bias
        return tensors

    def input_grid(self, layer: Layer) -> Grid | None:
        """The grid of the values that a layer multiplies, as it is now; None where they are float,
        or every batch has its own.
        """
        name = self.quantized.input_tap(layer)
        return None if name is None else self.quantizer(name).grid

    def frozen(self, findings: Findings | None = None) -> QuantizedModel:
        """The quantized network that this one is now."""
        numbers = {
            layer.name: self.layer(layer.name).frozen(
                self._norms.affine(layer.name), self.input_grid(layer)
            )
            for layer in self._rounded
        }
        grids = {name: self.quantizer(name).grid for name in self._targets}
        return self.quantized.with_numbers(
            {name: rounded for name, (rounded, _) in numbers.items()},
            {name: bias for name, (_, bias) in numbers.items()},
            {name: grid for name, grid in grids.items() if grid is not None},
            self._leftovers(),
            findings,
        )

    def _leftovers(self) -> dict[str, Tensor]:
        """The tensors that stay float, by name in the graph."""
        found = {name: self.network.get_parameter(name).detach() for name in self._floats}
        for layer in self._learned:
            learned = self._any_layer(layer.name)
            if isinstance(learned, FloatLayer):
                matrix, bias = learned.frozen(self._norms.affine(layer.name))
                found |= {layer.weight: layer.geometry.to_weight(matrix), layer.bias: bias}
        return found | self._norms.left


def _key(layer: str) -> str:
    """A layer's name as torch lets modules be called."""
    return layer.replace(".", "/")


def trainable(
    quantized: QuantizedModel,
    towards: Network | None = None,
    estimator: Estimator = STRAIGHT,
) -> Trainable:
    """The trainable form of a quantized network, in training mode.

    towards: the float network that it was made of: latent weights start within the cells of their
    codes, as near the float weights as these allow; without it, at the codes.
    """
    floats = {} if towards is None else _float_weights(towards, quantized)
    graph_module, layers = quantized.graph_module, {}
    for layer in quantized.owners:
        if layer.name in quantized.weights:
            rounded = quantized.weights[layer.name]
            weight = floats.get(layer.name, rounded.dequantize())
            latent, bias = within_cells(rounded, weight), tensor_at(graph_module, layer.bias)
            layers[layer.name] = TrainableLayer(rounded.grid, latent, bias, RATIOS)
    own = quantized.instrumented.copied()
    return Trainable(quantized, own, layers, Norms(own.graph_module), estimator).train()


def _float_weights(network: Network, quantized: QuantizedModel) -> dict[str, Tensor]:
    return {
        layer.name: layer.geometry.to_matrix(tensor_at(network.graph_module, layer.weight))
        for layer in network.owners
        if layer.name in quantized.weights
    }


def freeze(network: Trainable) -> QuantizedModel:
    """The quantized network that a trainable one has become: the same codes in every layer, and the
    same outputs as in evaluation mode, to the bit.
    """
    return network.frozen()
