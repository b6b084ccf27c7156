"""subbyte verify: equal, or the name of the first value that differs, and code 1."""

import shutil

import numpy as np
import pytest

from subbyte.exporters.vectors import read_vectors


@pytest.fixture(scope="module")
def made(result, subbyte, tmp_path_factory):
    """A folder with a file and its vectors, and the codes of a device that is right."""
    out = shutil.copytree(result[0], tmp_path_factory.mktemp("verify") / "out")
    done = subbyte("export", out, "--to", "onnx-int8", "--force", "--vectors", "--no-report")
    assert done.code == 0 and "model.vectors.npz: 4 quantized values" in done.out
    vectors = read_vectors(out / "model.vectors.npz")
    codes = {name: value.codes for name, value in vectors.values.items()}
    return out, codes | dict(vectors.outputs)


def test_a_right_device_is_equal(made, subbyte, tmp_path):
    out, codes = made
    np.savez(tmp_path / "device.npz", **codes)
    for file in ("model.onnx", "model.vectors.npz"):
        done = subbyte("verify", out / file, "--outputs", tmp_path / "device.npz")
        assert (
            done.code == 0
            and "5 values compared, of 5 that the vectors hold: equal on 16 samples" in done.out
        )


def test_the_first_value_that_differs_is_named(made, subbyte, tmp_path):
    out, codes = made
    names = list(codes)
    for name in names[1:3]:
        np.save(tmp_path / f"{name}.npy", (codes[name].astype(int) + 3).clip(0, 255))
    np.save(tmp_path / f"{names[0]}.npy", codes[names[0]])
    done = subbyte("verify", out / "model.onnx", "--outputs", tmp_path)
    assert done.code == 1
    assert f"{names[1]} is the first value that differs: in 16 of 16 samples" in done.out
    assert "by 3 codes at most" in done.out and names[2] not in done.out


def test_what_can_not_be_read_is_one_line(made, subbyte, tmp_path):
    for arguments, why in (
        ((tmp_path / "net.onnx", "--outputs", tmp_path), "subbyte export ... --vectors"),
        ((made[0] / "model.onnx", "--outputs", tmp_path / "no.npz"), "no.npz"),
        ((made[0] / "model.onnx", "--outputs", tmp_path), "without .npy files"),
    ):
        done = subbyte("verify", *arguments)
        assert done.code == 1 and why in done.err and done.err.count("\n") == 1
