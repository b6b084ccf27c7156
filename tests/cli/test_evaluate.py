"""subbyte evaluate: the accuracy of a float network, a packed file, an ONNX file."""

import json

import pytest

from tests.workplace import evaluated, figures


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
