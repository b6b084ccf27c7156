"""Slow plain references of the training loop: courses from their descriptions, images pixel by
pixel, weights number by number in Python's floats, SGD without torch's optimizers.
"""

from collections.abc import Iterable
from itertools import pairwise
from math import cos, floor, pi, sqrt

import torch
from torch import Tensor, nn

CYCLES = (0, 10, 30, 70, 150, 310)  # ends of cosine cycles of 10, 20, 40, 80, 160 epochs


def course(name: str, epoch: float, epochs: float) -> float:
    """The factor on the learning rate, without a warm-up."""
    share = epoch / epochs
    if name == "constant":
        return 1.0
    if name == "cosine":
        return cos(pi / 2 * share) ** 2
    if name == "restarts":
        start, end = next((a, b) for a, b in pairwise(CYCLES) if a <= epoch < b)
        return 0.1 + 0.9 * cos(pi / 2 * (epoch - start) / (end - start)) ** 2
    if name == "step":
        return [1.0, 1.0, 0.1, 0.01, 0.01][floor(4 * share)]
    if name == "quarters":
        return [1.0, 0.381924, 0.145865941776, 0.05570970394725542, 0.05570970394725542][
            floor(4 * share)
        ]
    if name == "linear":
        return (epochs - epoch) / epochs
    if name == "exp":
        return float(19 / 20) ** epoch
    assert name == "cyclic"
    away = abs(epoch - 4 * round(epoch / 4))  # from the nearest trough, 0 to 2 epochs
    return 0.1 + 0.45 * away


def shifted(image: Tensor, down: float, right: float) -> Tensor:
    """An image [C, H, W] moved as two uniform numbers say, pixel by pixel."""
    channels, high, wide = image.shape
    reach = [max(1, high // 8), max(1, wide // 8)]
    by = [floor(number * (2 * r + 1)) - r for number, r in zip((down, right), reach, strict=True)]
    moved = torch.zeros_like(image)
    for c in range(channels):
        for y in range(high):
            for x in range(wide):
                if 0 <= y + by[0] < high and 0 <= x + by[1] < wide:
                    moved[c, y, x] = image[c, y + by[0], x + by[1]]
    return moved


def mirrored(image: Tensor) -> Tensor:
    """An image [C, H, W] from right to left, column by column."""
    return torch.stack([image[:, :, -1 - x] for x in range(image.shape[2])], 2)


def crop_of(draws: list[float]) -> tuple[float, float, float, float]:
    """Top, left, height, width of the part that 5 uniform numbers choose, in shares of the image's
    sides.
    """
    area, shape = 0.08 + 0.92 * draws[3], 0.75 * (16 / 9) ** draws[4]
    wide, high = min(1.0, sqrt(area * shape)), min(1.0, sqrt(area / shape))
    return draws[1] * (1 - high), draws[0] * (1 - wide), high, wide


def resized(image: Tensor, draws: list[float]) -> Tensor:
    """An image [C, H, W] cropped and brought back to its size by two-way linear interpolation;
    float64.
    """
    channels, high, wide = image.shape
    top, left, tall, broad = crop_of(draws)
    found = torch.zeros(channels, high, wide, dtype=torch.float64)
    for y in range(high):
        for x in range(wide):
            row = (top + tall * (y + 0.5) / high) * high - 0.5
            column = (left + broad * (x + 0.5) / wide) * wide - 0.5
            found[:, y, x] = _between(image.double(), row, column)
    return mirrored(found) if draws[2] < 0.5 else found


def _between(image: Tensor, row: float, column: float) -> Tensor:
    high, wide = image.shape[1:]
    # beyond an edge lies its mirror image
    rows = [min(max(k, 0), high - 1) for k in (floor(row), floor(row) + 1)]
    columns = [min(max(k, 0), wide - 1) for k in (floor(column), floor(column) + 1)]
    y, x = row - floor(row), column - floor(column)
    upper = (1 - x) * image[:, rows[0], columns[0]] + x * image[:, rows[0], columns[1]]
    lower = (1 - x) * image[:, rows[1], columns[0]] + x * image[:, rows[1], columns[1]]
    return (1 - y) * upper + y * lower


def rounded(
    weights: list[float], scale: float, qmin: int, qmax: int, gradients: list[float], share: int
) -> tuple[list[float], list[float], float]:
    """Weights rounded on one scale; the gradients of the weights and, by LSQ's equation 3, of the
    scale.

    share: weights that have this scale.
    """
    values, back, of_scale = [], [], 0.0
    for weight, gradient in zip(weights, gradients, strict=True):
        v = weight / scale
        code = min(max(round(v), qmin), qmax)
        inside = qmin <= v <= qmax
        values.append(code * scale)
        back.append(gradient if inside else 0.0)
        of_scale += gradient * (code - v if inside else code)
    return values, back, of_scale / sqrt(share * qmax)


def sgd_run(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    rates: list[float],
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    smoothing: float = 0.0,
) -> list[tuple[float, float]]:
    """Train a network in place, in its own precision; the loss and the share of right answers of
    every step.
    """
    found, speed = [], {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    model.train()
    for (images, labels), rate in zip(batches, rates, strict=True):
        logits = model(images.to(next(model.parameters()).dtype))
        chances = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
        targets = torch.full_like(chances, smoothing / chances.shape[1])
        for k, label in enumerate(labels.tolist()):
            targets[k, label] += 1 - smoothing
        loss = -(targets * torch.log(chances)).sum() / len(labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        right = sum(
            int(row.argmax()) == label for row, label in zip(logits, labels.tolist(), strict=True)
        )
        found.append((float(loss.detach()), right / len(labels)))
        with torch.no_grad():
            for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
                gradient = gradient + weight_decay * p
                speed[name] = momentum * speed[name] + gradient
                p -= rate * (gradient + momentum * speed[name] if nesterov else speed[name])
    return found
