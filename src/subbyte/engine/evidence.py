"""Evidence for a page about a quantized network that its ledger does not hold: how values lie on
their grids, which class was taken for which, and the images whose class changed.

Weights are looked at on the axis of their codes, x / scale + zero_point, where channels of unlike
scales have their levels in common. Activations are those of the float network on a few calibration
images, seen as they pass, one activation quantizer at a time. Cost: one pass of the float network
over 16 to 128 images, and a few passes over the weights.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, floor
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from subbyte.core import Grid, QTensor
from subbyte.engine.quantized import QuantizedModel
from subbyte.graph import Network, Samples, instrument, tensor_at
from subbyte.records.figures import Cell, Changed, Distribution, Evidence, Predictions

_BINS = 80
_VALUES = 2**18  # of the network's input, on which activations are looked at
_FEWEST, _MOST = 16, 128  # images, whatever their size
_SHOWN = 24  # images whose class changed
_PIXELS = 64  # of a picture's longer side
_CELLS = 2500  # of a confusion matrix


@dataclass(frozen=True, eq=False)
class Named:
    """The outputs of the float and the quantized network on the same images.

    float, quantized: logits [n, classes]; labels: int64 [n]; classes: their names; read: images
    float32 [b, ...] of a list of indices below n.
    """

    float: Tensor
    quantized: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[list[int]], Tensor | Samples]


def gather(
    network: Network,
    model: QuantizedModel,
    images: Tensor | Samples,
    named: Named | None,
    device: str = "cpu",
) -> Evidence:
    """All of it. images: of calibration, [n, ...]; network: the float one that `model` was made
    from; named: None where outputs name no classes that labels tell of.
    """
    samples = Samples.of(images)
    some = samples[: min(_MOST, max(_FEWEST, _VALUES // samples.size))]
    return Evidence(
        images=len(some),
        layers=weight_distributions(network, model),
        activations=activation_distributions(network, model, some.to(device)),
        predictions=None if named is None else predictions(named, images),
    )


def weight_distributions(network: Network, model: QuantizedModel) -> dict[str, Distribution]:
    """The distribution of every layer's weights on their grid, by name of the layer that owns them;
    batch-norms are folded into the float weights.
    """
    found = {}
    for layer in network.owners:
        weight = (
            layer.geometry.to_matrix(tensor_at(network.graph_module, layer.weight))
            .detach()
            .cpu()
            .float()
        )
        rounded = model.weights.get(layer.name)
        found[layer.name] = distribution(weight, None if rounded is None else rounded.grid, rounded)
    return found


@torch.no_grad()
def activation_distributions(
    network: Network, model: QuantizedModel, samples: Samples
) -> dict[str, Distribution]:
    """The distributions of the float network's values at every activation quantizer, by name."""
    found: dict[str, Distribution] = {}
    if not model.plan.taps:
        return found
    passing = instrument(network, [tap.place for tap in model.plan.taps])
    passing.graph_module.to(samples.device)

    def look(
        name: str, axis: int | None, grid: Grid | None, module: nn.Module, given: tuple[Any, ...]
    ) -> None:
        value = given[0].float()
        rows = value.reshape(1, -1) if axis is None else value.movedim(axis, 0).flatten(1)
        found[name] = distribution(rows, None if grid is None else grid.to(rows.device))

    for tap in model.plan.taps:
        grid = model.instrumented.tap(tap.name).grid
        passing.tap(tap.name).register_forward_pre_hook(
            partial(look, tap.name, tap.place.axis, grid)
        )
    call = samples.call
    passing.graph_module(*call.args, **call.kwargs)
    return {tap.name: found[tap.name] for tap in model.plan.taps}


def distribution(x: Tensor, grid: Grid | None, rounded: QTensor | None = None) -> Distribution:
    """The distribution of values x [rows, columns] on a grid, and of their rounding beside it."""
    values = _pair(x)
    if grid is None:
        start, width = values[0], (values[1] - values[0]) / _BINS or 1.0
        counts, below, above = _histogram(x, start, width, _BINS)
        return Distribution(
            unit="values",
            start=start,
            width=width,
            counts=counts,
            below=below,
            above=above,
            values=values,
        )
    alphabet = grid.spec.alphabet
    levels = [_short(level) for level in alphabet.shared_levels(grid.own)]
    # codes of channels with unlike zero points lie on one axis, if all have the same codes
    shift = grid.spread(grid.zero_point, x.shape[-1]) * bool(levels)
    t = x / grid.spread(grid.scale, x.shape[-1]) + shift
    start, width, bins = _bins(levels, _pair(t))
    counts, below, above = _histogram(t, start, width, bins)
    taken: list[int] = []
    of_bins: list[int] = []
    if rounded is not None and levels:
        taken = torch.bincount(
            rounded.codes.reshape(-1).long() - alphabet.qmin, minlength=len(levels)
        ).tolist()
    elif rounded is not None:
        of_bins = _histogram(grid.units(rounded.codes), start, width, bins)[0]
    return Distribution(
        unit="codes" if alphabet.even and levels else "steps",
        start=start,
        width=width,
        counts=counts,
        below=below,
        above=above,
        levels=levels,
        taken=taken,
        rounded=of_bins,
        clipped_percent=_short(100 * _clipped(t, grid, shift)),
        values=values,
        reach=_reach(grid),
        scales=_quantiles(grid.scale),
        zero_points=(int(grid.zero_point.min()), int(grid.zero_point.max()))
        if alphabet.has_zero_point
        else None,
    )


def _bins(levels: list[float], ends: tuple[float, float]) -> tuple[float, float, int]:
    """Start, width and number of bins: a whole number of them to a step, or of steps to one of
    them.

    They reach as far as the values do, but not further beyond a grid than it is long.
    """
    if not levels:
        return ends[0], (ends[1] - ends[0]) / _BINS or 1.0, _BINS
    count, step = len(levels), (levels[-1] - levels[0]) / (len(levels) - 1)
    before = min(count, max(1, ceil((levels[0] - ends[0]) / step)))
    after = min(count, max(1, ceil((ends[1] - levels[-1]) / step)))
    start, total = levels[0] - (before + 0.5) * step, before + count + after
    if total > _BINS:
        steps = ceil(total / _BINS)
        return start, steps * step, ceil(total / steps)
    parts = _BINS // total
    parts -= parts > 1 and parts % 2 == 0  # odd: levels lie in the middle of a bin
    return start, step / parts, total * parts


def _histogram(t: Tensor, start: float, width: float, bins: int) -> tuple[list[int], int, int]:
    """Counts by bin, and how many lie below and above all of them; the last bin holds its upper
    end.
    """
    place = ((t.reshape(-1) - start) / width).floor_()
    place[place == bins] = bins - 1
    below, above = int((place < 0).sum()), int((place > bins - 1).sum())
    inside = place[(place >= 0) & (place < bins)].long()
    return torch.bincount(inside, minlength=bins).tolist(), below, above


def _clipped(t: Tensor, grid: Grid, shift: Tensor) -> float:
    """Share of values more than half a step beyond the outermost level of their row."""
    ladder = grid.ladder(t.shape[-1])
    (low, high), (below, above) = ladder.ends, ladder.margins
    return float(((t < low + shift - below) | (t > high + shift + above)).double().mean())


def _reach(grid: Grid) -> tuple[float, float]:
    """Smallest and largest number on the grid."""
    low, high = grid.reach
    return _short(float(low.min())), _short(float(high.max()))


def _quantiles(scale: Tensor) -> tuple[float, float, float, float, float]:
    found = torch.tensor(np.quantile(scale.double().cpu().numpy(), [0, 0.1, 0.5, 0.9, 1])).tolist()
    return tuple(map(_short, found))  # type: ignore[return-value]


def _pair(x: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(x)
    return float(low), float(high)


def _short(number: float) -> float:
    return float(f"{number:.6g}")


def predictions(named: Named, images: Tensor | Samples) -> Predictions:
    """Who was taken for whom. images: of calibration; their brightest and darkest values say what a
    pixel is.
    """
    before, after, labels = named.float.argmax(1), named.quantized.argmax(1), named.labels
    right, still = before == labels, after == labels
    changed = (before != after).nonzero().flatten()
    several = len(changed) > _SHOWN
    shown = (
        changed[(torch.arange(_SHOWN) * len(changed)) // _SHOWN].tolist()
        if several
        else changed.tolist()
    )
    # a network may know classes that the data do not
    more = range(len(named.classes), named.float.shape[1])
    classes = [*named.classes, *(f"class {k}" for k in more)]
    return Predictions(
        classes=classes,
        labels=torch.bincount(labels, minlength=len(classes)).tolist(),
        float_cells=confusion(labels, before),
        quantized_cells=confusion(labels, after),
        lost=int((right & ~still).sum()),
        gained=int((still & ~right).sum()),
        moved=int((~right & ~still & (before != after)).sum()),
        changed=_changed(named, shown, images),
    )


def confusion(labels: Tensor, given: Tensor) -> list[Cell]:
    """Cells that are not 0, by label and class; of too many, those on the diagonal and the most
    frequent others.
    """
    classes = int(max(labels.max(), given.max())) + 1
    counts = torch.bincount(labels * classes + given)
    cells = [
        (k // classes, k % classes, int(counts[k])) for k in counts.nonzero().flatten().tolist()
    ]
    kept = sorted(cells, key=lambda cell: (cell[0] != cell[1], -cell[2], cell))[:_CELLS]
    return sorted(kept)


def _changed(named: Named, shown: list[int], images: Tensor | Samples) -> list[Changed]:
    if not shown:
        return []
    sure = [
        (100 * logits[shown].double().softmax(1)).amax(1).tolist()
        for logits in (named.float, named.quantized)
    ]
    classes = [logits[shown].argmax(1).tolist() for logits in (named.float, named.quantized)]
    pictures = thumbnails(named.read(shown), images)
    return [
        Changed(
            index=index,
            label=int(named.labels[index]),
            float_class=classes[0][k],
            quantized_class=classes[1][k],
            float_sure=round(sure[0][k], 2),
            quantized_sure=round(sure[1][k], 2),
            picture=pictures[k],
        )
        for k, index in enumerate(shown)
    ]


def thumbnails(chosen: Tensor | Samples, images: Tensor | Samples) -> list[str]:
    """PNG pictures as data URIs; empty ones for what is no image of 1 or 3 channels.

    A channel's smallest value over all `images` is black and its largest is full, which undoes any
    normalization.
    """
    if not isinstance(chosen, Tensor) or not isinstance(images, Tensor):
        return [""] * len(chosen)
    if chosen.ndim != 4 or chosen.shape[1] not in (1, 3):
        return [""] * len(chosen)
    low = images.amin((0, 2, 3))[:, None, None]
    high = images.amax((0, 2, 3))[:, None, None]
    pixels = (255 * (chosen - low) / (high - low).clamp_min(1e-12)).round().clamp(0, 255).byte()
    return [_png(image) for image in pixels.movedim(1, -1).numpy()]


def _png(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = _PIXELS / max(image.size)
    if factor < 1:
        size = (max(1, floor(image.width * factor)), max(1, floor(image.height * factor)))
        image = image.resize(size, Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
