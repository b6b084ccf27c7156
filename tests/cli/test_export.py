"""subbyte export: one more file of a result, a trained network, a file saved from Python."""

import json
import shutil

import pytest
import torch

import subbyte as package
from subbyte.records import read_result
from tests.workplace import evaluated, figures, float_network, names_in


@pytest.fixture
def out(result, tmp_path):
    """A copy of the folder that `quantize` wrote."""
    return shutil.copytree(result[0], tmp_path / "out")


def test_a_file_is_proven_judged_and_recorded_as_by_quantize(out, subbyte, given, tmp_path):
    done = subbyte("export", out, "--to", "onnx-compact", "--no-report")
    assert done.code == 0, done.err
    assert "parity on 40 samples" in done.out and "out/model-onnx-compact.onnx" in done.out
    both = ["--export", "onnx-int8", "--export", "onnx-compact", "--no-report"]
    assert (
        subbyte("quantize", *given, "--recipe", "w4a8", *both, "--out", tmp_path / "two").code == 0
    )
    one, two = read_result(out), read_result(tmp_path / "two")
    assert [file.name for file in one.exports] == ["onnx-int8", "onnx-compact"]
    assert one.exports[1] == two.exports[1] and one.layers == two.layers
    assert one.activations == two.activations
    same = (out / "model-onnx-compact.onnx").read_bytes()
    assert same == (tmp_path / "two" / "model-onnx-compact.onnx").read_bytes()


def test_an_earlier_file_is_kept_without_force_and_replaced_with(out, subbyte):
    before = (out / "model.onnx").read_bytes()
    done = subbyte("export", out, "--to", "onnx-int8")
    assert done.code == 1 and "model.onnx exists" in done.err
    (out / "model.onnx").write_bytes(b"spoilt")
    assert subbyte("export", out, "--to", "onnx-int8", "--force").code == 0
    assert (out / "model.onnx").read_bytes() == before
    assert [file.name for file in read_result(out).exports] == ["onnx-int8"]
    assert (out / "report.html").exists()


def test_elsewhere_a_certificate_lies_beside_the_file(out, subbyte, tmp_path, given):
    done = subbyte("export", out, "--to", "torch", "--out", tmp_path / "net.pt2", "--images", 20)
    assert done.code == 0, done.err
    proof = json.loads((tmp_path / "net.certificate.json").read_text())
    assert proof["exporter"] == "torch" and proof["parity"]["samples"] == 20
    assert list(proof["files"]) == ["net.pt2"] and proof["source"] == "model.safetensors"
    assert [file.name for file in read_result(out).exports] == ["onnx-int8"]
    done = subbyte("evaluate", *given[4:6], "--weights", tmp_path / "net.pt2", "--per-class", 0)
    expected = figures(json.loads((out / "result.json").read_text())["quantized"])["top-1"]
    assert evaluated(done.out)[0] == pytest.approx(expected, abs=0.006)


def test_what_python_saved_needs_network_and_data(subbyte, place, given, tmp_path):
    model = package.quantize(float_network(place), torch.rand(40, 3, 8, 8), "w4")
    package.save(model, tmp_path / "net.safetensors")
    network, data = given[:2], given[4:6]
    for options, why in (((), "--data"), (data, "--model")):
        done = subbyte("export", tmp_path / "net.safetensors", "--to", "torch", *options)
        assert done.code == 1 and why in done.err and done.err.count("\n") == 1
    done = subbyte("export", tmp_path / "net.safetensors", *network, *data)
    assert done.code == 0, done.err
    assert names_in(tmp_path) == {
        "net.safetensors",
        "net-onnx-compact.onnx",
        "net-onnx-compact.certificate.json",
    }


def test_what_train_wrote_needs_nothing(subbyte, tmp_path):
    basis = ("--model", "lenet-digits", "--data", "digits", "--epochs", 1, "--no-report")
    qat = ("--optimizer", "adam", "--lr", 0.01, "--qat", "ste", "--bits", 4)
    assert subbyte("train", *basis, *qat, "--out", tmp_path / "run").code == 0
    done = subbyte("export", tmp_path / "run", "--to", "onnx-compact", "--images", 20)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "quantized-onnx-compact.onnx").is_file()
    assert (tmp_path / "run" / "quantized-onnx-compact.certificate.json").is_file()


def test_what_can_not_be_done_is_one_line(out, subbyte, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, why in (
        ((out, "--to", "tensorrt"), "unknown exporter 'tensorrt'"),
        ((tmp_path / "empty",), "holds neither model.safetensors"),
        ((tmp_path / "none.safetensors",), "no such file"),
        (
            (out, "--to", "torch", "--out", tmp_path / "x.onnx"),
            f"error: {tmp_path / 'x.onnx'}: torch writes .pt2 files; name it x.pt2",
        ),
        ((out, "--to", "torch", "--data", f"npz:{tmp_path}/no.npz"), "--data names others"),
        ((out, "--to", "torch", "--images", 65), "cannot draw 65"),
    ):
        done = subbyte("export", *arguments)
        assert done.code == 1 and why in done.err and done.err.count("\n") == 1, done.err
    assert names_in(out) == names_in(out) - {"model.pt2"}


def test_files_for_pixels_of_a_fixed_batch_are_made_recorded_and_known_again(
    subbyte, given, tmp_path
):
    form = ["--input", "uint8", "--static", 2, "--optimize", "exact", "--normalize", "imagenet"]
    out = tmp_path / "out"
    done = subbyte("quantize", *given, "--recipe", "w8a8", *form, "--out", out, "--no-report")
    assert done.code == 0, done.err
    assert "for exact, takes uint8 images, batches of 2, sizes fixed" in done.out
    (one,) = read_result(out).exports
    assert (one.optimize, one.input, one.batch) == ("exact", "uint8", 2) and len(one.digest) == 64
    done = subbyte("inspect", out / "model.onnx")
    assert f"subbyte.digest: {one.digest}" in done.out and '"mean":[0.485' in done.out
    judged = ["--weights", out / "model.onnx", "--per-class", 0, "--normalize", "imagenet"]
    done = subbyte("evaluate", *given[4:6], *judged)
    assert ", as proven" in done.out
    assert evaluated(done.out)[0] == pytest.approx(one.scores[0].value, abs=6)
    program = (out / "model.onnx").read_bytes()
    (out / "model.onnx").write_bytes(program.replace(b"w8a8", b"w9a9"))
    done = subbyte("evaluate", *given[4:6], *judged)
    assert "is not the file that was proven" in done.out
    done = subbyte("export", out, "--to", "torch", "--static", 2)
    assert done.code == 1 and "writes no files for batches of 2 alone" in done.err
