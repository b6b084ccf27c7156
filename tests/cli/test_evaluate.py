"""subbyte evaluate: the accuracy of a float network, a packed file, an ONNX file."""

import json
from itertools import count

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import subbyte.cli.evaluate as cli
from subbyte.data import load_data
from tests.workplace import complaint, evaluated, figures, float_network


@pytest.mark.parametrize(
    ("part", "file"), [("quantized", "model.safetensors"), ("onnx", "model.onnx"), ("float", None)]
)
def test_files_have_the_accuracy_of_the_result(part, file, subbyte, result, given):
    out, _ = result
    weights = given[given.index("--weights") + 1] if file is None else out / file
    done = subbyte("evaluate", *given[:2], *given[4:6], "--weights", weights, "--per-class", 0)
    assert done.code == 0, done.err
    found = json.loads((out / "result.json").read_text())
    expected = found["exports"][0] if part == "onnx" else found[part]
    top1, top5, _ = evaluated(done.out)
    assert top1 == pytest.approx(figures(expected)["top-1"], abs=0.006)
    assert top5 == pytest.approx(figures(expected)["top-5"], abs=0.006)
    assert "60 images" in " ".join(done.out.split())


def test_training_images_and_the_time_of_an_image(subbyte, given, place, monkeypatch, tmp_path):
    asked = (*given[:4], "--train", "--json")
    monkeypatch.setattr(cli.time, "perf_counter", count(0, 0.3).__next__)  # a call takes 0.3 s
    done = subbyte("evaluate", *asked, *given[4:6])
    assert done.code == 0, done.err
    found, data = json.loads(done.out)["result"], load_data(given[5])
    for part, split in (("figures", data.test), ("train", data.train)):
        with torch.no_grad():
            logits = float_network(place)(split.images(range(len(split))))
        loss = float(F.cross_entropy(logits, split.labels))  # all are right in both splits
        assert found[part]["scores"][-1]["value"] == pytest.approx(loss, rel=1e-2)
    assert found["milliseconds"] == pytest.approx(300 / len(data.test))
    assert "train" in done.err and "ms an image, 60 at a time" in done.err
    np.savez(tmp_path / "alone.npz", images=np.zeros((4, 3, 8, 8), np.uint8), labels=[0, 1, 2, 3])
    done = subbyte("evaluate", *asked, "--data", f"npz:{tmp_path / 'alone.npz'}")
    assert done.code == 1 and "no training split" in done.err


def test_onnx_files_need_no_network(subbyte, result, given):
    assert subbyte("evaluate", *given[4:6], "--weights", result[0] / "model.onnx").code == 0
    done = subbyte("evaluate", *given[4:6], "--weights", result[0] / "model.safetensors")
    assert done.code == 1 and "--model" in done.err


def test_normalization_matters(subbyte, result, given):
    done = subbyte(
        "evaluate",
        *given[4:6],
        "--weights",
        result[0] / "model.onnx",
        "--normalize",
        "0.9,0.9,0.9/9,9,9",
    )
    assert evaluated(done.out)[0] < 60


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_damaged_files_are_an_error(content, subbyte, result, given, tmp_path):
    for name in ("model.onnx", "model.safetensors"):
        data = (result[0] / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2] if content is None else content)
        done = subbyte("evaluate", *given[:2], *given[4:6], "--weights", tmp_path / name)
        assert done.code == 1 and name in done.err and done.err.count("\n") == 1


def test_a_packed_file_of_another_network_is_an_error(subbyte, result, given, place):
    model = f"{place / 'net.py'}:wider"
    done = subbyte(
        "evaluate", "--model", model, *given[4:6], "--weights", result[0] / "model.safetensors"
    )
    assert done.code == 1 and "made for a network" in done.err


@pytest.mark.parametrize(
    "to",
    [
        "onnx-int8",
        pytest.param("onnx-compact", marks=pytest.mark.slow),
        "torch",
        "packed",
        "static",
        "uint8",
    ],
)
def test_images_that_do_not_fit_a_file_are_one_line(to, subbyte, result, given, tmp_path):
    form = {"static": ("--static", 1), "uint8": ("--input", "uint8")}.get(to, ())
    options = ["--weights", result[0] / "model.safetensors", *given[:2]]
    if to != "packed":
        exporter = "onnx-int8" if form else to
        file = tmp_path / ("file.pt2" if to == "torch" else "file.onnx")
        done = subbyte("export", result[0], "--to", exporter, *form, "--out", file)
        assert done.code == 0, done.err
        options = ["--weights", file]
    for shape, classes in (
        ((6, 3, 16, 16), 4),
        ((6, 3, 8, 9), 4),
        ((6, 1, 8, 8), 4),
        ((6, 4, 8, 8), 4),
        ((6, 3, 8, 8), 9),
    ):
        images = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        labels = np.arange(6) * (classes - 1) // 5
        test = {"x_test": images, "y_test": labels}
        np.savez(tmp_path / "other.npz", x_train=images, y_train=labels, **test)
        done = subbyte("evaluate", *options, "--data", f"npz:{tmp_path / 'other.npz'}")
        message = complaint(done.code, done.out, done.err)
        size = ", ".join(map(str, shape[1:]))
        assert (size if classes == 4 else "label 8") in message
