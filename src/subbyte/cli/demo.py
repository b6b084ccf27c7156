"""subbyte demo: train a small network on scikit-learn's digits, quantize it five ways, and show
what each cost.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save
from torch import nn

from subbyte.cli.answers import Answer, command
from subbyte.cli.common import ForceOption, PageOption, SeedOption, write_page
from subbyte.cli.progress import progress
from subbyte.cli.tables import summary_table
from subbyte.cli.terminal import console
from subbyte.data import DataSet, load_data
from subbyte.engine.stages import Report
from subbyte.io.files import write_bytes, write_json
from subbyte.io.folders import folder
from subbyte.jobs import OWNS, Job, run
from subbyte.models import MODELS
from subbyte.pages.write import PAGE
from subbyte.recipe import load_recipe
from subbyte.records import Result

_RECIPES = ("w8a8", "w4a4", "w3", "w2", "ternary")
_EPOCHS = 30
_BATCH = 64
_WEIGHTS, _RESULTS = "lenet-digits.safetensors", "results.json"
_OWNS = (_WEIGHTS, _RESULTS, PAGE, *(f"{name}/{file}" for name in _RECIPES for file in OWNS))


@command
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    seed: SeedOption = 0,
    force: ForceOption = False,
    page: PageOption = True,
) -> Answer[list[Result]]:
    """Train LeNet on digits, quantize it to W8A8, W4A4, W3, W2 and ternary, and compare."""
    data = load_data("digits")
    results = []
    with folder(out, owns=_OWNS, force=force) as temporary, progress() as report:
        model = train(data, seed, lambda k: report("train LeNet", k, _EPOCHS, ""))
        write_bytes(temporary / _WEIGHTS, save(model.state_dict()))
        for name in _RECIPES:
            job = Job("lenet-digits", "digits", load_recipe(name), calibration=256, seed=seed)
            results.append(run(job, model, data, temporary / name, _prefixed(report, name)))
        write_json(temporary / _RESULTS, [one.model_dump(mode="json") for one in results])
    title = (
        f"LeNet on the {results[0].images} test images of digits, 256 calibration images, "
        f"seed {seed}"
    )
    console.print(summary_table(results, title))
    console.print(
        f"files: {out}/*/model.safetensors, model.onnx, plan.yaml, result.json", soft_wrap=True
    )
    return Answer(results, write_page(page, out))


def _prefixed(report: Report, recipe: str) -> Report:
    return lambda stage, done, total, what: report(f"{recipe}: {stage}", done, total, what)


def train(data: DataSet, seed: int, done: Callable[[int], None]) -> nn.Module:
    """LeNet trained on the training split with Adam and a cosine schedule; deterministic for a
    seed.
    """
    assert data.train is not None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS["lenet-digits"].build()
        images, labels = data.train.images(range(len(data.train))), data.train.labels
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
        for epoch in range(_EPOCHS):
            for batch in torch.randperm(len(labels)).split(_BATCH):
                optimizer.zero_grad()
                F.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
            schedule.step()
            done(epoch + 1)
    return model.eval()
