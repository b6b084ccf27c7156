"""Gradients of a network's loss, gathered layer by layer: for clip searches, and for the walk before it sets out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from subbyte.core import Geometry
from subbyte.errors import DataError
from subbyte.graph import (
    Calls,
    Instrumented,
    Layer,
    Memory,
    Network,
    Pair,
    Targets,
    expected,
    given,
    instrument,
    layer_gradients,
    outputs,
    sampled,
    signs,
)
from subbyte.plan import Plan
from subbyte.stats import GradientCollector, GradientStats, position_weights

_LEAST = 1e-6  # of the mean weight: where nothing depends on a run of channels its rows weigh alike
Against = Tensor | Literal["signs", "sampled", "outputs", "expected"]
"""What the loss is measured against: labels, int64 [n], or the network's own output (see `graph.gradients`)."""


def gradient_stats(
    network: Network,
    images: Tensor,
    against: Against = "signs",
    *,
    batch: int = 64,
    names: Iterable[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, GradientStats]:
    """Gradients of the cross-entropy with respect to every weight, by the name of the layer that owns it.

    images: [n, ...], cut into batches of `batch`; names: of the layers wanted, or None for all; seed: of the draw of
    targets. Raises DataError when labels do not fit, ModelError when the network gives no logits.
    """
    layers = {layer.name: layer for layer in network.layers if layer.shared_with is None}
    wanted = set(layers if names is None else names)
    owners = {layer.name: owner for layer in network.layers if (owner := layer.shared_with or layer.name) in wanted}
    instrumented = instrument(network, [])
    instrumented.graph_module.to(device)
    collectors = {name: GradientCollector(layers[name].geometry) for name in layers if name in wanted}
    for part, targets in zip(images.split(batch), _targets(against, len(images), batch, seed), strict=True):
        for share, calls in layer_gradients(instrumented, part.to(device), targets, owners):
            for name, collector in collectors.items():
                collector.add(calls[name], share)
        for collector in collectors.values():
            collector.end_batch()
    return {name: collector.finish() for name, collector in collectors.items()}


def _targets(against: Against, images: int, batch: int, seed: int) -> list[Targets]:
    """One for each batch."""
    if isinstance(against, Tensor):
        if len(against) != images:
            raise DataError(f"{images} images need as many labels; got {len(against)}")
        return [given(part) for part in against.split(batch)]
    generator = torch.Generator().manual_seed(seed)
    drawn = {"signs": signs, "sampled": sampled, "outputs": outputs}
    own = drawn[against](generator) if against in drawn else expected
    return [own] * -(-images // batch)


def loss_of_weight(network: Network, layer: Layer, images: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The mean cross-entropy of images [n, ...] as a function of one layer's weights [rows, columns].

    For `stats.hessian_blocks`. labels: int64 [n].
    """

    def loss(matrix: Tensor) -> Tensor:
        logits = functional_call(network.graph_module, {layer.weight: layer.geometry.to_weight(matrix)}, (images,))
        return F.cross_entropy(logits, labels)

    return loss


class Guide:
    """What gradients of the float network say of the layers that ask for it.

    importance: of weights, [rows, columns], by layer, for ranges that do not want that of inputs.
    """

    def __init__(self, memory: Memory) -> None:
        self.importance: dict[str, Tensor] = {}
        self._memory = memory
        self._weights: dict[str, list[Tensor]] = {}

    def add(self, name: str, weights: Tensor) -> None:
        """Keep the weights of a chunk's rows, [batch, parts, positions], in half the bits."""
        self._weights.setdefault(name, []).append(self._memory.admit(weights.to(torch.bfloat16).cpu()))

    def take(self, name: str) -> list[Tensor]:
        """Weights of a layer's rows by chunk, their mean over all rows 1; kept no longer."""
        stored = self._weights.pop(name)
        total = torch.stack([chunk.sum((0, 2), dtype=torch.float64) for chunk in stored]).sum(0)
        mean = (total / sum(chunk.shape[0] * chunk.shape[2] for chunk in stored)).float()[:, None]
        relative = [chunk.float() / torch.where(mean > 0, mean, 1.0) + _LEAST for chunk in stored]
        self._memory.release(Pair(stored, stored))
        return relative


def look_ahead(
    network: Network, plan: Plan, instrumented: Instrumented, chunks: list[Tensor], memory: Memory, device: str
) -> Guide:
    """Go through the network, still float, for all layers whose plan asks for gradients.

    Those that guide are of the network's output itself (`graph.outputs`), those that weigh the weights are of the loss
    against it (`graph.signs`): a pass for each that is asked for. Of a weight's calls only the first guides, as moments
    are of that one. instrumented: of `network`, on `device`; chunks: of images; memory: for what the guide keeps.
    """
    guide = Guide(memory)
    plans = {layer.name: layer for layer in plan.layers if layer.spec is not None}
    layers = {layer.name: layer for layer in network.layers if layer.name in plans and layer.shared_with is None}
    guided = {name: layer for name, layer in layers.items() if plans[name].guided}
    weighed = {name: layer for name, layer in layers.items() if plans[name].importance != "inputs"}

    def calls_of(wanted: dict[str, Layer], targets: Targets) -> Iterator[tuple[Tensor, dict[str, Calls]]]:
        owners = {layer.name: layer.shared_with or layer.name for layer in network.layers}
        owners = {name: owner for name, owner in owners.items() if owner in wanted}
        for chunk in chunks if owners else []:
            yield from layer_gradients(instrumented, chunk.to(device), targets, owners)

    for _, calls in calls_of(guided, outputs(torch.Generator().manual_seed(0))):
        for name, layer in guided.items():
            parts = _parts(layer.geometry, plans[name].guided)
            weights = position_weights(calls[name][0][1], layer.geometry, parts)
            guide.add(name, weights ** plans[name].guided_power)
    collectors = {name: GradientCollector(layer.geometry) for name, layer in weighed.items()}
    for share, calls in calls_of(weighed, signs(torch.Generator().manual_seed(0))):
        for name, collector in collectors.items():
            collector.add(calls[name], share)
            collector.end_batch()
    for name, collector in collectors.items():
        stats = collector.finish()
        guide.importance[name] = {"fisher": stats.fisher, "gradient": stats.absolute}[plans[name].importance]
    return guide


def _parts(geometry: Geometry, wanted: int) -> int:
    """Runs of channels in all: in each group the largest number up to `wanted` that divides its rows."""
    rows = geometry.rows // geometry.groups
    return geometry.groups * next(k for k in range(min(wanted, rows), 0, -1) if rows % k == 0)
