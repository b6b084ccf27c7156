"""One run of a sweep: quantize, and measure on the images that the space says.

What several runs need is done once: network and data stay in the process that has read them, and
how their targets are judged; what depends on the float network and the images alone is kept on
disk, in a `Cache`: the captured graph, logits of the float network, second moments of its layers'
inputs, gradients, and what each width of each layer costs under a budget, whatever the budget.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subbyte.analyses.sweeps.space import Measured, Run
from subbyte.data import DataSet, Split, draw_samples, draw_targets, load_data
from subbyte.engine.evaluation import Accuracy, Evaluation, evaluate
from subbyte.engine.judging import as_scores, forward_of, judge, settle_task
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import carry_out
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.stages import Stages
from subbyte.errors import DataError, RecipeError
from subbyte.exporters.packed import save
from subbyte.graph import Network, Samples, prepare
from subbyte.io.cache import Cache
from subbyte.io.settings import fingerprint
from subbyte.io.user_file import split_spec
from subbyte.methods import Task
from subbyte.models import load_model
from subbyte.recipe import Recipe
from subbyte.records import Score
from subbyte.records.outcome import Done
from subbyte.tasks import AGREEMENT, RELATIVE_ERROR, Classification, agreement, read_tasks

_PIXELS = 16
_FLOAT, _QUANTIZED = "float", "quantized"
# of the order in which validation images are taken, whatever the seed of a run
_VALIDATION_SEED = 7919


@dataclass(frozen=True)
class Inputs:
    """A float network and its data; inputs of one identity are equal.

    judged: the task and the batch of runs before, by the task's text and the images measured on.
    """

    identity: str
    model: nn.Module = field(compare=False)
    data: DataSet = field(compare=False)
    judged: dict[Hashable, tuple[Task, int]] = field(default_factory=dict, compare=False)


@lru_cache(maxsize=2)
def load_inputs(
    model: str,
    checkpoint: str | None,
    data: str,
    normalize: str | None,
    resize: int | None,
    crop: int | None,
    interpolation: str | None = None,
) -> Inputs:
    """Network and data of `Run.inputs`; those of the last two stay in memory."""
    images = load_data(data, normalize, resize, crop, interpolation)
    network = load_model(model, checkpoint, shape=images.image_shape)
    pixels = f"{normalize} {resize} {crop} {interpolation} {images.fingerprint}"
    return Inputs(
        sha256(f"{_code(model)} {fingerprint(network)} {pixels}".encode()).hexdigest(),
        network,
        images,
    )


def _code(model: str) -> str:
    """The text that tells how a network computes: its name, or, for a user's file, the hash of its
    content and the name in it.
    """
    user = split_spec(model)
    return model if user is None else f"{sha256(user[0].read_bytes()).hexdigest()} {user[1]}"


@lru_cache(maxsize=2)
def captured(inputs: Inputs, cache: Cache) -> Network:
    """The graph of the float network, which runs read and do not change."""
    few = inputs.data.test.samples(range(min(2, len(inputs.data.test))))
    return prepare(inputs.model, few, cache)


def measured_split(data: DataSet, run: Run) -> Split:
    """The images that a run is measured on: test images, or training images that do not calibrate.

    These are taken in one order for all runs, so that only those replaced differ that calibrate one
    of them.
    Raises DataError where there are too few training images.
    """
    if run.split is Measured.TEST:
        return draw_samples(data, run.calibration, run.seed)[1]
    if data.train is None:
        raise DataError(
            f"{data.name} has no training images to measure on; write `measure: test` into the "
            f"space"
        )
    calibrate = np.random.RandomState(run.seed).permutation(len(data.train))[: run.calibration]
    order = np.random.RandomState(_VALIDATION_SEED).permutation(len(data.train))
    rest = order[~np.isin(order, calibrate)]
    if len(rest) < run.validation:
        raise DataError(
            f"{data.name}: of its {len(data.train)} training images {run.calibration} calibrate, "
            f"which leaves too few "
            f"for validation: {run.validation}"
        )
    return replace(data.train.take(rest[: run.validation]), name="validation")


def settled(inputs: Inputs, run: Run, split: Split) -> tuple[Task, int]:
    """The task by which a run is judged on its split, and the batch: see `settle_task`.

    Targets are read and checked once for all runs that are measured on the same images.
    """
    drawn = () if split is inputs.data.test else (run.calibration, run.seed, run.validation)
    key = (run.task, run.split, drawn)
    if key not in inputs.judged:
        forward = forward_of(inputs.model)
        inputs.judged[key] = settle_task(read_tasks(run.task), forward, split)
    return inputs.judged[key]


def _with_one_thread(recipe: Recipe) -> Recipe:
    """A recipe that learns, if it does, with one thread: how many a worker has depends on the
    number of workers, and what it learns on them.
    """
    tune = recipe.tune
    if tune is None or tune.learns_with:
        return recipe
    alone: Recipe = recipe.model_copy(update={"tune": tune.with_threads(1)})
    return alone


def execute(run: Run, inputs: Inputs, folder: Path | None, packed: Path | None = None) -> Done:
    """Do a run. folder: of the cache; packed: the file that its network is kept in, None where it
    is not.

    Raises SubbyteError when anything does not fit.
    """
    data, stages = inputs.data, Stages()
    images, _ = draw_samples(data, run.calibration, run.seed)
    split = measured_split(data, run)
    task, batch = settled(inputs, run, split)
    cache = Cache(folder).of(inputs.identity, version("subbyte"), torch.__version__)
    limits = Limits(cache=cache.of(sha256(_bytes(images)).hexdigest()))
    quantized = carry_out(
        lambda: captured(inputs, cache),
        _with_one_thread(run.recipe),
        images,
        labels=lambda: draw_targets(data, run.calibration, run.seed),
        task=lambda: task,
        limits=limits,
        stages=stages,
    ).model
    with stages.stage("evaluate"):
        scores = _scores(inputs, quantized, split, task, batch, cache)
    if packed is not None:
        save(quantized, packed, _about(run, data))
    weights = torch.cat([p.detach().flatten() for p in inputs.model.parameters() if p.ndim > 1])
    return Done(
        images=len(split),
        **scores,
        original_sparsity_percent=round(100 * float((weights == 0).double().mean()), 4),
        quantized_sparsity_percent=round(quantized.zeros, 4),
        bits_per_weight=round(quantized.bits_per_weight, 6),
        packed_bytes=quantized.packed_bytes,
        capture_seconds=stages.seconds["capture"],
        walk_seconds=round(stages.seconds["plan"] + stages.seconds["walk"], 3),
        evaluate_seconds=stages.seconds["evaluate"],
    )


def _about(run: Run, data: DataSet) -> dict[str, object]:
    """The origin that a packed file states, as one of `subbyte quantize` does."""
    return {
        "model": run.model,
        "data": data.name,
        "seed": run.seed,
        "calibration": run.calibration,
        "weights": Path(run.checkpoint or "").name,
        "data_spec": run.data.partition(":")[0],
        "normalize": run.normalize or "",
        "resize": str(run.resize or ""),
        "crop": str(run.crop or ""),
        "interpolation": run.interpolation or "",
    }


def _scores(
    inputs: Inputs,
    quantized: QuantizedModel,
    split: Split,
    task: Task,
    batch: int,
    cache: Cache,
) -> Mapping[str, Any]:
    """The scores of a run as `Done` names them. batch: samples at a time."""
    forward = forward_of(inputs.model)
    if isinstance(task, Classification) and split.has_labels:
        before, after = float_evaluation(inputs, split, cache), evaluate(quantized, split)
        return {
            "original_top1_percent": round(before.top1, 4),
            "quantized_top1_percent": round(after.top1, 4),
            "original_top5_percent": round(before.top5, 4),
            "quantized_top5_percent": round(after.top5, 4),
            "agreement_percent": round(agreement(before.logits, after.logits), 4),
        }
    found = judge(
        {_FLOAT: forward, _QUANTIZED: forward_of(quantized)},
        {_QUANTIZED: _FLOAT},
        task,
        split,
        batch_size=batch,
    )
    scores, compared = as_scores(found[_QUANTIZED].scores), as_scores(found[_QUANTIZED].comparison)
    headline, reference = _headline(as_scores(found[_FLOAT].scores), scores, compared)
    named = {one.name: one.value for one in reversed(compared) if one.value is not None}
    alike, error = named.get(AGREEMENT.name), named.get(RELATIVE_ERROR.name)
    return {
        "score": headline.name if scores else f"{headline.name} with float",
        "original_score_percent": reference,
        "quantized_score_percent": _percent(headline),
        "agreement_percent": None if alike is None else round(alike, 4),
        "output_error": error,
    }


def _headline(
    before: list[Score], after: list[Score], compared: list[Score]
) -> tuple[Score, float]:
    """The figure that settings are compared by, and that of the float network: the first of which
    more is better, in percent, or a cosine and the like. Raises RecipeError where there is none.
    """
    for own, others in ((after, before), (compared, [])):
        for score in own:
            if score.higher and score.unit in ("%", "") and score.value is not None:
                other = next((one for one in others if one.is_of(score)), None)
                return score, 100.0 if other is None else _percent(other)
    raise RecipeError(
        "a sweep compares settings by a figure in percent, or a plain number, of which more is "
        "better; the task has none"
    )


def _percent(score: Score) -> float:
    """A plain number counts by hundredths, as a cosine of 1 is all that there can be."""
    value = score.value or 0.0
    return round(value if score.unit else 100 * value, 4)


def _bytes(samples: Tensor | Samples) -> bytes:
    leaves = Samples.of(samples).leaves
    return b"".join(leaf.numpy().tobytes() for leaf in leaves if isinstance(leaf, Tensor))


def float_evaluation(inputs: Inputs, split: Split, cache: Cache) -> Evaluation:
    """The float network on these images; cache: of the network."""

    def measure() -> dict[str, torch.Tensor]:
        found = evaluate(inputs.model, split)
        accuracy = found.accuracy
        numbers = torch.tensor([accuracy.top1, accuracy.top5, accuracy.loss], dtype=torch.float64)
        return {"accuracy": numbers, "logits": found.logits}

    kept = cache.fetch(f"evaluation on {_digest(split)}", measure)
    top1, top5, loss = kept["accuracy"].tolist()
    return Evaluation(Accuracy(top1, top5, loss, len(kept["logits"])), kept["logits"])


def _digest(split: Split) -> str:
    """The hash of a split's images: of all labels, and of the pixels of some."""
    some = split.images(np.linspace(0, len(split) - 1, min(len(split), _PIXELS)).astype(int))
    return sha256(split.labels.numpy().tobytes() + some.numpy().tobytes()).hexdigest()
