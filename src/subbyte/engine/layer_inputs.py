"""Statistics of a layer's inputs, from the values of the two travellers."""

from math import ceil

import torch
from torch import Tensor

from subbyte.engine.limits import Limits
from subbyte.errors import NumericsError
from subbyte.graph import Layer, Pair
from subbyte.io.cache import NO_CACHE
from subbyte.stats import Collector, LayerStats, MomentCollector, PowerCollector, Products

_MIN_ROWS = 2**15


def layer_stats(
    layer: Layer,
    pair: Pair,
    limits: Limits,
    weights: list[Tensor] | None = None,
    *,
    products: bool = True,
) -> LayerStats:
    """Second moments of a layer's inputs; weights: of their rows, by chunk (`Guide.take`), the rows
    drawn are the same; products: of all pairs of inputs, not only of each alone. Of a layer that
    is not observed every column counts alike.

    Raises NumericsError where they hold NaN or Inf.
    """
    if not layer.geometry.observed:
        return LayerStats.alike(layer.geometry.columns, limits.device)
    if not products:
        powers = PowerCollector(layer.geometry, _take(layer, pair, limits))
        return _fill(powers, layer, pair, limits)
    what, cache = (
        f"moments of the inputs of {layer.name}",
        limits.shelf if weights is None else NO_CACHE,
    )
    kept = cache.find(what)
    known = None if kept is None else (kept["F"].to(limits.device), kept["mean"].to(limits.device))
    if kept is not None and known is not None and pair.same:
        F, mean = known
        return LayerStats(Products(F, F, F), mean, mean, int(kept["rows"]))
    collector = MomentCollector(layer.geometry, _take(layer, pair, limits), known)
    stats = _fill(collector, layer, pair, limits, weights)
    if kept is None:
        cache.keep(what, {"F": stats.F, "mean": stats.mean, "rows": torch.tensor(stats.rows)})
    return stats


def _take(layer: Layer, pair: Pair, limits: Limits) -> int | None:
    """Rows of an image that enter a layer's moments; None for all."""
    images = sum(chunk.shape[0] for chunk in pair.float)
    wanted = max(_MIN_ROWS, limits.rows * layer.geometry.columns)
    return ceil(wanted / images) if limits.rows else None


def _fill(
    collector: Collector,
    layer: Layer,
    pair: Pair,
    limits: Limits,
    weights: list[Tensor] | None = None,
) -> LayerStats:
    for k, (x, x_q) in enumerate(zip(pair.float, pair.quantized, strict=True)):
        x = x.to(limits.device)
        chosen = None if weights is None else weights[k].to(limits.device)
        collector.add(x, x if pair.same else x_q.to(limits.device), chosen)
    stats = collector.finish()
    if not stats.moments.finite:
        raise NumericsError(
            f"the inputs of layer {layer.name!r} hold NaN, Inf or numbers too large to square; "
            "check the images, the normalization and the weights before it"
        )
    return stats
