"""Accuracy on the CIFAR-10 ResNets, of the walk alone and after learning without labels.

    python benchmarks/accuracy.py --data DIR --out accuracy.csv [--models resnet20]
        [--recipes w4,w3] [--seeds 0,1,2] [--tune off|SECONDS|Nsteps] [--set NAME=VALUE ...]
        [--table accuracy.md]

DIR holds cifar-10-batches-py/ and weights/. One row a network, recipe, seed and way of tuning; what
has a row is skipped, so the command can be stopped and started again. Calibration images (500),
and what is kept apart of them to judge by, are training images without labels; the 10,000 test
images are looked at once, at the end. All layers have the stated bits, but for recipes that end in
`-fl8`, whose first and last layer have 8.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml
from _store import Progress, Store
from torch import nn

import subbyte
from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.engine.learning import learn
from subbyte.graph import Samples, prepare
from subbyte.methods import TuneNetwork
from subbyte.models import load_model
from subbyte.recipe import load_request
from subbyte.tasks import Classification, agreement
from subbyte.tuning import TUNES

WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet44": "resnet44-014dd654.th"}
RECIPES = ("ternary", "w2", "w3", "w4", "w4a4", "w3a3-fl8", "w2a2-fl8")
_FIRST_LAST = "-fl8"
OFF = "off"
KEY = ("model", "recipe", "tune", "seed", "images")
COLUMNS = (
    *KEY,
    "steps",
    "kept",
    "top1_float",
    "top1_walk",
    "top1",
    "agreement_walk",
    "agreement",
    "distance_walk",
    "distance",
    "bits_per_weight",
    "walk_cpu",
    "tune_cpu",
    "tune_seconds",
    "threads",
)


def recipe_of(name: str) -> subbyte.Recipe:
    """The recipe of a row."""
    preset = name.removesuffix(_FIRST_LAST)
    if preset == name:
        return load_request(preset, [])
    bits = preset.removeprefix("w").partition("a")
    settings = [f"weights.bits={bits[0]}", f"activations.bits={bits[2]}", "first_last=8"]
    return load_request("w4a4", settings)


def method_of(tune: str, settings: list[str]) -> TuneNetwork:
    """The method that `--tune` and `--set` name: seconds, or as many steps."""
    said = dict(one.split("=", 1) for one in settings)
    steps = tune.removesuffix("steps")
    length = {"seconds": float(tune)} if steps == tune else {"steps": int(steps)}
    own = {key: yaml.safe_load(value) for key, value in said.items()}
    method = TUNES.build({"name": "distill"} | length | own)
    assert isinstance(method, TuneNetwork)
    return method


def measure(
    model: nn.Module, data: DataSet, run: dict[str, object], settings: list[str]
) -> dict[str, object]:
    """The row of one run."""
    count, seed, tune = int(str(run["images"])), int(str(run["seed"])), str(run["tune"])
    images, split = draw_calibration(data, count, seed)
    start = time.process_time()
    quantized = subbyte.quantize(model, images, recipe_of(str(run["recipe"])))
    row: dict[str, object] = dict.fromkeys(COLUMNS, "") | run
    row |= {"walk_cpu": f"{time.process_time() - start:.1f}", "threads": torch.get_num_threads()}
    before = evaluate(quantized, split)
    whole = evaluate(model, split)
    after = before
    if tune != OFF:
        start, clock = time.process_time(), time.perf_counter()
        lesson = learn(
            prepare(model, images),
            quantized,
            method_of(tune, settings),
            Samples.of(images),
            task=Classification(),
        )
        row |= {"tune_cpu": f"{time.process_time() - start:.1f}"}
        row |= {"tune_seconds": f"{time.perf_counter() - clock:.1f}"}
        row |= {"steps": lesson.steps, "kept": lesson.kept.step}
        row |= {"distance_walk": f"{lesson.judgements[0].distance:.4f}"}
        row |= {"distance": f"{lesson.kept.distance:.4f}"}
        after = evaluate(lesson.model, split)
    return row | {
        "top1_float": f"{whole.accuracy.top1:.2f}",
        "top1_walk": f"{before.accuracy.top1:.2f}",
        "top1": f"{after.accuracy.top1:.2f}",
        "agreement_walk": f"{agreement(whole.logits, before.logits):.2f}",
        "agreement": f"{agreement(whole.logits, after.logits):.2f}",
        "bits_per_weight": f"{quantized.bits_per_weight:.2f}",
    }


def table(rows: list[dict[str, str]]) -> str:
    """The rows as Markdown, seeds of one kind together."""
    lines = [
        "| model | recipe | tuning | seeds | float | walk | tuned | agrees, walk | agrees, tuned |"
        " bits / weight | CPU s, walk | CPU s, tuning |",
        "|---" * 12 + "|",
    ]
    kinds = dict.fromkeys((row["model"], row["recipe"], row["tune"]) for row in rows)
    for kind in kinds:
        own = [row for row in rows if (row["model"], row["recipe"], row["tune"]) == kind]
        seeds = ", ".join(row["seed"] for row in own)
        names = ("top1_float", "top1_walk", "top1", "agreement_walk", "agreement")
        figures = [mean_and_spread(own, name) for name in names]
        costs = [mean_and_spread(own, name, 1) for name in ("walk_cpu", "tune_cpu")]
        cells = [*kind, seeds, *figures, own[0]["bits_per_weight"], *costs]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_spread(rows: list[dict[str, str]], name: str, digits: int = 2) -> str:
    """Such as 90.44 ± 0.10; without a spread where there is one row or no difference."""
    values = [float(row[name]) for row in rows if row[name]]
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean} ± {spread:.{digits}f}" if spread else mean


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="resnet20")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--tune", default=OFF)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    data = load_data(f"cifar10:{given.data / 'cifar-10-batches-py'}", normalize="imagenet")
    store = Store(given.out, COLUMNS, KEY)
    tune = " ".join([given.tune, *given.set])
    runs = [
        dict(zip(KEY, (model, recipe, tune, seed, given.images), strict=True))
        for model in given.models.split(",")
        for recipe in given.recipes.split(",")
        for seed in given.seeds.split(",")
    ]
    runs = [run for run in runs if store.find(run) is None]
    progress = Progress([str(run["model"]) for run in runs])
    for run in runs:
        model = load_model(str(run["model"]), given.data / "weights" / WEIGHTS[str(run["model"])])
        store.add(measure(model, data, run | {"tune": given.tune}, given.set) | {"tune": tune})
        progress.done(f"{run['model']} {run['recipe']} {run['seed']}")
    text = table(store.rows)
    print(text)
    if given.table:
        given.table.write_text(text + "\n")


if __name__ == "__main__":
    main()
