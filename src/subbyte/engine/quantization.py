"""The central verb: a float network and a few images in, a low-bit network out.

    capture -> plan (-> budget) -> walk (-> tune) -> assemble

The library call, the command line and sweeps all go through `carry_out`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subbyte.engine.budget import meet_budget
from subbyte.engine.quantized import Findings, QuantizedModel
from subbyte.engine.sensitivity import Option
from subbyte.engine.stages import Report, Stages, silent
from subbyte.engine.walk import Limits, Progress, WalkResult, walk
from subbyte.errors import DataError
from subbyte.graph import Network, prepare
from subbyte.recipe import Plan, Recipe, Source, load_request, make_plan
from subbyte.tasks import agreement


@dataclass(frozen=True, eq=False)
class Quantization:
    """The outcome of quantizing a network.

    network: the float one, as captured; options: what there was to choose from where widths were
    shared out under a budget; model: the quantized network, which holds its plan.
    """

    network: Network
    options: list[Option]
    model: QuantizedModel


def quantize(
    model: nn.Module,
    images: Tensor | Iterable[Any],
    recipe: Source | Plan = "w8a8",
    *,
    labels: Tensor | None = None,
    limits: Limits | None = None,
    progress: Report = silent,
) -> QuantizedModel:
    """Quantize a trained network with a few unlabelled images.

    model: any module that maps one tensor [batch, ...] to one tensor; it is left as it is. images:
    calibration images [n, ...] as the network takes them, or batches of them (of a batch that is a
    tuple the first item counts).
    recipe: a preset (w8a8, w4a8, w4a4, w4, w3, w2, ternary, gpfq, ldnq), a YAML file, a mapping,
    a Recipe, or a Plan (also the path of a plan.yaml), which is done as it is.
    labels: int64 [n]; only a recipe whose tuning ends with them needs any.
    progress: called with the stage, steps done, steps in all, and what is being worked on.
    Raises SubbyteError (see `errors`) when model, images or recipe do not fit.
    """
    calibration = collect(images)
    return carry_out(
        lambda: prepare(model, calibration[:2]),
        load_request(recipe),
        calibration,
        labels=lambda: labels,
        limits=limits,
        stages=Stages(progress),
    ).model


def carry_out(
    capture: Callable[[], Network],
    wanted: Recipe | Plan,
    images: Tensor,
    *,
    labels: Callable[[], Tensor | None] = lambda: None,
    accept: Callable[[Plan], object] = lambda plan: None,
    limits: Limits | None = None,
    stages: Stages | None = None,
) -> Quantization:
    """Go through the stages capture, plan and walk.

    capture: gives the graph of the float network, which is left as it is; images: of calibration,
        float32 [n, ...]; labels: theirs, int64 [n], asked for by a plan whose tuning ends with them
        only; accept: is shown the plan before the walk, and raises where it can't be used; stages:
        told of each.
    """
    limits, stages = limits or Limits(), stages or Stages()
    with stages.stage("capture"):
        network = capture()
    with stages.stage("plan") as progress:
        plan, options = decide(network, wanted, images, limits, progress)
        accept(plan)
    with stages.stage("walk") as progress:
        given = labels() if plan.needs_labels else None
        walked = walk(network, plan, images, labels=given, limits=limits, progress=progress)
        model = assemble(network, plan, walked)
    return Quantization(network, options, model)


def decide(
    network: Network, wanted: Recipe | Plan, images: Tensor, limits: Limits, progress: Progress
) -> tuple[Plan, list[Option]]:
    """The plan, and what there was to choose from if widths are shared out under a budget.

    images: of calibration, [n, ...]; read only for a budget.
    """
    if isinstance(wanted, Plan) or wanted.budget is None:
        return make_plan(network, wanted), []
    return meet_budget(network, wanted, images, limits=limits, progress=progress)


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
