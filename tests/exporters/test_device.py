"""Vectors and what a device makes of them: equal where nothing is wrong, the first value where
something is.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from subbyte.errors import FormatError
from subbyte.exporters import export
from subbyte.exporters.device import compare
from subbyte.exporters.vectors import SAMPLES, read_arrays, read_vectors, write_vectors
from subbyte.graph import Samples
from tests.networks import images, quantized


def device(path, vectors, change=lambda program: None):
    """All codes that an ONNX file computes in ONNX Runtime, by name of the value."""
    program = onnx.load(path)
    change(program)
    made = {name for node in program.graph.node for name in node.output}
    values = [name for name in vectors.values if f"{name}.codes" in made]
    assert values
    places = [f"{name}.codes" for name in values]
    for place in places:
        program.graph.output.append(onnx.ValueInfoProto(name=place))
    session = onnxruntime.InferenceSession(program.SerializeToString())
    names = [*values, *vectors.outputs]
    found = session.run([*places, *vectors.outputs], dict(vectors.inputs))
    return dict(zip(names, found, strict=True))


@pytest.fixture(scope="module", params=["w8a8", "w4a4"])
def made(request, tmp_path_factory):
    """A file, its vectors, and what ONNX Runtime computes of them."""
    folder = tmp_path_factory.mktemp("device")
    model, x = quantized("residual", request.param), images("residual")
    export(model, folder / "net.onnx", x, to="onnx-int8")
    count = write_vectors(model, folder / "net.vectors.npz", Samples.of(x))
    vectors = read_vectors(folder / "net.vectors.npz")
    assert count == len(vectors.values) == len(model.plan.taps)
    return folder / "net.onnx", vectors, model, x


def test_vectors_hold_what_the_model_computes(made):
    _, vectors, model, x = made
    assert np.array_equal(vectors.inputs["x"], x[:SAMPLES].numpy())
    assert torch.equal(torch.from_numpy(vectors.outputs["output"]), model(x[:SAMPLES]))
    last = list(vectors.values.values())[-1]
    assert next(iter(vectors.values)) == "input"
    dequantized = (last.codes.astype(np.float32) - last.zero_point) * last.scale
    assert np.allclose(dequantized, vectors.outputs["output"], atol=1e-6)


def test_a_right_device_has_no_difference(made):
    path, vectors, *_ = made
    found = compare(vectors, device(path, vectors))
    assert [one.name for one in found] == [*vectors.values, *vectors.outputs]
    assert not any(one.wrong for one in found) and found[-1].told


def test_the_first_value_behind_a_planted_difference_is_named(made):
    path, vectors, *_ = made

    def spoil(program):
        name = next(n for n in program.graph.node if n.input[0] == "b2.conv1").input[1]
        scale = next(t for t in program.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(scale)
        scale.CopyFrom(onnx.numpy_helper.from_array((values * 1.05).astype("f4"), scale.name))

    found = [one for one in compare(vectors, device(path, vectors, spoil)) if one.wrong]
    assert found[0].name == "b2.conv1:out" and found[0].wrong > SAMPLES / 2
    assert found[0].largest >= 1 and 0 < found[0].numbers <= found[0].size


def test_one_code_of_one_sample_is_found(made):
    _, vectors, *_ = made
    codes = {name: value.codes.copy() for name, value in vectors.values.items()}
    assert not any(one.wrong for one in compare(vectors, codes))
    name = list(codes)[3]
    sure = np.argwhere(~vectors.values[name].near)[-1]
    codes[name][tuple(sure)] ^= 1
    (found,) = (one for one in compare(vectors, codes) if one.wrong)
    assert (found.name, found.wrong, found.numbers, found.largest) == (name, 1, 1, 1)
    assert found.place == tuple(sure)


def test_a_near_tie_is_no_difference_and_its_sample_tells_nothing_more(made):
    _, vectors, *_ = made
    names = [name for name, value in vectors.values.items() if value.near.any()]
    if not names:
        pytest.skip("no value is near the border of two codes")
    codes = {name: value.codes.astype(np.int64) for name, value in vectors.values.items()}
    spot = tuple(np.argwhere(vectors.values[names[0]].near)[0])
    codes[names[0]][spot] += 1
    last = list(codes)[-1]
    codes[last][spot[0]] += 7  # what follows from it
    found = {one.name: one for one in compare(vectors, codes)}
    assert not any(one.wrong for one in found.values())
    assert found[names[0]].ties == 1 and found[last].told == SAMPLES - 1


def test_floats_and_signed_codes_are_taken_too(made):
    _, vectors, *_ = made
    signed = {
        n: (v.codes.astype(np.int16) - 128).astype(np.int8) for n, v in vectors.values.items()
    }
    assert not any(one.wrong for one in compare(vectors, signed))
    real = {
        n: ((v.codes.astype(np.float32) - v.zero_point) * v.scale).astype(np.float32)
        for n, v in vectors.values.items()
    }
    assert not any(one.wrong for one in compare(vectors, real))


def test_what_can_not_be_compared_is_an_error(made, tmp_path):
    _, vectors, *_ = made
    name, value = next(iter(vectors.values.items()))
    for given, why in (
        ({}, "is empty"),
        ({"elsewhere": value.codes}, "no value 'elsewhere'"),
        ({name: value.codes.transpose(0, 2, 3, 1)}, "order that torch has"),
    ):
        with pytest.raises(FormatError, match=why):
            compare(vectors, given)
    (tmp_path / "no.npz").write_bytes(b"hello")
    with pytest.raises(FormatError, match=r"no\.npz"):
        read_arrays(tmp_path / "no.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(FormatError, match="no vectors"):
        read_vectors(tmp_path / "other.npz")
