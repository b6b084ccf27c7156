"""The central verb: a float network and a few images in, a low-bit network out.

    capture -> plan (-> budget) -> walk (-> tune) -> assemble

The library call, the command line and sweeps all go through `carry_out`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from subbyte import recipe as recipes
from subbyte.engine.budget import meet_budget
from subbyte.engine.calibration import ForwardFn, Source, collect
from subbyte.engine.learning import Lesson, learn
from subbyte.engine.limits import Limits, check_same_plan, check_shareable
from subbyte.engine.quantized import Findings, QuantizedModel
from subbyte.engine.sensitivity import Option
from subbyte.engine.stages import Report, Stages, silent
from subbyte.engine.walk import CLASSES, Progress, WalkResult, measured, walk
from subbyte.errors import RecipeError
from subbyte.graph import Axis, Network, Samples, prepare, unwrapped
from subbyte.io.checkpoints import NOWHERE, Kept
from subbyte.io.repeatable import threads_for
from subbyte.methods import Task, TuneNetwork, counted
from subbyte.recipe import Plan, Recipe, for_target, load_request, make_plan
from subbyte.records import Trials
from subbyte.tasks import row_agreement
from subbyte.tuning import TUNES


@dataclass(frozen=True, eq=False)
class Quantization:
    """The outcome of quantizing a network.

    network: the float one, as captured; options: what there was to choose from where widths were
    shared out under a budget; model: the quantized network, which holds its plan; lessons: what it
    has learned from the float one, as a whole; trials: what was tried where it was searched for.
    """

    network: Network
    options: list[Option]
    model: QuantizedModel
    lessons: tuple[Lesson, ...] = ()
    trials: Trials | None = None


def quantize(
    model: nn.Module,
    images: Source,
    recipe: recipes.Source | Plan = "w8a8",
    *,
    target: str | None = None,
    forward_fn: ForwardFn | None = None,
    dynamic: Collection[str] = (),
    labels: Tensor | None = None,
    task: Task = CLASSES,
    limits: Limits | None = None,
    progress: Report = silent,
) -> QuantizedModel:
    """Quantize a trained network with a few unlabelled images.

    model: any module that torch.export can capture, or an exported program; it is left as it is.
    images: calibration samples as the network takes them: a tensor or array [n, ...], `Inputs` for
    a network of several arguments, a data set, or batches (see `calibration.collect`).
    forward_fn: called as forward_fn(model, batch) where batches need more than that.
    dynamic: height, width, or both, of images [n, channels, height, width]: the sizes that may
    differ from call to call, in the network's file and in exported ones, too. Multiplications are
    those of the calibration images' size.
    recipe: a preset (w8a8, w4a8, w4a4, w4, w3, w2, ternary, best, gpfq, ldnq), a YAML file, a
    mapping, a Recipe, or a Plan (also the path of a plan.yaml), which is done as it is.
    target: what the network is for (`recipe.target`): its rules are obeyed, or refused before the
    walk.
    labels: int64 [n], or other targets of `task`; only a recipe whose tuning ends with them needs
    any.
    limits: resources of the walk, and the processes that share it. With
    `Limits(processes=subbyte.processes())` all processes of torch's group call this, each with all
    images, and get the same network; on GPUs each names its own, and sets it as torch's current
    device.
    progress: called with the stage, steps done, steps in all, and what is being worked on; of
    several processes by the first.
    Raises SubbyteError (see `errors`) when model, images or recipe do not fit.
    """
    model, limits = unwrapped(model), limits or Limits()
    calibration = collect(images, model, forward_fn).with_dynamic(Axis.read(dynamic))
    return carry_out(
        lambda: prepare(model, calibration),
        for_target(load_request(recipe), target),
        calibration,
        labels=lambda: labels,
        task=lambda: task,
        limits=limits,
        stages=Stages(progress if limits.processes.first else silent),
    ).model


def tune(
    quantized: QuantizedModel,
    model: nn.Module,
    images: Source,
    method: str | Mapping[str, Any] | TuneNetwork = "distill",
    *,
    forward_fn: ForwardFn | None = None,
    task: Task = CLASSES,
    device: str = "cpu",
    progress: Report = silent,
) -> QuantizedModel:
    """Let a quantized network learn from the float one that it was made from, without labels.

    images: to learn from, as for `quantize`: those of calibration, and more where there are any;
    method: a name of `tune.TUNES`, a mapping with settings such as {"name": "distill", "steps":
    500} or {"name": "distill", "seconds": 300}, or an object; task: by which outputs are compared.
    Returns the best network on samples that are kept apart, the given one among them; Ctrl-C ends
    it with the best so far.
    Raises RecipeError for a method that learns during the walk, DataError where there are too few
    images, NumericsError where a loss is NaN or Inf.
    """
    chosen = TUNES.build(method)
    if not isinstance(chosen, TuneNetwork):
        raise RecipeError(f"tune: {TUNES.name(chosen)} learns during the walk; put it in a recipe")
    model = unwrapped(model)
    samples = collect(images, model, forward_fn)
    start = Quantization(prepare(model, samples), [], quantized)
    limits, stages = Limits(device=device), Stages(progress)
    return taught(start, chosen, samples, task, limits, stages).model


def carry_out(
    capture: Callable[[], Network],
    wanted: Recipe | Plan,
    images: Tensor | Samples,
    *,
    labels: Callable[[], Tensor | None] = lambda: None,
    settle: Callable[[Plan], Plan] = lambda plan: plan,
    accept: Callable[[Plan], object] = lambda plan: None,
    task: Callable[[], Task] = lambda: CLASSES,
    limits: Limits | None = None,
    stages: Stages | None = None,
    keep: Kept = NOWHERE,
) -> Quantization:
    """Go through the stages capture, plan and walk, and tune where the plan says so.

    capture: gives the graph of the float network, which is left as it is; images: of calibration,
        float32 [n, ...], or samples; labels: theirs, int64 [n] or as the task has them, asked for
        by a plan whose tuning ends with them only, as the task is; settle: gives the plan that is
        done in place of the recipe's; accept: is shown it before the walk, and raises where it
        can't be used; stages: told of each. Processes that share the work (`Limits`) end it
        together, well or not.
    """
    limits, stages = limits or Limits(), stages or Stages()
    with limits.processes.failing_together(), threads_for(len(Samples.of(images))):
        with stages.stage("capture"):
            network = capture()
            check_shareable(network, wanted, Samples.of(images), limits)
        with stages.stage("plan") as progress:
            plan, options = decide(network, wanted, images, limits, progress)
            plan = settle(plan)
            check_same_plan(plan, limits.processes)
            accept(plan)
        with stages.stage("walk") as progress:
            given = labels() if plan.needs_labels else None
            judge = CLASSES if given is None else task()
            walked = walk(
                network, plan, images, labels=given, task=judge, limits=limits, progress=progress
            )
            model = assemble(network, plan, walked)
        if isinstance(plan.tune, TuneNetwork):
            walked_to = Quantization(network, options, model)
            return taught(walked_to, plan.tune, images, task(), limits, stages, keep)
    return Quantization(network, options, model)


def taught(
    start: Quantization,
    method: TuneNetwork,
    images: Tensor | Samples,
    task: Task,
    limits: Limits,
    stages: Stages,
    keep: Kept = NOWHERE,
) -> Quantization:
    """A quantized network that has learned from the float one on the calibration images.

    keep: where learning that was stopped is gone on from.
    """
    samples, network = Samples.of(images), start.network
    with stages.stage("tune") as report:
        lesson = learn(
            network,
            start.model,
            method,
            samples,
            task=task,
            device=limits.device,
            keep=keep,
            processes=limits.processes,
            report=report,
        )
        measured(network, lesson.model, samples, limits)
    return replace(start, model=lesson.model, lessons=(*start.lessons, lesson))


def decide(
    network: Network,
    wanted: Recipe | Plan,
    images: Tensor | Samples,
    limits: Limits,
    progress: Progress,
) -> tuple[Plan, list[Option]]:
    """The plan, and what there was to choose from if widths are shared out under a budget.

    images: of calibration, [n, ...]; read only for a budget.
    """
    if isinstance(wanted, Plan) or wanted.budget is None:
        return _with_threads(make_plan(network, wanted)), []
    plan, options = meet_budget(network, wanted, images, limits=limits, progress=progress)
    return _with_threads(plan), options


def _with_threads(plan: Plan) -> Plan:
    """A plan that says how many threads it learns with, where it learns."""
    return plan if plan.tune is None else replace(plan, tune=counted(plan.tune))


def assemble(network: Network, plan: Plan, result: WalkResult) -> QuantizedModel:
    """The quantized network that a walk decided on."""
    findings = Findings(result.sqnr_db, row_agreement(result.outputs), network.fold_error)
    return QuantizedModel.of(network, plan, result.weights, result.biases, result.grids, findings)
