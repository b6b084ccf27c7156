"""The walk: two travellers go through the network side by side, node by node, on the same
calibration images.

x is the value in the float network, x_q the value in the network quantized so far. At a layer both
inputs stream into its second moments; range, rounding and correction decide from those alone. At an
activation quantizer the range of x_q is chosen. Then both travellers step on. One pass, whatever
the depth; values live only as long as somebody will read them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf, isfinite, log10

import torch
from torch import Tensor

from subbyte.core import Grid, QTensor
from subbyte.engine.biases import in_integers
from subbyte.engine.guidance import Guide, look_ahead
from subbyte.engine.layers import layer_stats, naming, round_layer
from subbyte.engine.limits import Limits
from subbyte.engine.quantized import Findings, QuantizedModel
from subbyte.engine.tuning import Tuner
from subbyte.errors import DataError, NumericsError, RecipeError
from subbyte.graph import (
    Chunks,
    Instrumented,
    Layer,
    Memory,
    Network,
    Pair,
    Samples,
    Travel,
    instrument,
    room_on,
    tensor_at,
)
from subbyte.io.processes import Processes
from subbyte.io.repeatable import power, threads
from subbyte.methods import Task, TuneLayers
from subbyte.ranges import fit_grid, up_to
from subbyte.recipe import Plan
from subbyte.stats import channel_histograms, histogram
from subbyte.tasks import Classification, row_agreement

CLASSES = Classification()

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and what is being worked on."""


@dataclass
class WalkResult:
    """weights, biases: by layer name, for layers that own their weight; grids: by name of
    activation quantizer; sqnr_db: by name of layer, product and activation quantizer (a layer's
    output, or a quantizer's value, against the float network's); outputs: the network's, in order,
    float and quantized on the calibration images; spilled_bytes: of activations that went to
    temporary files.
    """

    instrumented: Instrumented
    weights: dict[str, QTensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    sqnr_db: dict[str, float] = field(default_factory=dict)
    outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    spilled_bytes: int = 0

    @property
    def logits(self) -> tuple[Tensor, Tensor]:
        """The output, float and quantized, of a network that has one."""
        (output,) = self.outputs
        return output


def walk(
    network: Network,
    plan: Plan,
    images: Tensor | Samples,
    *,
    labels: Tensor | None = None,
    task: Task = CLASSES,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> WalkResult:
    """Quantize `network` by `plan` on calibration images [n, ...], or samples.

    labels: int64 [n], or other targets, read only by a plan whose tuning ends with them; task: by
    whose loss. Processes that share the images (`Limits`) call this at once, each with all of them,
    and end with the same result; tuning is for one that is alone.
    Raises NumericsError naming the layer where NaN or Inf turn up, DataError where labels do not
    fit, or there are fewer chunks than processes.
    """
    limits, samples = limits or Limits(), Samples.of(images)
    if plan.needs_labels:
        _check_labels(labels, len(samples))
    if isinstance(plan.tune, TuneLayers):
        limits = replace(limits, chunk=plan.tune.samples_a_step)
    result = WalkResult(instrument(network, [tap.place for tap in plan.taps]))
    result.instrumented.graph_module.to(limits.device)
    share = limits.share(samples)
    walker = _Walker(network, plan, result, limits, progress)
    walker.guide = look_ahead(
        network, plan, result.instrumented, share, walker.memory, limits.device, limits.shelf
    )
    walker.tuner = _tuner(network, plan, result, share.chunks, limits)
    if walker.tuner is not None and labels is not None:
        walker.tuner.check(labels, task)
    with threads(0 if plan.tune is None else plan.tune.learns_with):
        outputs = walker.travel.run(share.chunks)
        targets = None if labels is None else [labels[k] for k in limits.pieces(len(labels))]
        learned = walker.finish_tuning(targets, task)
    if learned or walker.travel.stale:
        _release(walker.memory, outputs)
        outputs = walker.measure_again().run(share.chunks)
    result.outputs = [
        (_joined(pair.float, limits.processes), _joined(pair.quantized, limits.processes))
        for pair in outputs
    ]
    _release(walker.memory, outputs)
    result.spilled_bytes = walker.travel.memory.spilled
    return result


def measured(
    network: Network, model: QuantizedModel, images: Samples, limits: Limits
) -> QuantizedModel:
    """A quantized network whose numbers have changed since its walk, with new findings: both
    travellers go through it once more.
    """
    plan = model.plan
    result = WalkResult(instrument(network, [tap.place for tap in plan.taps]))
    result.instrumented.graph_module.to(limits.device)
    for tap in plan.taps:
        result.instrumented.tap(tap.name).set_as(model.instrumented.tap(tap.name))
    walker = _Walker(network, plan, result, limits, None)
    travel = walker.measure_again()
    for name in model.weights:
        layer = network.layer(name)
        travel.requantize(layer.weight, tensor_at(model.graph_module, layer.weight))
    for name, value in model.leftovers.items():
        travel.requantize(name, value)
    outputs = travel.run(limits.share(images).chunks)
    pairs = [
        (_joined(pair.float, limits.processes), _joined(pair.quantized, limits.processes))
        for pair in outputs
    ]
    _release(walker.memory, outputs)
    model.findings = Findings(result.sqnr_db, row_agreement(pairs), network.fold_error)
    return model


def _joined(chunks: Chunks, processes: Processes) -> Tensor:
    """An output for all samples, those of other processes, too; one number a chunk of what has no
    axis.
    """
    own = torch.cat([torch.atleast_1d(chunk.cpu()) for chunk in chunks])
    return torch.cat(processes.gather(own))


def _release(memory: Memory, pairs: list[Pair]) -> None:
    for pair in pairs:
        memory.release(pair)


def _tuner(
    network: Network, plan: Plan, result: WalkResult, chunks: list[Samples], limits: Limits
) -> Tuner | None:
    if not isinstance(plan.tune, TuneLayers):
        return None
    rounded = {layer.name for layer in plan.layers if layer.spec is not None}
    layers = [
        layer for layer in network.owners if layer.name in rounded and layer.geometry.observed
    ]
    return Tuner(
        plan.tune,
        layers,
        result.instrumented,
        result.weights,
        result.biases,
        chunks=chunks,
        device=limits.device,
    )


class _Walker:
    """Decides at every layer and activation quantizer; `graph.Travel` does the travelling."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        result: WalkResult,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        self.result, self.limits, self.progress = result, limits, progress
        self.network = network
        self.layer_plans = {layer.name: layer for layer in plan.layers}
        self.tap_plans = {tap.name: tap for tap in plan.taps}
        self.done = 0
        self.tuner: Tuner | None = None
        self.memory = Memory(limits.memory, on_device=room_on(limits.device))
        self.guide = Guide(self.memory, limits.processes)
        self.travel = Travel(
            result.instrumented,
            self.memory,
            limits.device,
            at_layer=self.at_layer,
            at_tap=self.at_tap,
            after=self.after,
        )

    def finish_tuning(self, labels: list[Tensor] | None, task: Task) -> bool:
        """Let biases and scales learn; returns whether anything changed."""
        if self.tuner is None:
            return False
        with naming("after the last layer"):
            return self.tuner.finish(labels, task)

    def measure_again(self) -> Travel:
        """A second way through the network, with what has been decided: for what was learned at its
        end, or what changed behind the traveller.
        """
        travel = Travel(
            self.result.instrumented,
            self.memory,
            self.limits.device,
            at_layer=lambda name, pair: None,
            at_tap=self._round,
            after=self._measure,
        )
        for name, rounded in self.result.weights.items():
            layer = self.network.layer(name)
            travel.requantize(layer.weight, layer.geometry.to_weight(rounded.dequantize()))
            travel.requantize(layer.bias, self.result.biases[name])
        return travel

    def at_layer(self, name: str, pair: Pair) -> None:
        """Collect the statistics of a layer's input; choose its range, round, correct."""
        layer, plan = self.network.layer(name), self.layer_plans[name]
        if plan.spec is None or not layer.owns_weight:
            return
        with naming(f"layer {name!r}"):
            stats = layer_stats(layer, pair, self.limits, products=plan.reads_products)
            guided = stats
            if plan.guided:
                guided = layer_stats(layer, pair, self.limits, self.guide.take(name))
        if self.travel.changed(layer.weight):  # it has learned what to give for these inputs
            stats, guided = stats.of_quantized(), guided.of_quantized()
        weight = layer.geometry.to_matrix(self.travel.tensor(layer.weight)).float()
        bias, importance = self.travel.tensor(layer.bias).float(), self.guide.importance.get(name)
        with naming(f"layer {name!r}"):
            rounded, corrected = self.limits.processes.from_first(
                lambda: round_layer(plan, weight, bias, stats, guided, importance)
            )
            inputs = self.result.instrumented.input_grid(layer)
            self._take(layer, *in_integers(weight, rounded, corrected, inputs))

    def _take(self, layer: Layer, rounded: QTensor, bias: Tensor) -> None:
        self.result.weights[layer.name], self.result.biases[layer.name] = rounded, bias
        self.travel.requantize(layer.weight, layer.geometry.to_weight(rounded.dequantize()))
        self.travel.requantize(layer.bias, bias)
        if self.tuner is not None:
            self.tuner.after_layer(layer, self.travel)

    def at_tap(self, name: str, pair: Pair) -> Iterator[Tensor]:
        """Choose the range of an activation quantizer; give its rounded value."""
        self._sqnr(pair, f"activation quantizer {name!r}")
        with naming(f"activation quantizer {name!r}"):
            yield from self._choose(name, pair)

    def _choose(self, name: str, pair: Pair) -> Iterator[Tensor]:
        plan, tap = self.tap_plans[name], self.result.instrumented.tap(name)
        axis, processes = plan.place.axis, self.limits.processes
        if plan.dynamic:
            tap.set_dynamic(plan.spec, plan.fit)
            return self._round(name, pair)
        seen = (
            histogram(pair.quantized, processes)
            if axis is None
            else channel_histograms(pair.quantized, axis, processes)
        )
        grid = processes.from_first(
            lambda: fit_grid(plan.range, seen.values, plan.spec, seen.counts, plan.allocate)
        )
        grid = up_to(grid, self.result.instrumented.bound(name))
        self.result.grids[name] = grid
        tap.set_grid(grid)
        return self._round(name, pair)

    def _round(self, name: str, pair: Pair) -> Iterator[Tensor]:
        module = self.result.instrumented.tap(name)
        return (module(value.to(self.limits.device)) for value in pair.quantized)

    def _measure(self, name: str, pair: Pair) -> None:
        where = (
            f"activation quantizer {name!r}"
            if name in self.tap_plans
            else f"the output of layer {name!r}"
        )
        self.result.sqnr_db[name] = self._sqnr(pair, where)

    def _sqnr(self, pair: Pair, where: str) -> float:
        """10 log10 of the float value's power over the power of the difference, in dB; inf when
        there is none.

        Raises NumericsError when either holds NaN or Inf.
        """
        each, device = [], self.limits.device
        for x, y in zip(pair.float, pair.quantized, strict=True):
            here = x.to(device)
            whole = power(here)
            noise = torch.zeros_like(whole) if y is x else power(here - y.to(device))
            each.append(torch.stack([whole, noise]))
        powers = torch.stack(each).sum(0).cpu()
        signal, lost = self.limits.processes.total(powers).tolist()
        if not isfinite(signal + lost):
            raise NumericsError(
                f"{where} holds NaN, Inf or numbers too large; check the images and the "
                f"normalization"
            )
        if lost == 0:
            return inf
        return 10 * log10(max(signal, torch.finfo(torch.float64).tiny) / lost)

    def after(self, name: str, pair: Pair) -> None:
        """Measure what a layer, product or activation quantizer gave."""
        self._measure(name, pair)
        self.done += 1
        if self.progress is not None:
            total = len(self.network.readers) + len(self.tap_plans)
            self.progress(self.done, total, name)


def _check_labels(labels: Tensor | None, images: int) -> None:
    """Labels that a tuning method will learn from: [images, ...]."""
    if labels is None:
        raise RecipeError(
            "tune: retrain from labels needs the labels of the calibration images; give labels="
        )
    if len(labels) != images:
        raise DataError(
            f"labels must be [{images}, ...], one for each calibration image; got "
            f"{list(labels.shape)}"
        )
