"""The layers whose clips are searched, and the evidence on which: gradients, inputs, second
derivatives.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.analyses.clips.search import Search
from subbyte.core import GridSpec
from subbyte.engine.guidance import (
    Against,
    gradient_stats,
    hessians_of_linear,
    loss_of_weight,
)
from subbyte.engine.layers import layer_stats, naming
from subbyte.engine.limits import Limits
from subbyte.engine.stages import Report
from subbyte.graph import (
    Layer,
    Memory,
    Network,
    Pair,
    Samples,
    Travel,
    draw_classes,
    instrument,
    is_piecewise_linear,
    tensor_at,
)
from subbyte.ranges.clips import clipped_grid, scores
from subbyte.ranges.metrics import Evidence, Metric, Need, parse_metric
from subbyte.stats import GradientStats, hessian_blocks

log = logging.getLogger("subbyte")

_EXACT = 1024  # weights of a layer whose Hessian blocks are worth their time
_CLASSES = 100  # at most, of a pass back for each


@dataclass(frozen=True, eq=False)
class Target:
    """A layer whose clips are searched: its weight matrix [rows, columns] and what is known of
    it.
    """

    layer: Layer
    weight: Tensor
    evidence: Evidence

    def costs(
        self, spec: GridSpec, lower: Tensor, upper: Tensor, metrics: Sequence[Metric]
    ) -> Tensor:
        """float64 [metrics, units, k] of fractions [units, k]."""
        with naming(f"layer {self.layer.name!r}"):
            values = scores(self.weight, spec, lower, upper, metrics, self.evidence)
        return values.sum(1, keepdim=True) if spec.share.one_scale else values

    def rounded(self, spec: GridSpec, lower: Tensor, upper: Tensor) -> Tensor:
        """The weight at fractions [units], in torch's shape."""
        return self.layer.geometry.to_weight(
            clipped_grid(self.weight, spec, lower, upper).quantize(self.weight)
        )


def gather(
    network: Network, images: Tensor, labels: Tensor | None, search: Search, report: Report
) -> list[Target]:
    """The layers, each with the evidence that the metrics need, from calibration images [n, ...].

    labels: int64 [n], or None to draw them from the network's own output.
    """
    needs = {need for name in search.proxies for need in parse_metric(name).needs}
    few = images[: search.grad_batches * search.batch_size]
    gradients: dict[str, GradientStats] = {}
    moments: dict[str, Tensor] = {}
    hessians: dict[str, Tensor] = {}
    if Need.GRADIENTS in needs:
        report("statistics", 0, 3, "gradients")
        against: Against = "sampled" if labels is None else labels[: len(few)]
        gradients = gradient_stats(network, few, against, batch=search.batch_size, seed=search.seed)
    if Need.INPUTS in needs:
        report("statistics", 1, 3, "inputs")
        moments = _second_moments(network, images, Limits(chunk=search.batch_size))
    if Need.HESSIAN in needs:
        hessians = _hessians(network, images[: search.batch_size], labels, search.seed, report)
    report("statistics", 3, 3, "")
    found = []
    for layer in network.owners:
        slopes = gradients.get(layer.name)
        evidence = Evidence(
            None if slopes is None else _single(slopes),
            moments.get(layer.name),
            hessians.get(layer.name),
        )
        found.append(Target(layer, _matrix(network, layer), evidence))
    return found


def _hessians(
    network: Network, batch: Tensor, labels: Tensor | None, seed: int, report: Report
) -> dict[str, Tensor]:
    """Exact blocks of the layers that are small enough; labels: as in `gather`."""
    p = network.graph_module(batch).detach().softmax(1)
    own = draw_classes(p, torch.Generator().manual_seed(seed))
    classes = own if labels is None else labels[: len(batch)]
    small = [x for x in network.owners if x.geometry.rows * x.geometry.columns <= _EXACT]
    linear = [x for x in small if p.shape[1] <= _CLASSES and is_piecewise_linear(network, x)]
    curved = [layer for layer in small if layer not in linear]
    if curved:
        count = sum(layer.geometry.rows * layer.geometry.columns for layer in curved)
        log.warning(
            "metric hessian: exact second derivatives of %s take %d products, each of some four "
            "passes over %d images: this may take minutes before the first row",
            ", ".join(layer.name for layer in curved),
            count,
            len(batch),
        )
    report("statistics", 2, 3, "second derivatives")
    found = hessians_of_linear(network, linear, batch)
    for layer in curved:
        report("statistics", 2, 3, f"second derivatives of {layer.name}")
        loss = loss_of_weight(network, layer, batch, classes)
        found[layer.name] = hessian_blocks(loss, _matrix(network, layer), layer.name)
    return found


def _matrix(network: Network, layer: Layer) -> Tensor:
    return layer.geometry.to_matrix(tensor_at(network.graph_module, layer.weight).detach()).float()


def _single(stats: GradientStats) -> GradientStats:
    """The statistics in float32, as searches want them."""
    gradient, absolute = stats.gradient.float(), stats.absolute.float()
    return GradientStats(
        gradient, absolute, stats.fisher.float(), stats.outputs.float(), stats.images
    )


def _second_moments(network: Network, images: Tensor, limits: Limits) -> dict[str, Tensor]:
    """float32 [groups, columns, columns] by layer."""
    found = {}

    def at_layer(name: str, pair: Pair) -> None:
        if (layer := network.layer(name)).owns_weight:
            with naming(f"layer {name!r}"):
                found[name] = layer_stats(layer, pair, limits).H.float()

    travel = Travel(
        instrument(network, []),
        Memory(limits.memory),
        limits.device,
        at_layer=at_layer,
        at_tap=lambda name, pair: pair.float,
        after=lambda name, pair: None,
    )
    travel.run(limits.share(Samples.of(images)).chunks)
    return found
