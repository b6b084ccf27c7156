"""One layer's turn in a walk: the statistics of its inputs, and the codes that follow from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.engine.limits import Limits, enough_memory
from subbyte.errors import NumericsError, ProcessError, SubbyteError
from subbyte.graph import Layer, Pair
from subbyte.io.cache import NO_CACHE
from subbyte.methods import calls
from subbyte.ranges import GridFitter
from subbyte.recipe import LayerPlan
from subbyte.rounding import best_of
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
    drawn are the same; products: of all pairs of inputs, not only of each alone. Those of all
    processes count. Of a layer that is not observed every column counts alike.

    Raises NumericsError where they hold NaN or Inf.
    """
    if not layer.geometry.observed:
        return LayerStats.alike(layer.geometry.columns, limits.device)
    if not products:
        powers = PowerCollector(layer.geometry, *_rows(layer, pair, limits))
        return _fill(powers, layer, pair, limits)
    what, cache = (
        f"moments of inputs of {layer.name}",
        limits.shelf if weights is None else NO_CACHE,
    )
    kept = cache.find(what)
    known = None if kept is None else (kept["F"].to(limits.device), kept["mean"].to(limits.device))
    if kept is not None and known is not None and pair.same:
        F, mean = known
        rows, independent = kept["rows"].tolist()
        return LayerStats(Products(F, F, F), mean, mean, rows, independent)
    collector = MomentCollector(layer.geometry, *_rows(layer, pair, limits), known=known)
    stats = _fill(collector, layer, pair, limits, weights)
    if kept is None:
        rows = torch.tensor([stats.rows, stats.independent])
        cache.keep(what, {"F": stats.F, "mean": stats.mean, "rows": rows})
    return stats


def _rows(layer: Layer, pair: Pair, limits: Limits) -> tuple[int | None, int]:
    """Rows of an image that enter a layer's statistics, None for all; images of processes before
    this one.
    """
    before, images = limits.processes.counted(sum(chunk.shape[0] for chunk in pair.float))
    wanted = max(_MIN_ROWS, limits.rows * layer.geometry.columns)
    return ceil(wanted / images) if limits.rows else None, before


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
    stats = collector.finish(limits.processes)
    if not stats.moments.finite:
        raise NumericsError(
            "the inputs hold NaN, Inf or numbers too large to square; check the images, the "
            "normalization and the weights before it"
        )
    return stats


def round_layer(
    plan: LayerPlan,
    weight: Tensor,
    bias: Tensor,
    stats: LayerStats,
    guided: LayerStats | None = None,
    importance: Tensor | None = None,
) -> tuple[QTensor, Tensor]:
    """Codes of a layer's weight and the corrected bias, as a plan that quantizes it says.

    weight: float32 [rows, columns]; bias: float32 [rows]; guided: statistics for rounding in place
        of `stats`;
    importance: of the weights for the choice of the range, [rows, columns], in place of that of
        their inputs.
    """
    assert plan.spec is not None
    assert importance is not None or plan.importance == "inputs", (
        "guidance.look_ahead gives the importance"
    )
    if importance is None:
        power = stats.power[:, None, :]
        importance = power.expand_as(stats.grouped(weight)).reshape(weight.shape)
    guided = guided or stats
    fit = GridFitter(plan.range, plan.spec, importance, plan.scalar, plan.allocate)
    if plan.precondition is None:
        rounded = calls.round_weight(plan.rounding, weight, fit, guided)
    else:
        prepared = calls.prepare(plan.precondition, weight, guided)
        easier = calls.round_weight(plan.rounding, prepared, fit, guided)
        rounded = best_of(weight, [easier, QTensor.nearest(weight, fit(weight))], guided)
    return calls.correct(plan.correction, weight, bias, rounded, stats)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Errors of methods say where in the network they were at work."""
    try:
        with enough_memory():
            yield
    except ProcessError:  # was somewhere else
        raise
    except SubbyteError as error:
        raise type(error)(f"{where}: {error}") from error
