"""The central verb: a float network and a few images in, a low-bit network out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from subbyte.engine.budget import meet_budget
from subbyte.engine.quantized import Findings, QuantizedModel
from subbyte.engine.sensitivity import Option
from subbyte.engine.walk import Limits, Progress, WalkResult, walk
from subbyte.errors import DataError
from subbyte.graph import Network, prepare
from subbyte.recipe import Plan, Recipe, load_recipe, make_plan
from subbyte.tasks import agreement


def quantize(
    model: nn.Module,
    images: Tensor | Iterable[Any],
    recipe: str | Path | Recipe = "w8a8",
    *,
    labels: Tensor | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a trained network with a few unlabelled images.

    model: any module that maps one tensor [batch, ...] to one tensor; it is left as it is. images:
    calibration images [n, ...] as the network takes them, or batches of them (of a batch that is a
    tuple the first item counts).
    recipe: a preset (w8a8, w4a8, w4a4, w4, w3, w2, ternary, gpfq, ldnq), a YAML file, or a Recipe.
    labels: int64 [n]; only a recipe whose tuning ends with them needs any.
    Raises SubbyteError (see `errors`) when model, images or recipe do not fit.
    """
    calibration = collect(images)
    network = prepare(model, calibration[:2])
    plan, _ = decide(network, load_recipe(recipe), calibration, limits, progress)
    return assemble(
        network,
        plan,
        walk(network, plan, calibration, labels=labels, limits=limits, progress=progress),
    )


def decide(
    network: Network,
    recipe: Recipe,
    images: Tensor,
    limits: Limits | None,
    progress: Progress | None,
) -> tuple[Plan, list[Option]]:
    """The plan, and what there was to choose from if widths are shared out under a budget.

    images: of calibration, [n, ...]; read only for a budget.
    """
    if recipe.budget is None:
        return make_plan(network, recipe), []
    return meet_budget(network, recipe, images, limits=limits, progress=progress)


def collect(images: Tensor | Iterable[Any]) -> Tensor:
    """Calibration images as one float32 tensor [n, ...]. Raises DataError when there are none."""
    if not isinstance(images, Tensor):
        if not isinstance(images, Iterable):
            raise DataError(
                f"calibration images must be a tensor or batches of them, got "
                f"{type(images).__name__}"
            )
        parts = [batch[0] if isinstance(batch, tuple | list) else batch for batch in images]
        if not parts:
            raise DataError(
                "no calibration images: the iterable is empty (a generator that was read before?)"
            )
        for number, part in enumerate(parts):
            if not isinstance(part, Tensor) or part.shape[1:] != parts[0].shape[1:]:
                got = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
                raise DataError(
                    f"calibration batch {number} is {got}; every batch must be a tensor [n, ...] "
                    f"of the same shape, "
                    "or a tuple that begins with one"
                )
        images = torch.cat(parts)
    if images.ndim < 2 or images.shape[0] < 1:
        raise DataError(
            f"calibration images must be [n, ...] with n >= 1, got {tuple(images.shape)}"
        )
    return images.detach().to("cpu", torch.float32)


def assemble(network: Network, plan: Plan, result: WalkResult) -> QuantizedModel:
    """The quantized network that a walk decided on."""
    assert result.logits is not None
    agree = agreement(result.logits[0].flatten(1), result.logits[1].flatten(1))
    findings = Findings(result.sqnr_db, agree, network.fold_error)
    return QuantizedModel(network, plan, result.weights, result.biases, result.grids, findings)
