"""The walk: two travellers go through the network side by side, node by node, on the same calibration images.

x is the value in the float network, x_q the value in the network quantized so far. At a layer both inputs stream into
its second moments; range, rounding and correction decide from those alone. At a tap the range of x_q is chosen. Then
both travellers step on. One pass, whatever the depth; values live only as long as somebody will read them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, inf, isfinite, log10

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.errors import NumericsError, RecipeError
from subbyte.graph import Chunks, Instrumented, Layer, Memory, Network, Pair, Travel, instrument
from subbyte.plan import Plan
from subbyte.ranges import GridFitter, fit_grid
from subbyte.stats import LayerStats, MomentCollector, histogram
from subbyte.tuning import Tuner

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
    labels: Tensor | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> WalkResult:
    """Quantize `network` by `plan` on calibration images [n, ...].

    labels: int64 [n], read only by a plan whose tuning ends with them. Raises NumericsError naming the layer where NaN
    or Inf turn up.
    """
    limits = limits or Limits()
    result = WalkResult(instrument(network, [tap.place for tap in plan.taps]))
    result.instrumented.graph_module.to(limits.device)
    chunks = list(images.split(limits.chunk))
    walker = _Walker(network, plan, result, limits, progress)
    walker.tuner = _tuner(network, plan, result, chunks, limits)
    output = walker.travel.run(chunks)
    quantized = torch.cat(output.quantized)
    if walker.tuner is not None:
        quantized = walker.tuner.finish(None if labels is None else list(labels.split(limits.chunk)))
    result.logits = (torch.cat(output.float).cpu(), quantized.cpu())
    walker.travel.memory.release(output)
    result.spilled_bytes = walker.travel.memory.spilled
    return result


def _tuner(network: Network, plan: Plan, result: WalkResult, chunks: list[Tensor], limits: Limits) -> Tuner | None:
    if plan.tune is None:
        return None
    rounded = {layer.name for layer in plan.layers if layer.spec is not None}
    layers = [layer for layer in network.layers if layer.name in rounded and layer.shared_with is None]
    return Tuner(
        plan.tune, layers, result.instrumented, result.weights, result.biases, chunks=chunks, device=limits.device
    )


class _Walker:
    """Decides at every layer and tap; `graph.Travel` does the travelling."""

    def __init__(
        self, network: Network, plan: Plan, result: WalkResult, limits: Limits, progress: Progress | None
    ) -> None:
        self.result, self.limits, self.progress = result, limits, progress
        self.layers = {layer.name: layer for layer in network.layers}
        self.layer_plans = {layer.name: layer for layer in plan.layers}
        self.tap_plans = {tap.name: tap for tap in plan.taps}
        self.done = 0
        self.tuner: Tuner | None = None
        self.travel = Travel(
            result.instrumented, Memory(limits.memory), limits.device,
            at_layer=self.at_layer, at_tap=self.at_tap, after=self.after,
        )  # fmt: skip

    def at_layer(self, name: str, pair: Pair) -> None:
        """Collect the statistics of a layer's input; choose its range, round, correct."""
        layer, plan = self.layers[name], self.layer_plans[name]
        if plan.spec is None or layer.shared_with is not None:
            return
        spec, stats = plan.spec, self._moments(layer, pair)
        if self.travel.changed(layer.weight):  # it has learned what to give for these inputs
            stats = stats.of_quantized()
        weight = layer.geometry.to_matrix(self.travel.tensor(layer.weight)).float()
        bias = self.travel.tensor(layer.bias).float()
        diagonal = stats.H.diagonal(dim1=-2, dim2=-1)[:, None, :]
        importance = diagonal.expand_as(stats.grouped(weight)).reshape(weight.shape)
        fit = GridFitter(plan.range, spec, importance, plan.scalar)
        try:
            easier = weight if plan.precondition is None else plan.precondition.prepare(weight, stats)
            rounded = plan.rounding.round(easier, fit, stats)
            rounded, bias = plan.correction.correct(weight, bias, rounded, stats)
        except (NumericsError, RecipeError) as error:
            raise type(error)(f"layer {name!r}: {error}") from error
        self.result.weights[name], self.result.biases[name] = rounded, bias
        self.travel.requantize(layer.weight, layer.geometry.to_weight(rounded.dequantize()))
        self.travel.requantize(layer.bias, bias)
        if self.tuner is not None:
            self.tuner.after_layer(layer, self.travel)

    def _moments(self, layer: Layer, pair: Pair) -> LayerStats:
        images = sum(chunk.shape[0] for chunk in pair.float)
        wanted = max(_MIN_ROWS, self.limits.rows * layer.geometry.columns)
        collector = MomentCollector(layer.geometry, ceil(wanted / images) if self.limits.rows else None)
        for x, x_q in zip(pair.float, pair.quantized, strict=True):
            x = x.to(self.limits.device)
            collector.add(x, x if pair.same else x_q.to(self.limits.device))
        return collector.finish()

    def at_tap(self, name: str, pair: Pair) -> Chunks:
        """Choose the range of a tap; return its rounded value."""
        plan = self.tap_plans[name]
        _sqnr(pair, f"tap {name!r}")
        seen = histogram(pair.quantized)
        grid = fit_grid(plan.range, seen.values, plan.spec, seen.counts)
        self.result.grids[name] = grid
        module = self.result.instrumented.tap(name)
        module.set_grid(grid)
        return [module(value.to(self.limits.device)).cpu() for value in pair.quantized]

    def after(self, name: str, pair: Pair) -> None:
        """Measure what a layer or tap gave."""
        where = f"tap {name!r}" if name in self.tap_plans else f"the output of layer {name!r}"
        self.result.sqnr_db[name] = _sqnr(pair, where)
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, len(self.layers) + len(self.tap_plans), name)


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
