"""A network that is not quantized yet, in trainable form: its batch-norms are alive, and the grids
of weights are those of the weights in front of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subbyte.core import Grid, GridSpec
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.trainable.measures import NUMBERS
from subbyte.engine.trainable.network import Trainable
from subbyte.engine.trainable.weights import FloatLayer, TrainableLayer
from subbyte.graph import Layer, Network, NormNumbers, enliven, tensor_at, unwrapped
from subbyte.methods import Estimator

Fitting = Callable[[Tensor, GridSpec], Grid]
"""Chooses a grid of a kind for a weight [rows, columns]."""
_CLOSE = 1e-4  # of a layer's largest number: float32 folding stays below


def alive(
    quantized: QuantizedModel,
    network: Network,
    model: nn.Module,
    fitting: Fitting,
    estimator: Estimator,
) -> Trainable:
    """The trainable form of a network whose layers are rounded from now on, in training mode.

    quantized: the network as its plan has it, whose activation ranges are begun with; network: the
    float one, as captured of `model`, which stays as it is; fitting: chooses the grids
    that weights begin with. Latent weights and their scales are counted as the network has
    them.
    """
    tensors = _tensors(unwrapped(model))
    own, behind = quantized.instrumented.copied(), dict[str, NormNumbers]()
    layers: dict[str, TrainableLayer | FloatLayer] = {}
    specs = {plan.name: plan.spec for plan in quantized.plan.layers}
    for layer in quantized.owners:
        found, spec = _unfolded(network, layer, tensors), specs[layer.name]
        if spec is not None:
            grid = fitting(found.weight, spec)
            layers[layer.name] = TrainableLayer(grid, found.weight, found.bias, NUMBERS)
        elif found.norms:
            layers[layer.name] = FloatLayer(found.weight, found.bias)
        for norm in found.norms:
            layers[layer.name].bias.requires_grad_(False)  # the batch-norm has one
            behind[layer.name] = norm
    norms = enliven(own, behind)
    return Trainable(quantized, own, layers, norms, estimator).train()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@dataclass(frozen=True, eq=False)
class _Float:
    """A float layer: weight [rows, columns], bias [rows], and the batch-norm right behind it, if
    there is one.
    """

    weight: Tensor
    bias: Tensor
    norms: tuple[NormNumbers, ...] = ()


def _unfolded(network: Network, layer: Layer, tensors: Mapping[str, Tensor]) -> _Float:
    """A layer without the batch-norm right behind it, which has no negative factors; as it was
    captured where there is none, or more was folded into it.
    """
    weight, bias = (
        tensor_at(network.graph_module, name).detach() for name in (layer.weight, layer.bias)
    )
    folded = _Float(layer.geometry.to_matrix(weight), bias)
    norm, own = network.norms.get(layer.name), tensors.get(layer.weight)
    if norm is None or own is None:
        return folded
    term = tensors.get(layer.bias, torch.zeros_like(bias))
    matrix, term = (part.detach().cpu().double() for part in (layer.geometry.to_matrix(own), term))
    again = matrix * norm.affine.factors, term * norm.affine.scale + norm.affine.shift
    if not all(map(_alike, again, (folded.weight, folded.bias))):
        return folded
    signs = norm.signs
    return _Float((matrix * signs[:, None]).float(), (term * signs).float(), (norm.turned,))


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return float((one - other).abs().max()) <= _CLOSE * float(other.abs().max())
