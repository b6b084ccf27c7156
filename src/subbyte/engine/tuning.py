"""A tuning method at work in the walk: what it may change, and what becomes of what it learned."""

import torch
from torch import Tensor
from torch.func import functional_call

from subbyte.core import QTensor
from subbyte.errors import ModelError
from subbyte.graph import Instrumented, Layer, Samples, Travel, float_outputs
from subbyte.methods import Task, TuneLayers, calls

_LEAST_FACTOR = 1e-3  # of a scale: it stays positive


class Tuner:
    """Hands a method what may learn, and takes over what it has learned.

    layers: those that the plan quantizes and that own their weight; weights, biases: of layers
    already rounded, by name, kept up to date; chunks: of calibration samples.
    """

    def __init__(
        self,
        method: TuneLayers,
        layers: list[Layer],
        instrumented: Instrumented,
        weights: dict[str, QTensor],
        biases: dict[str, Tensor],
        *,
        chunks: list[Samples],
        device: str,
    ) -> None:
        self._method, self._layers, self._weights, self._biases = method, layers, weights, biases
        self._chunks, self._device = chunks, device
        self._graph_module = instrumented.graph_module
        self._logits = float_outputs(self._graph_module, chunks, device)
        if not isinstance(self._logits[0], Tensor):
            raise ModelError("tune: learning needs a network that returns one tensor of logits")

    def after_layer(self, layer: Layer, travel: Travel) -> None:
        """Let the weights and biases of layers still to be rounded learn, and the bias of this
        one.
        """
        waiting = [later for later in self._layers if later.name not in self._weights]
        names = [layer.bias, *(name for later in waiting for name in (later.weight, later.bias))]
        parameters = {name: travel.tensor(name).float() for name in names}
        learned = calls.after_layer(self._method, travel.rest(), parameters, self._logits)
        for name, value in learned.items():
            if not torch.equal(value, parameters[name]):
                travel.requantize(name, value)
        self._biases[layer.name] = learned[layer.bias]

    def check(self, labels: Tensor, task: Task) -> None:
        """Raise DataError when the outputs can't be judged by these labels."""
        calls.check(task, (self._logits[0].cpu(),), (labels,))

    def finish(self, labels: list[Tensor] | None, task: Task) -> bool:
        """Let biases and scales learn once all layers are rounded; returns whether anything
        changed. task: whose loss says how right outputs are.
        """
        parameters = {f"{layer.name}/bias": self._biases[layer.name] for layer in self._layers}
        for layer in self._layers:
            share = self._weights[layer.name].grid.spec.share
            rows = 1 if share.one_scale else layer.geometry.rows
            parameters[f"{layer.name}/factor"] = torch.ones(rows, 1, device=self._device)
        on_device = None if labels is None else [part.to(self._device) for part in labels]
        learned = calls.at_end(
            self._method,
            self._forward,
            parameters,
            self._logits,
            on_device,
            lambda output, wanted: calls.loss(task, (output,), (wanted,)),
        )
        if learned is parameters:
            return False
        for layer in self._layers:
            self._biases[layer.name] = learned[f"{layer.name}/bias"]
            weight = self._weights[layer.name]
            factor = learned[f"{layer.name}/factor"].clamp_min(_LEAST_FACTOR)
            shaped = weight.grid.spec.share.shaped(factor, len(factor))
            self._weights[layer.name] = weight.with_scale(weight.grid.scale * shaped)
        return True

    def _forward(self, k: int, given: dict[str, Tensor]) -> Tensor:
        """Output of the whole quantized network for chunk k."""
        tensors = {}
        for layer in self._layers:
            matrix = self._weights[layer.name].dequantize() * given[
                f"{layer.name}/factor"
            ].clamp_min(_LEAST_FACTOR)
            tensors[layer.weight] = layer.geometry.to_weight(matrix)
            tensors[layer.bias] = given[f"{layer.name}/bias"]
        call = self._chunks[k].to(self._device).call
        output = functional_call(self._graph_module, tensors, call.args, call.kwargs)
        assert isinstance(output, Tensor)
        return output
