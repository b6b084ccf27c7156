"""Networks that are no classifiers, and data without labels, from the command line to the page: the
example's U-Net and its network with two heads.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from subbyte.records import Result, read_evidence, read_result
from tests.cli.conftest import run
from tests.workplace import figures

EXAMPLE = Path(__file__).parents[2] / "examples" / "shapes.py"


def example() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("shapes", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DATA = {"unet": "maps.npz", "two_heads": "heads.npz"}


def trained(out: Path, name: str, epochs: int) -> Path:
    """Weights of one of the example's networks, of a little training on the data in a folder."""
    given = ["--model", f"{EXAMPLE}:{name}", "--data", f"npz:{out / DATA[name]}", "--warmup", 5]
    given += ["--epochs", epochs, "--batch-size", 32, "--optimizer", "adam", "--lr", 0.01]
    folder = out / f"{name}-{epochs}"
    done = run("train", *given, "--evaluate-every", epochs, "--no-report", "--out", folder)
    assert done.code == 0, done.err
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """The example's data."""
    out = tmp_path_factory.mktemp("shapes")
    example().write_data(out, 200, 100)
    return out


@pytest.fixture(scope="module")
def unet(shapes) -> list[Any]:
    """The U-Net, trained until it is accurate."""
    return ["--model", f"{EXAMPLE}:unet", "--weights", trained(shapes, "unet", 30)]


def scores(text: str, name: str) -> list[float]:
    """The numbers of a row of the table of figures."""
    (line,) = [line for line in text.splitlines() if name in line and "│" in line]
    return [float(cell) for cell in line.split("│")[2:-1] if cell.strip()]


@pytest.mark.slow
def test_a_unet_at_8_bits_is_within_a_point_of_float(shapes, unet, subbyte, tmp_path):
    data = f"npz:{shapes / 'maps.npz'}"
    done = subbyte("quantize", *unet, "--data", data, "--calibration", 64, "--out", tmp_path / "o")
    assert done.code == 0, done.err
    found = read_result(tmp_path / "o")
    assert found.task == "segmentation" and found.images == 100
    names = ["mean IoU", "pixel accuracy"]
    assert [one.name for one in found.float.scores] == names
    before, after = found.float.scores[0].value, found.quantized.scores[0].value
    assert before > 50 and abs(before - after) < 1
    shown = [before, after, figures(found.exports[0])["mean IoU"]]
    assert scores(done.out, "mean IoU %") == pytest.approx(shown, abs=0.006)
    assert figures(found.quantized)["agreement"] > 99
    # the page tells of them, and not of classes of images
    text = (tmp_path / "o" / "report.html").read_text()
    assert f"{after:.2f} % mean IoU on 100 test images" in text
    assert read_evidence(tmp_path / "o").predictions is None and "Predictions" not in text
    # a folder of the same pictures and masks has the same scores
    folder = ["--data", f"masks:{shapes / 'folder'}", "--normalize", "none"]
    again = subbyte("evaluate", *unet[:2], "--weights", tmp_path / "o/model.safetensors", *folder)
    assert again.code == 0 and scores(again.out, "mean IoU %") == pytest.approx([after], abs=0.006)


def test_iou_is_that_of_the_files_outputs(shapes, subbyte):
    data, weights = f"npz:{shapes / 'maps.npz'}", trained(shapes, "unet", 6)
    given = ["--model", f"{EXAMPLE}:unet", "--weights", weights]
    done = subbyte("evaluate", *given, "--data", data)
    with np.load(shapes / "maps.npz") as arrays:
        file = dict(arrays)
    module = example()
    network = module.unet().eval()
    network.load_state_dict(load_file(weights))
    with torch.no_grad():
        named = network(torch.from_numpy(file["x_test"]) / 255).argmax(1).numpy()
    maps, ious = file["maps_test"], []
    for k in range(4):
        own, wanted = named == k, maps == k
        ious.append((own & wanted).sum() / (own | wanted).sum())
    assert scores(done.out, "mean IoU %") == pytest.approx([100 * np.mean(ious)], abs=0.006)


def test_two_heads_have_scores_of_their_own(shapes, subbyte, tmp_path):
    weights, data = trained(shapes, "two_heads", 6), f"npz:{shapes / 'heads.npz'}"
    given = ["--model", f"{EXAMPLE}:two_heads", "--weights", weights, "--data", data]
    done = subbyte("quantize", *given, "--calibration", 64, "--out", tmp_path / "o")
    assert done.code == 0, done.err
    found = read_result(tmp_path / "o")
    assert found.task == "classification, regression"
    assert found.heads == ["output.shape", "output.place"]
    kinds = [(one.head, one.name) for one in found.quantized.scores]
    assert kinds[0] == (0, "top-1") and kinds[3] == (1, "relative error")
    assert {one.head for one in found.quantized.comparison} == {0, 1}
    assert (
        "output.place" in done.out and "of output.place" in (tmp_path / "o/report.html").read_text()
    )
    other = subbyte("evaluate", *given, "--task", "classification,embedding")
    assert other.code == 0 and "lowest cosine" in other.out
    wrong = subbyte("evaluate", *given, "--task", "classification")
    assert wrong.code == 1 and "output 1: classification: targets are" in wrong.err


@pytest.mark.slow
def test_without_labels_outputs_are_compared_with_the_float_networks(
    shapes, unet, subbyte, tmp_path
):
    folder = shapes / "folder" / "val" / "images"
    data = ["--data", f"images:{folder}", "--normalize", "none", "--calibration", 20]
    for name, recipe in (("a", "w8a8"), ("b", "w4a4")):
        out = tmp_path / "all" / name
        given = [*unet, *data, "--export", "none", "--recipe", recipe]
        done = subbyte("quantize", *given, "--out", out)
        assert done.code == 0, done.err
    found = read_result(tmp_path / "all" / "a")
    assert found.task == "comparison" and found.images == 80
    assert found.float.scores == found.quantized.scores == []
    told = figures(found.quantized)
    assert told["agreement"] > 95 and 0 < told["relative error"] < 0.1 and told["cosine"] > 0.99
    assert json.loads((tmp_path / "all/a/result.json").read_text())["version"] == Result.VERSION
    page = subbyte("report", tmp_path / "all")
    text = (tmp_path / "all" / "report.html").read_text()
    assert page.code == 0 and "The most accurate is a:" in text and "% agreement with float" in text
    weights = tmp_path / "all/b/model.safetensors"
    given = ["evaluate", *unet[:2], "--weights", weights, *data[:4]]
    alone = subbyte(*given)
    assert alone.code == 1 and "no targets to score by" in alone.err and "--against" in alone.err
    both = subbyte(*given, "--against", unet[-1])
    assert both.code == 0 and 50 < scores(both.out, "agreement with float %")[0] < 100


MINE = """
from dataclasses import dataclass

import torch
from torch import nn

import subbyte
from subbyte.methods import Measure, Task
from subbyte.tasks.tallies import mean


class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 16), nn.Linear(4, 16)
        self.last = nn.Linear(16, 5)

    def forward(self, a, b):
        return self.last(torch.relu(self.left(a) + self.right(b)))


def network():
    torch.manual_seed(0)
    return Sums().eval()


def calls():
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        a, b = torch.randn(20, 6, generator=generator), torch.randn(20, 4, generator=generator)
        with torch.no_grad():
            yield subbyte.Inputs(a, b=b), network()(a, b).argmax(1)


@dataclass(frozen=True)
class Surest(Task):
    scale: float = 1.0

    def score(self, outputs, targets):
        right = outputs[0].softmax(1).gather(1, targets[0][:, None])
        return [mean(Measure("surety", "%"), 100 * self.scale * right)]

    def compare(self, outputs, others):
        return [mean(Measure("gap", higher=False), (outputs[0] - others[0]).abs())]

    def loss(self, outputs, targets):
        return -self.score(outputs, targets)[0].counted[0]


class Odd:
    pass
"""


def test_networks_of_several_inputs_and_tasks_of_ones_own(subbyte, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    model = f"{tmp_path}/mine.py"
    given = ["--model", f"{model}:network", "--data", f"{model}:calls"]
    quantize = ["quantize", *given, "--calibration", 30, "--out", tmp_path / "o"]
    done = subbyte(*quantize, "--task", f"{model}:Surest")
    assert done.code == 0, done.err
    found = read_result(tmp_path / "o")
    assert found.images == 50 and found.task == f"{model}:Surest"
    assert [one.name for one in found.quantized.scores] == ["surety"]
    assert 0 < found.quantized.comparison[0].value < 0.1
    assert abs(found.gained) < 1
    plan = subbyte("quantize", *given, "--dry-run")
    assert plan.code == 0 and all(name in plan.out for name in ("left", "right", "last"))
    packed = ["--weights", tmp_path / "o/model.safetensors"]
    done = subbyte("evaluate", *given, *packed)
    assert done.code == 0 and scores(done.out, "top-1 %")[0] > 90
    train = ["train", *given, "--epochs", 1, "--batch-size", 20, "--lr", 0.1, "--optimizer", "sgd"]
    wrong = subbyte(*train, "--out", tmp_path / "t")
    assert wrong.code == 1 and "no training images" in wrong.err
    wrong = subbyte(*quantize, "--force", "--task", f"{model}:Odd")
    assert wrong.code == 1 and "is no task; derive it from subbyte.methods.Task" in wrong.err
