"""Gradients of a network's loss, gathered layer by layer: for clip searches, and for the walk
before it sets out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from subbyte.core import Geometry
from subbyte.engine.limits import Share
from subbyte.errors import DataError
from subbyte.graph import (
    Calls,
    Instrumented,
    Layer,
    Memory,
    Network,
    Pair,
    Samples,
    Targets,
    expected,
    given,
    instrument,
    layer_gradients,
    outputs,
    sampled,
    signs,
)
from subbyte.io.cache import Cache
from subbyte.io.processes import Processes
from subbyte.io.repeatable import UNIT
from subbyte.recipe import Plan
from subbyte.stats import (
    GradientCollector,
    GradientStats,
    gradients_by_image,
    position_weights,
)

_LEAST = 1e-6  # of the mean weight: where nothing depends on a run of channels its rows weigh alike
Against = Tensor | Literal["signs", "sampled", "outputs", "expected"]
"""The targets that the loss is measured against: labels, int64 [n], or the network's own output
(see `graph.backward`).
"""


def gradient_stats(
    network: Network,
    images: Tensor | Samples,
    against: Against = "signs",
    *,
    batch: int = 64,
    names: Collection[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, GradientStats]:
    """Gradients of the cross-entropy with respect to every weight, by the name of the layer that
    owns it.

    images: [n, ...], cut into batches of `batch`; names: of the layers wanted, or None for all;
    seed: of the draw of targets. Raises DataError when labels do not fit, ModelError when the
        network gives no logits.
    """
    samples = Samples.of(images)
    layers = [
        layer
        for layer in network.owners
        if layer.geometry.observed and (names is None or layer.name in names)
    ]
    wanted = {layer.name for layer in layers}
    owners = {layer.name: layer.owner for layer in network.layers if layer.owner in wanted}
    instrumented = instrument(network, [])
    instrumented.graph_module.to(device)
    collectors = {layer.name: GradientCollector(layer.geometry) for layer in layers}
    for part, targets in zip(
        samples.split(batch), _targets(against, len(samples), batch, seed), strict=True
    ):
        for share, calls in layer_gradients(instrumented, part.to(device), targets, owners):
            for name, collector in collectors.items():
                collector.add(calls[name], share)
        for collector in collectors.values():
            collector.end_batch()
    return {name: collector.finish() for name, collector in collectors.items()}


def _targets(against: Against, images: int, batch: int, seed: int) -> list[Targets]:
    """The targets of each batch."""
    if isinstance(against, Tensor):
        if len(against) != images:
            raise DataError(f"{images} images need as many labels; got {len(against)}")
        return [given(part) for part in against.split(batch)]
    generator = torch.Generator().manual_seed(seed)
    drawn = {"signs": signs, "sampled": sampled, "outputs": outputs}
    own = drawn[against](generator) if against in drawn else expected
    return [own] * -(-images // batch)


def loss_of_weight(
    network: Network, layer: Layer, images: Tensor, labels: Tensor
) -> Callable[[Tensor], Tensor]:
    """The mean cross-entropy of images [n, ...] as a function of one layer's weights [rows,
    columns].

    For `stats.hessian_blocks`. labels: int64 [n].
    """

    def loss(matrix: Tensor) -> Tensor:
        logits = functional_call(
            network.graph_module, {layer.weight: layer.geometry.to_weight(matrix)}, (images,)
        )
        return F.cross_entropy(logits, labels)

    return loss


def hessians_of_linear(
    network: Network, layers: Collection[Layer], images: Tensor, batch: int = 64
) -> dict[str, Tensor]:
    """The exact Hessian of each output channel, float32 [rows, columns, columns] by layer, of the
    mean cross-entropy over images [n, ...]; as `stats.hessian_blocks`, at the cost of one pass back
    for each class.

    layers: in whose weights the network is linear, piece by piece (`graph.is_piecewise_linear`):
        then it is sum_y p_y g_y g_y', g_y the gradient of an image's loss against class y, whatever
        the labels. Raises ModelError for more than 100 classes.
    """
    owners, found = {layer.name: layer.name for layer in layers}, dict[str, Tensor]()
    instrumented = instrument(network, [])
    for part in Samples.of(images).split(batch) if owners else []:
        for share, calls in layer_gradients(instrumented, part, expected, owners):
            for layer in layers:
                ((x, g),) = calls[layer.name]
                each = gradients_by_image(x, g, layer.geometry)
                own = torch.einsum("n,nrc,nrd->rcd", share.float() / len(images), each, each)
                found[layer.name] = own + found.get(layer.name, 0)
    return found


class Guide:
    """The importance that the float network's gradients give to layers that ask for it.

    importance: of weights, [rows, columns], by layer, for ranges that do not want that of inputs;
    weights: of rows, by layer and chunk.
    """

    def __init__(self, memory: Memory, processes: Processes) -> None:
        self.importance: dict[str, Tensor] = {}
        self._memory, self._processes = memory, processes
        self.weights: dict[str, list[Tensor]] = {}

    def add(self, name: str, weights: Tensor) -> None:
        """Keep the weights of a chunk's rows, bfloat16 [batch, parts, positions]."""
        self.weights.setdefault(name, []).append(self._memory.admit(weights))

    def take(self, name: str) -> list[Tensor]:
        """Weights of a layer's rows by chunk, their mean over all rows of all processes 1; kept no
        longer.
        """
        stored = self.weights.pop(name)
        units = [unit for chunk in stored for unit in chunk.split(UNIT)]
        own = torch.stack([unit.sum((0, 2), dtype=torch.float64) for unit in units]).sum(0)
        _, rows = self._processes.counted(sum(chunk[:, 0].numel() for chunk in stored))
        mean = (self._processes.total(own) / rows).float()[:, None]
        relative = [chunk.float() / torch.where(mean > 0, mean, 1.0) + _LEAST for chunk in stored]
        self._memory.release(Pair(stored, stored))
        return relative


def look_ahead(
    network: Network,
    plan: Plan,
    instrumented: Instrumented,
    share: Share,
    memory: Memory,
    device: str,
    cache: Cache,
) -> Guide:
    """Go through the network, still float, for all layers whose plan asks for gradients.

    Those that guide are of the network's output itself (`graph.outputs`), those that weigh the
    weights are of the loss against it (`graph.signs`): a pass for each that is asked for. Of a
    weight's calls only the first guides, as moments are of that one. instrumented: of `network`, on
    `device`; share: of the images; memory: for what the guide keeps;
    cache: for these images, chunks and device.
    """
    ahead = _Ahead(network, instrumented, share, device, cache)
    guide, owners = Guide(memory, share.processes), {layer.name for layer in network.owners}
    plans = {
        layer.name: layer
        for layer in plan.layers
        if layer.spec is not None and layer.name in owners
    }
    guided = {
        name: (layer.guided, layer.guided_power) for name, layer in plans.items() if layer.guided
    }
    ahead.guidance(guided, guide)
    weighed = {
        name: layer.importance for name, layer in plans.items() if layer.importance != "inputs"
    }
    for name, found in ahead.importance(list(weighed)).items():
        guide.importance[name] = found[weighed[name]].to(device)
    return guide


@dataclass(frozen=True)
class _Ahead:
    """Gradients of a float network: for those layers whose gradients are not in the cache."""

    network: Network
    instrumented: Instrumented
    share: Share
    device: str
    cache: Cache

    def guidance(self, wanted: dict[str, tuple[int, float]], guide: Guide) -> None:
        """Give the guide the weights of rows, bfloat16 [batch, parts, positions]; wanted: parts and
        power by layer.
        """
        named = {
            name: f"guidance of {name}: {parts} parts, power {power}"
            for name, (parts, power) in wanted.items()
        }
        missing = {}
        for name, what in named.items():
            kept = self.cache.find(what)
            if kept is None:
                missing[name] = what
            for weights in (kept or {}).values():
                guide.add(name, weights.view(torch.bfloat16))
        drawn = self._drawn(outputs)
        for chunk in self.share.chunks if missing else []:
            found: dict[str, list[Tensor]] = {name: [] for name in missing}
            for _, calls in self._calls(chunk, set(missing), drawn):
                for name in missing:
                    geometry, (parts, power) = self.network.layer(name).geometry, wanted[name]
                    weights = position_weights(calls[name][0][1], geometry, _parts(geometry, parts))
                    found[name].append((weights**power).to(torch.bfloat16).cpu())
            for name, weights_of in found.items():
                guide.add(name, torch.cat(weights_of))
        for name, what in missing.items():  # NumPy has no bfloat16
            self.cache.keep(
                what,
                {str(k): chunk.view(torch.int16) for k, chunk in enumerate(guide.weights[name])},
            )

    def importance(self, wanted: list[str]) -> dict[str, Mapping[str, Tensor]]:
        """Mean square (`fisher`) and mean absolute (`gradient`) gradients of the weights, by
        layer.
        """
        kept = {name: self.cache.find(f"gradients of {name}") for name in wanted}
        missing = [name for name, found in kept.items() if found is None]
        collectors = {
            name: GradientCollector(self.network.layer(name).geometry) for name in missing
        }
        drawn = self._drawn(signs)
        for chunk in self.share.chunks if missing else []:
            for share, calls in self._calls(chunk, set(missing), drawn):
                for name, collector in collectors.items():
                    collector.add(calls[name], share)
                    collector.end_batch()
        made: dict[str, Mapping[str, Tensor]] = {}
        for name, collector in collectors.items():
            stats = collector.finish(self.share.processes)
            made[name] = {"fisher": stats.fisher, "gradient": stats.absolute}
            self.cache.keep(f"gradients of {name}", made[name])
        return {name: found for name, found in kept.items() if found is not None} | made

    def _drawn(self, targets: Callable[[torch.Generator, int], Targets]) -> Targets:
        return targets(torch.Generator().manual_seed(0), self.share.before)

    def _calls(
        self, chunk: Samples, wanted: set[str], targets: Targets
    ) -> Iterator[tuple[Tensor, dict[str, Calls]]]:
        """The calls of layers, unit by unit."""
        layers = self.network.layers
        owners = {layer.name: layer.owner for layer in layers if layer.owner in wanted}
        for unit in chunk.split(UNIT):
            yield from layer_gradients(self.instrumented, unit.to(self.device), targets, owners)


def _parts(geometry: Geometry, wanted: int) -> int:
    """Runs of channels in all: in each group the largest number up to `wanted` that divides its
    rows.
    """
    rows = geometry.rows // geometry.groups
    return geometry.groups * next(k for k in range(min(wanted, rows), 0, -1) if rows % k == 0)
