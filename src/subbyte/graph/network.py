"""A captured, folded network with its layers and the points where activations can be quantized:
what plans are made for.
"""

from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from subbyte.errors import ModelError
from subbyte.graph.as_tensors import UnstorableError, from_tensors, to_tensors
from subbyte.graph.capture import capture
from subbyte.graph.fold import fold_batch_norms
from subbyte.graph.layers import Edge, Layer, Layered, Skipped, argument, find_layers, give_biases
from subbyte.graph.taps import TapPoint, find_taps
from subbyte.io.cache import NO_CACHE, Cache

_MAX_FOLD_ERROR = 1e-2  # relative; float32 folding stays below 1e-4


@dataclass(frozen=True, eq=False)
class Network(Layered):
    """graph_module: the float network, batch-norms folded; fold_error: largest difference of an
    output from the original's, relative to the largest output; folded: layers that took up a
    batch-norm; skipped: what stays float.
    """

    graph_module: fx.GraphModule
    layers: tuple[Layer, ...]
    taps: tuple[TapPoint, ...]
    skipped: tuple[Skipped, ...]
    folded: tuple[str, ...]
    fold_error: float
    input_shape: tuple[int, ...]

    def reader(self, edge: Edge) -> Layer:
        """The layer that reads a value at an edge. Raises ModelError when none does."""
        for layer in self.layers:
            if layer.node.name == edge.reader:
                return layer
        raise ModelError(f"no layer of the network reads at {edge}")

    def value_at(self, edge: Edge) -> fx.Node:
        """The value that a layer reads at an edge."""
        value = argument(self.reader(edge).node, edge.argument)
        assert isinstance(value, fx.Node)
        return value

    @property
    def float_bytes(self) -> int:
        """Bytes of all floating-point tensors of the folded network, in float32."""
        return sum(
            4 * t.numel() for t in self.graph_module.state_dict().values() if t.is_floating_point()
        )


def prepare(model: nn.Module, example: Tensor, cache: Cache = NO_CACHE) -> Network:
    """Capture `model` for inputs like `example` [batch, ...], fold its batch-norms, find layers and
    points where activations can be quantized.

    cache: of this model with these weights; the captured graph is kept there.
    Raises CaptureError when the network can't be captured, ModelError when it holds no layer at
    all.
    """
    graph_module = _captured(model, example, cache)
    give_biases(graph_module)
    folded, left = fold_batch_norms(graph_module)
    layers, skipped = find_layers(graph_module)
    if not layers:
        reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped[:5]) or "it has no weights"
        raise ModelError(
            f"{type(model).__name__} holds no convolution or linear layer to quantize ({reasons})"
        )
    graph_module.recompile()
    taps = find_taps(graph_module, layers)
    norms = {s.name for s in left}
    rest = [s for s in skipped if s.name.removesuffix(".weight") not in norms]
    error = _difference(model, graph_module, example[:8])
    if error > _MAX_FOLD_ERROR:  # NaN goes on: the walk names the layer it comes from
        raise ModelError(
            f"the captured network differs from {type(model).__name__} by {error:.2g} of the "
            f"largest output; "
            "it may depend on random numbers or on values that change between calls"
        )
    return Network(
        graph_module,
        tuple(layers),
        tuple(taps),
        (*left, *rest),
        tuple(folded),
        error,
        tuple(example.shape[1:]),
    )


def _captured(model: nn.Module, example: Tensor, cache: Cache) -> fx.GraphModule:
    """The graph, from the cache where it has it; one that can't be read or is not this model's is
    captured.
    """
    what = f"graph for inputs {tuple(example.shape[1:])} {example.dtype}"
    with suppress(KeyError, ValueError, TypeError, AttributeError, RuntimeError):
        if (kept := cache.find(what)) is not None:
            graph_module = from_tensors(kept)
            if _difference(model, graph_module, example[:8]) <= _MAX_FOLD_ERROR:
                return graph_module
    graph_module = capture(model, example)
    if cache.folder is not None:
        with suppress(UnstorableError):
            cache.keep(what, to_tensors(graph_module))
    return graph_module


@torch.no_grad()
def _difference(model: nn.Module, graph_module: fx.GraphModule, example: Tensor) -> float:
    modes = {module: module.training for module in model.modules()}
    try:
        expected = model.eval()(example)
    finally:
        for module, mode in modes.items():
            module.training = mode
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((graph_module(example) - expected).abs().max() / scale)
