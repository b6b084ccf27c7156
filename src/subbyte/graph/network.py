"""A captured, folded network with its layers, products, and the points where activations can be
quantized: what plans are made for.
"""

from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from subbyte.errors import ModelError
from subbyte.graph.affine import NormNumbers
from subbyte.graph.as_tensors import UnstorableError, from_tensors, to_tensors
from subbyte.graph.capture import capture, explaining
from subbyte.graph.counts import Counter
from subbyte.graph.float32 import Float32Mode
from subbyte.graph.fold import fold_batch_norms
from subbyte.graph.layers import Edge, Layer, Layered, Skipped, argument, find_layers, give_biases
from subbyte.graph.names import input_names, output_names
from subbyte.graph.products import Product, find_products
from subbyte.graph.samples import Inputs, Samples, register_dataclasses
from subbyte.graph.signature import Signature
from subbyte.graph.sizes import conditions_on_sizes, of_other_sizes
from subbyte.graph.taps import TapPoint, channel_axis, find_taps
from subbyte.graph.user_module import evaluating, unwrapped
from subbyte.io.cache import NO_CACHE, Cache
from subbyte.io.repeatable import one_thread

_MAX_FOLD_ERROR = 1e-2  # relative; float32 folding stays below 1e-4


@dataclass(frozen=True, eq=False)
class Structure(Layered):
    """All that is known of a network's graph but its numbers.

    taps: points where activations can be quantized; skipped: what stays float; signature: how it is
    called; multiplications: for one sample, by name of layer and product; output_names: of the
    tensors that it returns; float_bytes: of all floating-point tensors, in float32.
    """

    layers: tuple[Layer, ...]
    products: tuple[Product, ...]
    taps: tuple[TapPoint, ...]
    skipped: tuple[Skipped, ...]
    signature: Signature
    multiplications: dict[str, int]
    output_names: list[str]
    float_bytes: int


@dataclass(frozen=True, eq=False)
class Network(Structure):
    """graph_module: the float network, batch-norms folded, called as the original is; fold_error:
    largest difference of an output from the original's, relative to its largest; folded: layers
    that took up a batch-norm; merged: names of what a layer took up that stood parallel to it, by
    name of layer; norms: batch-norms that stood right behind a layer, as they were before, by name
    of layer.
    """

    graph_module: fx.GraphModule
    folded: tuple[str, ...]
    merged: dict[str, tuple[str, ...]]
    norms: dict[str, NormNumbers]
    fold_error: float

    @property
    def structure(self) -> Structure:
        """All but the numbers."""
        return Structure(**{name.name: vars(self)[name.name] for name in fields(Structure)})

    @property
    def readers(self) -> "tuple[Layer | Product, ...]":
        """Layers and products, the places that read values on grids."""
        return (*self.layers, *self.products)

    def reader(self, edge: Edge) -> Layer | Product:
        """The layer or product that reads a value at an edge. Raises ModelError when none does."""
        for reader in self.readers:
            if reader.node.name == edge.reader:
                return reader
        raise ModelError(f"no layer of the network reads at {edge}")

    def axis_at(self, edge: Edge) -> int | None:
        """Where the value that is read at an edge has channels with grids of their own; None for
        operands of products.
        """
        reader = self.reader(edge)
        if isinstance(reader, Product):
            return None
        return channel_axis(self.value_at(edge), reader.geometry)

    def value_at(self, edge: Edge) -> fx.Node:
        """The value that a layer reads at an edge."""
        value = argument(self.reader(edge).node, edge.argument)
        assert isinstance(value, fx.Node)
        return value


def prepare(
    model: nn.Module, example: Tensor | Inputs | Samples, cache: Cache = NO_CACHE
) -> Network:
    """Capture `model` for inputs like `example`, fold its batch-norms, find layers, products and
    points where activations can be quantized.

    example: one or more samples, with the axes whose sizes may differ; cache: of this model with
    these weights; the captured graph is kept there where sizes are fixed.
    Raises CaptureError when the network can't be captured, ModelError when it holds no layer at
    all.
    """
    model, samples = unwrapped(model), Samples.of(example)[:8]
    returned = _call(model, samples)
    register_dataclasses(returned)
    conditions = conditions_on_sizes(model, samples)
    expected, outputs = pytree.tree_flatten(returned)
    kept = NO_CACHE if samples.dynamic else cache
    graph_module = _captured(model, samples, expected, outputs, kept)
    give_biases(graph_module)
    folded = fold_batch_norms(graph_module)
    layers, skipped = find_layers(graph_module)
    if not layers:
        reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped[:5]) or "it has no weights"
        raise ModelError(
            f"{type(model).__name__} holds no convolution or linear layer to quantize ({reasons})"
        )
    graph_module.recompile()
    products = find_products(graph_module)
    taps = find_taps(graph_module, layers, products)
    norms = {s.name for s in folded.left}
    rest = [s for s in skipped if s.name.removesuffix(".weight") not in norms]
    counter = Counter(graph_module, layers, products)
    with one_thread():  # results say how large the difference is
        error = _difference(expected, counter.outputs(samples))
        multiplications = dict(counter.multiplications)
        if samples.dynamic:
            others = of_other_sizes(samples[:2], conditions)
            wanted = pytree.tree_leaves(_call(model, others))
            error = max(error, _difference(wanted, counter.outputs(others)))
    if error > _MAX_FOLD_ERROR:
        raise ModelError(
            f"the captured network differs from {type(model).__name__} by {error:.2g} of the "
            f"largest output; "
            "it may depend on random numbers or on values that change between calls"
        )
    names = input_names(model, samples, output_names(returned))
    return Network(
        tuple(layers),
        tuple(products),
        tuple(taps),
        (*folded.left, *rest),
        Signature.of(samples, names, conditions),
        multiplications,
        output_names(returned),
        _float_bytes(graph_module),
        graph_module,
        tuple(folded.layers),
        folded.merged,
        folded.behind,
        error,
    )


def _float_bytes(graph_module: fx.GraphModule) -> int:
    """Bytes of all floating-point tensors, in float32."""
    tensors = graph_module.state_dict().values()
    return sum(4 * tensor.numel() for tensor in tensors if tensor.is_floating_point())


def _captured(
    model: nn.Module,
    samples: Samples,
    expected: list[Any],
    outputs: pytree.TreeSpec,
    cache: Cache,
) -> fx.GraphModule:
    """The graph, from the cache where it has it; one that can't be read or is not this model's is
    captured.
    """
    shapes = [
        f"{leaf.dtype} {tuple(leaf.shape[batched:])}" if isinstance(leaf, Tensor) else repr(leaf)
        for leaf, batched in zip(samples.leaves, samples.batched, strict=True)
    ]
    what = f"graph for inputs {'; '.join(shapes)}"
    with suppress(Exception):  # there is no end to what torch raises on damage
        if (kept := cache.find(what)) is not None:
            graph_module = from_tensors(kept, samples.tree, outputs)
            found = Counter(graph_module, [], []).outputs(samples)
            if _difference(expected, found) <= _MAX_FOLD_ERROR:
                return graph_module
    graph_module = capture(model, samples)
    if cache.folder is not None:
        with suppress(UnstorableError):
            cache.keep(what, to_tensors(graph_module))
    return graph_module


@torch.no_grad()
def _call(model: nn.Module, samples: Samples) -> Any:
    with explaining(model, samples), evaluating(model), Float32Mode(), one_thread():
        call = samples.call
        return model(*call.args, **call.kwargs)


def _difference(expected: list[Any], found: list[Any]) -> float:
    """Largest difference of an output, relative to the largest number of that output; NaN and
    infinities differ from all but themselves.
    """
    worst = 0.0
    for own, other in zip(expected, found, strict=True):
        if not isinstance(own, Tensor) or not own.numel() or not own.is_floating_point():
            continue
        same = (own == other) | (own.isnan() & other.isnan())  # masks put infinities in outputs
        size = torch.where(own.isfinite(), own, 0.0).abs().max()
        gap = (other - own).abs() / size.clamp_min(torch.finfo(own.dtype).tiny)
        gap = torch.where(same, 0.0, gap.nan_to_num(nan=torch.inf))
        worst = max(worst, float(gap.detach().max()))
    return worst
