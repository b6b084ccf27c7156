"""The quantized network in trainable form, and back: an ordinary module for any loop.

t = trainable(q)    learns latent weights, scales, biases, activation ranges, and what is float
q = freeze(t)       every weight on its grid; outputs are those of t.eval(), bit for bit
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from subbyte.core import Grid
from subbyte.engine.quantized import Findings, QuantizedModel
from subbyte.engine.trainable.activations import LearnedQuantizer
from subbyte.engine.trainable.weights import TrainableLayer
from subbyte.graph import FakeQuantize, Layer, Network, tensor_at
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
        self, quantized: QuantizedModel, towards: Mapping[str, Tensor], estimator: Estimator
    ) -> None:
        """towards: float weights [rows, columns] by layer, as far as they are known: latent weights
        start in the direction of them.
        """
        super().__init__()
        self.estimator, self.progress = estimator, 0.0
        self._start = (quantized,)  # in a tuple: it is no part of this module
        self._instrumented = quantized.instrumented.copied()
        self.network = self._instrumented.graph_module
        self.layers = nn.ModuleDict()
        for layer in self._rounded:
            rounded, bias = quantized.weights[layer.name], tensor_at(self.network, layer.bias)
            weight = towards.get(layer.name, rounded.dequantize())
            self.layers[_key(layer.name)] = TrainableLayer(rounded, bias, weight)
        for name in quantized.instrumented.taps:
            fixed = quantized.instrumented.tap(name)
            if fixed.grid is not None and fixed.grid.spec.alphabet.even:
                self.network.set_submodule(self._target(name), LearnedQuantizer(fixed))
        self._floats = quantized.leftovers.keys() & dict(self.network.named_parameters()).keys()
        for name in self._floats:
            self.network.get_parameter(name).requires_grad_()

    @property
    def quantized(self) -> QuantizedModel:
        """The network that this one was made of."""
        return self._start[0]

    @property
    def _rounded(self) -> list[Layer]:
        return [layer for layer in self.quantized.owners if layer.name in self.quantized.weights]

    def _target(self, tap: str) -> str:
        return str(self.quantized.instrumented.taps[tap].target)

    def layer(self, name: str) -> TrainableLayer:
        """The trainable form of the layer of this name."""
        found = self.layers[_key(name)]
        assert isinstance(found, TrainableLayer)
        return found

    def quantizer(self, name: str) -> LearnedQuantizer | FakeQuantize:
        """The activation quantizer of this name."""
        found = self.network.get_submodule(self._target(name))
        assert isinstance(found, LearnedQuantizer | FakeQuantize)
        return found

    @property
    def kinds(self) -> dict[Learned, list[nn.Parameter]]:
        """All that is learned, by kind."""
        layers = [self.layer(layer.name) for layer in self._rounded]
        quantizers = [self.quantizer(name) for name in self.quantized.instrumented.taps]
        ranges = [one for one in quantizers if isinstance(one, LearnedQuantizer)]
        found = {
            Learned.LATENT: [layer.latent for layer in layers],
            Learned.SCALE: [layer.log_scale for layer in layers],
            Learned.RANGE: [part for one in ranges for part in (one.log_scale, one.zero)],
            Learned.BIAS: [layer.bias for layer in layers],
            Learned.FLOAT: [self.network.get_parameter(name) for name in sorted(self._floats)],
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
        """Keep of latent weights what the estimator keeps after an update. seed: of what it draws;
        another one for each update.
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in self._rounded:
            latent = self.layer(layer.name).latent
            kept = self.estimator.kept(latent, generator) if latent.requires_grad else latent
            if kept is not latent:
                latent.copy_(kept)

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and biases by their names in the graph."""
        tensors = {}
        for layer in self._rounded:
            learned = self.layer(layer.name)
            if self.training:
                matrix, bias = learned(self.estimator, self.progress)
            else:
                rounded, bias = learned.frozen(self.input_grid(layer))
                matrix = rounded.dequantize()
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
            layer.name: self.layer(layer.name).frozen(self.input_grid(layer))
            for layer in self._rounded
        }
        grids = {name: self.quantizer(name).grid for name in self.quantized.instrumented.taps}
        return self.quantized.with_numbers(
            {name: rounded for name, (rounded, _) in numbers.items()},
            {name: bias for name, (_, bias) in numbers.items()},
            {name: grid for name, grid in grids.items() if grid is not None},
            {name: self.network.get_parameter(name).detach() for name in sorted(self._floats)},
            findings,
        )


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
    weights = {} if towards is None else _float_weights(towards, quantized)
    return Trainable(quantized, weights, estimator).train()


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
