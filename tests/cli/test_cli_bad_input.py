"""Bad input: one clear message that names the thing, exit code 1, nothing half-written, no
traceback.
"""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.workplace import NETWORK, complaint, lay_out, names_in, pictures, trained


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(template, tmp_path, monkeypatch) -> Path:
    """A folder of one's own to spoil, and to run in."""
    for path in template.glob("net.*"):
        shutil.copy(path, tmp_path)
    shutil.copy(template / "data.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fails(subbyte, here):
    """Runs a command that must fail, and returns its message."""

    def run(*changes: object, command: str = "quantize") -> str:
        options = {
            "--model": "net.py:net",
            "--weights": "net.safetensors",
            "--data": "npz:data.npz",
            "--out": "out",
        }
        options |= {"--calibration": 20, "--recipe": "w8a8"}
        extra = list(changes)
        for name in [x for x in extra if x in options]:
            where = extra.index(name)
            options[name] = extra[where + 1]
            del extra[where : where + 2]
        before = names_in(here)
        arguments = [x for pair in options.items() for x in pair if pair[1] is not None]
        done = subbyte(command, *arguments, *extra)
        message = complaint(done.code, done.out, done.err)
        assert names_in(here) == before
        return message

    return run


def changed(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """The trained weights with some entries changed or added."""
    return {**trained(), **{key.replace("_", ".", 1): value for key, value in changes.items()}}


def write_images(channels: int = 3, size: int = 8, dtype: type = np.uint8) -> None:
    images, labels = pictures(40, 3)
    images = np.resize(images, (40, channels, size, size)).astype(dtype)
    np.savez("data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)


def test_weights_of_another_network(fails):
    state = {key.replace("7.", "8."): value for key, value in trained().items()}
    save_file(state, "net.safetensors")
    message = fails()
    assert (
        "missing" in message
        and "7.weight" in message
        and "unexpected" in message
        and "8." in message
    )


def test_weights_of_another_width(fails):
    save_file(changed(**{"7_weight": torch.zeros(4, 31)}), "net.safetensors")
    message = fails()
    assert "7.weight" in message and "31" in message and "32" in message


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "pack", [torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))]
)
def test_a_pickle_that_would_execute_code(pack, fails, here):
    pack({"state_dict": Evil()}, "evil.pth")
    assert "execute code" in fails("--weights", "evil.pth") and not (here / "executed").exists()


def test_missing_and_damaged_weights(fails):
    assert "none.pth" in fails("--weights", "none.pth")
    Path("net.safetensors").write_bytes(Path("net.safetensors").read_bytes()[:-100])
    assert "net.safetensors" in fails()


def test_an_empty_data_folder(fails):
    Path("images").mkdir()
    assert "images" in fails("--data", "imagefolder:images")
    assert "images" in fails("--data", "cifar10:images")
    assert "nowhere" in fails("--data", "mnist:nowhere")


def test_a_corrupt_image(fails):
    for label in "abcd":
        folder = Path("images/val", label)
        folder.mkdir(parents=True)
        for number in range(10):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    broken = Path("images/val/c/7.png")
    broken.write_bytes(broken.read_bytes()[:40])
    assert str(broken) in fails("--data", "imagefolder:images", "--calibration", 39)


def test_a_corrupt_npz(fails):
    Path("data.npz").write_bytes(Path("data.npz").read_bytes()[:1000])
    assert "data.npz" in fails()


def test_images_with_other_channels(fails):
    write_images(channels=1)
    message = fails()
    assert "(20, 1, 8, 8)" in message or "(2, 1, 8, 8)" in message or "1 channels" in message


def test_images_of_another_size(fails):
    write_images(size=10)
    assert "10, 10" in fails()


def test_nan_in_weights(fails):
    weight = trained()["4.weight"].clone()
    weight[3, 2, 1, 0] = torch.nan
    save_file(changed(**{"4_weight": weight}), "net.safetensors")
    assert "4.weight" in fails()


def test_nan_in_images(fails):
    images, labels = pictures(40, 3)
    images = images / 255
    images[7, 0, 0, 0] = np.nan
    np.savez("data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    message = fails("--calibration", 40)
    assert "NaN" in message and "image 7" in message


@pytest.mark.parametrize("recipe", ["w8a8", "w4"])
def test_overflow_in_activations_names_the_layer(recipe, fails):
    save_file(changed(**{"4_weight": torch.full((8, 8, 3, 3), 1e37)}), "net.safetensors")
    message = fails("--recipe", recipe)
    assert "'4" in message and ("NaN" in message or "Inf" in message)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("weights.bitz=4", "bitz"),
        ("weigths.bits=4", "weigths"),
        ("weights.rounding.dampening=1", "dampening"),
        ("weights.rounding=magic", "magic"),
        ("activations.range=magic", "magic"),
        ("layers.conv9*.weights.bits=4", "conv9*"),
        ("layers.4.weights.bitz=4", "bitz"),
        ("layers.4.skipp=true", "skipp"),
        ("weights.bits=9", "9"),
        ("weights.bits=1", "1"),
        ("weights.bits=0", "0"),
        ("weights.bits=-4", "-4"),
        ("weights.bits=four", "weights.bits"),
        ("weights.bits=true", "weights.bits"),
        ("weights.bits=2.5", "2.5|weights.bits"),
        ("activations.bits=17", "17"),
        ("others.bits=1", "1"),
        ("first_last=33", "33"),
        ("layers.4.weights.bits=12", "12"),
        ("weights.granularity=group", "group_size"),
        ("weights.bits", "path=value"),
        ("=4", "path=value"),
        ("weights.bits=[", "YAML"),
    ],
)
def test_recipes_that_make_no_sense(settings, named, fails):
    message = fails("--set", settings)
    assert any(word in message for word in named.split("|")), message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("weights: {bits: 4, colour: red}\n", "colour"),
        ("wights: {bits: 4}\n", "wights"),
        ("weights: {bits: 11}\n", "11"),
        ('layers: {"nothing*": {skip: true}}\n', "nothing*"),
        ("- weights\n", "mapping"),
        ("weights: {bits: 4\n", "YAML"),
        ("", "mapping"),
        ("weights: 4\n", "weights"),
        ("layers: {4: {skip: true}}\n", "4"),
    ],
)
def test_recipe_files_that_make_no_sense(text, named, fails):
    Path("mine.yaml").write_text(text)
    message = fails("--recipe", "mine.yaml")
    assert named in message and "mine" in message


def test_unknown_recipes_networks_and_data(fails):
    assert "w5a5" in fails("--recipe", "w5a5") and "w4a4" in fails("--recipe", "w5a5")
    assert "resnet21" in fails("--model", "resnet21")
    assert "cifar11" in fails("--data", "cifar11:data.npz")
    assert "net.py" in fails("--model", "net.py:missing")


def test_a_network_that_cannot_be_captured(fails, here):
    line = 1 + NETWORK.splitlines().index(
        "        if x.sum() > 0:  # the line that can't be captured"
    )
    save_file({"fc.weight": torch.zeros(4, 192), "fc.bias": torch.zeros(4)}, "branchy.safetensors")
    message = fails("--model", "net.py:Branchy", "--weights", "branchy.safetensors")
    assert f"{here / 'net.py'}:{line}" in message
    assert "data-dependent" in message or "Could not guard" in message


def test_a_network_that_breaks_while_it_is_built(fails):
    Path("bad.py").write_text("def net():\n    return 1 / 0\n")
    message = fails("--model", "bad.py:net")
    assert "bad.py, line 2" in message and "ZeroDivisionError" in message


def test_a_network_without_layers(fails):
    Path("bad.py").write_text("from torch import nn\n\n\ndef net():\n    return nn.Flatten()\n")
    assert "no convolution or linear layer" in fails("--model", "bad.py:net", "--weights", None)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--calibration", 0), "calibration"),
        (("--calibration", 65), "65"),
        (("--seed", -1), "-1"),
        (("--chunk", 0), "chunk"),
        (("--memory", -1), "memory"),
        (("--export", "int16"), "onnx-compact"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--device", "toaster"), "toaster"),
        (("--normalize", "nonsense"), "nonsense"),
        (("--normalize", "0.5/0"), "normalization"),
        (("--crop", 0), "--crop"),
        (("--crop", 9), "crop"),
        (("--input-shape", "3,8", "--dry-run"), "3,8"),
    ],
)
def test_options_that_make_no_sense(options, named, fails):
    assert named in fails(*options)


def test_out_that_exists(fails, here):
    (here / "out").mkdir()
    (here / "out" / "result.json").write_text("{}")
    assert "--force" in fails()


@pytest.mark.parametrize(
    "others", [["notes.txt"], ["result.json", "notes.txt"], ["model.onnx", "thesis/thesis.tex"]]
)
def test_force_never_takes_other_files(others, fails, here):
    for name in others:
        (here / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "out" / name).write_text("precious")
    assert "out" in fails("--force")
    assert all((here / "out" / name).read_text() == "precious" for name in others)


def test_out_that_is_a_file_or_below_one(fails, here):
    (here / "out").write_text("precious")
    assert "out" in fails("--force")
    assert "out" in fails("--out", "out/below")


def test_deep_folders_are_not_left_behind(fails):
    save_file(changed(**{"4_weight": torch.full((8, 8, 3, 3), 1e37)}), "net.safetensors")
    fails("--out", "runs/today/out")
