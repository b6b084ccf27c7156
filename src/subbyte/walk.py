"""The walk: two travellers go through the network side by side, node by node, on the same calibration images.

x is the value in the float network, x_q the value in the network quantized so far. At a layer both inputs stream into
its second moments; range, rounding and correction decide from those alone. At a tap the range of x_q is chosen. Then
both travellers step on. One pass, whatever the depth; values live only as long as somebody will read them.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf, isfinite, log10
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.core import Grid, QTensor
from subbyte.errors import NumericsError
from subbyte.graph import Instrumented, Layer, Network, instrument, tensor_at
from subbyte.graph.store import Chunks, Memory, Pair
from subbyte.plan import LayerPlan, Plan, TapPlan
from subbyte.ranges import fit_grid
from subbyte.stats import MomentCollector, histogram

_MIN_ROWS = 2**15
Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what is being worked on."""


@dataclass(frozen=True)
class Limits:
    """What a walk may use.

    chunk: calibration images per step; memory: bytes of activations kept in RAM, the rest is paged to temporary files;
    rows: of a layer's inputs, per column of its weights, that enter its moments (0: all; at least 32,768 rows a layer);
    device: where the arithmetic runs, such as cpu or cuda.
    """

    chunk: int = 64
    memory: int = 4 * 2**30
    rows: int = 250
    device: str = "cpu"


@dataclass
class WalkResult:
    """weights, biases: by layer name, for layers that own their weight; grids: by tap name; sqnr_db: by layer and tap
    name (a layer's output, or a tap's value, against the float network's); logits: float and quantized on the
    calibration images; spilled_bytes: of activations that went to temporary files.
    """

    instrumented: Instrumented
    weights: dict[str, QTensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    sqnr_db: dict[str, float] = field(default_factory=dict)
    logits: tuple[Tensor, Tensor] | None = None
    spilled_bytes: int = 0


def walk(
    network: Network,
    plan: Plan,
    images: Tensor,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> WalkResult:
    """Quantize `network` by `plan` on calibration images [n, ...], without labels.

    Raises NumericsError naming the layer where NaN or Inf turn up.
    """
    limits = limits or Limits()
    result = WalkResult(instrument(network, [tap.place for tap in plan.taps]))
    result.instrumented.graph_module.to(limits.device)
    walker = _Walker(network, plan, result, limits)
    walker.run(list(images.split(limits.chunk)), progress)
    result.spilled_bytes = walker.memory.spilled
    return result


class _Walker:
    def __init__(self, network: Network, plan: Plan, result: WalkResult, limits: Limits) -> None:
        self.result, self.limits, self.device = result, limits, limits.device
        self.memory = Memory(limits.memory)
        self.graph_module = result.instrumented.graph_module
        by_name = {layer.name: layer for layer in network.layers}
        plans = {layer.name: layer for layer in plan.layers}
        self.layers = {node: (by_name[n], plans[n]) for n, node in result.instrumented.layers.items()}
        tap_plans = {tap.name: tap for tap in plan.taps}
        self.taps = {node: tap_plans[n] for n, node in result.instrumented.taps.items()}
        self.values: dict[fx.Node, Pair] = {}
        self.constants: dict[fx.Node, Any] = {}
        self.quantized_constants: dict[str, Tensor] = {}

    @torch.no_grad()
    def run(self, chunks: list[Tensor], progress: Progress | None) -> None:
        nodes = list(self.graph_module.graph.nodes)
        last_reader = {argument: node for node in nodes for argument in node.all_input_nodes}
        steps, done = len(self.layers) + len(self.taps), 0
        for node in nodes:
            if node.op == "get_attr":
                self.constants[node] = tensor_at(self.graph_module, str(node.target))
            elif node.op == "placeholder":
                stored = [self.memory.admit(chunk) for chunk in chunks]
                self.values[node] = Pair(stored, stored)
            elif node.op == "output":
                pair = self.values[node.args[0][0]]
                self.result.logits = (torch.cat(pair.float).cpu(), torch.cat(pair.quantized).cpu())
            else:
                self._visit(node)
            if progress is not None and (node in self.layers or node in self.taps):
                done += 1
                progress(done, steps, self._label(node))
            for argument in node.all_input_nodes:
                if last_reader[argument] is node and argument in self.values:
                    self._drop(argument)

    def _label(self, node: fx.Node) -> str:
        return self.layers[node][0].name if node in self.layers else self.taps[node].name

    def _drop(self, node: fx.Node) -> None:
        pair = self.values.pop(node)
        same = pair.same
        self.memory.release(pair.float)
        if not same:
            self.memory.release(pair.quantized)

    def _visit(self, node: fx.Node) -> None:
        if node in self.taps:
            self._visit_tap(node, self.taps[node])
            return
        if node in self.layers:
            self._visit_layer(node, *self.layers[node])
        same = all(self.values[a].same for a in node.all_input_nodes if a in self.values) and not self._rounded(node)
        float_chunks = self._step(node, quantized=False)
        self.values[node] = Pair(float_chunks, float_chunks if same else self._step(node, quantized=True))
        if node in self.layers:
            name = self.layers[node][0].name
            self.result.sqnr_db[name] = _sqnr(self.values[node], f"the output of layer {name!r}")

    def _rounded(self, node: fx.Node) -> bool:
        return any(str(a.target) in self.quantized_constants for a in node.all_input_nodes if a.op == "get_attr")

    def _step(self, node: fx.Node, *, quantized: bool) -> Chunks:
        return [self.memory.admit(value) for value in self._outputs(node, quantized)]

    def _outputs(self, node: fx.Node, quantized: bool) -> Iterator[Any]:
        count = max(len(self.values[a].float) for a in node.all_input_nodes if a in self.values)
        for k in range(count):
            yield self._execute(node, partial(self._argument, k=k, quantized=quantized))

    def _argument(self, node: fx.Node, *, k: int, quantized: bool) -> Any:
        if node.op == "get_attr":
            constant = self.constants[node]
            return self.quantized_constants.get(str(node.target), constant) if quantized else constant
        if node not in self.values:
            raise AssertionError(f"value {node} was dropped too early")
        chunks = self.values[node].quantized if quantized else self.values[node].float
        value = chunks[k]
        return value.to(self.device) if isinstance(value, Tensor) else value

    def _execute(self, node: fx.Node, argument: Callable[[fx.Node], Any]) -> Any:
        args = fx.map_arg(node.args, argument)
        kwargs = fx.map_arg(node.kwargs, argument)
        if node.op == "call_function":
            value = node.target(*args, **kwargs)  # type: ignore[operator]
        elif node.op == "call_module":
            value = self.graph_module.get_submodule(str(node.target))(*args, **kwargs)
        else:
            raise AssertionError(f"unexpected operation {node.op} in a captured graph")
        if isinstance(value, Tensor):
            return value.cpu() if node.target is not operator.getitem else value
        return value

    def _visit_layer(self, node: fx.Node, layer: Layer, plan: LayerPlan) -> None:
        if plan.spec is None or layer.shared_with is not None:
            return
        source = node.args[0]
        assert isinstance(source, fx.Node)
        pair = self.values[source]
        collector = MomentCollector(layer.geometry, self._rows_per_image(layer, pair))
        for k in range(len(pair.float)):
            x = self._argument(source, k=k, quantized=False)
            collector.add(x, x if pair.same else self._argument(source, k=k, quantized=True))
        stats = collector.finish()
        weight = layer.geometry.to_matrix(tensor_at(self.graph_module, layer.weight)).float()
        bias = tensor_at(self.graph_module, layer.bias).float()
        diagonal = stats.H.diagonal(dim1=-2, dim2=-1)[:, None, :]
        importance = diagonal.expand_as(stats.grouped(weight)).reshape(weight.shape)
        spec = plan.spec
        try:
            rounded = plan.rounding.round(weight, lambda w: fit_grid(plan.range, w, spec, importance), stats)
            rounded, bias = plan.correction.correct(weight, bias, rounded, stats)
        except NumericsError as error:
            raise NumericsError(f"layer {layer.name!r}: {error}") from error
        self.result.weights[layer.name], self.result.biases[layer.name] = rounded, bias
        self.quantized_constants[layer.weight] = layer.geometry.to_weight(rounded.dequantize())
        self.quantized_constants[layer.bias] = bias

    def _rows_per_image(self, layer: Layer, pair: Pair) -> int | None:
        images = sum(chunk.shape[0] for chunk in pair.float)
        wanted = max(_MIN_ROWS, self.limits.rows * layer.geometry.columns)
        return ceil(wanted / images) if self.limits.rows else None

    def _visit_tap(self, node: fx.Node, plan: TapPlan) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        pair = self.values[source]
        _sqnr(pair, f"tap {plan.name!r}")
        seen = histogram(pair.quantized)
        grid = fit_grid(plan.range, seen.values, plan.spec, seen.counts)
        self.result.grids[plan.name] = grid
        module = self.result.instrumented.tap(plan.name)
        module.set_grid(grid)
        quantized = [self.memory.admit(module(value.to(self.device)).cpu()) for value in pair.quantized]
        self.values[node] = Pair([self.memory.admit(value) for value in pair.float], quantized)
        self.result.sqnr_db[plan.name] = _sqnr(self.values[node], f"tap {plan.name!r}")


def _sqnr(pair: Pair, where: str) -> float:
    """10 log10 of the float value's power over the power of the difference, in dB; inf when there is none.

    Raises NumericsError when either holds NaN or Inf.
    """
    signal, noise = 0.0, 0.0
    for x, y in zip(pair.float, pair.quantized, strict=True):
        signal += float(x.square().sum(dtype=torch.float64))
        noise += 0.0 if pair.same else float((x - y).square_().sum(dtype=torch.float64))
    if not isfinite(signal + noise):
        raise NumericsError(f"{where} holds NaN, Inf or numbers too large; check the images and the normalization")
    return inf if noise == 0 else 10 * log10(max(signal, torch.finfo(torch.float64).tiny) / noise)
