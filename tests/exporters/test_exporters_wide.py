"""Activations of 16 bits: codes of 16 bits in files, float32 around them, refusals elsewhere."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch

import subbyte
from subbyte.core import Uniform
from subbyte.errors import RecipeError
from subbyte.exporters import EXPORTERS, export, runner
from subbyte.exporters.device import compare
from subbyte.exporters.vectors import read_vectors, write_vectors
from subbyte.graph import Samples
from tests.networks import build, images, quantized

SIGNED = tuple(f"{group}.symmetric=true" for group in ("activations", "others", "input"))
SETTINGS = {"uint16": (), "int16": SIGNED}
every_kind = pytest.mark.parametrize("kind", SETTINGS)


@cache
def model(kind, network="shared"):
    return quantized(network, "w8a16", *SETTINGS[kind])


@every_kind
def test_every_value_is_quantized_to_16_bits_in_the_network(kind):
    net, x = model(kind), images("shared")
    assert {tap.spec.alphabet.count for tap in net.plan.taps} == {2**16}
    narrow = quantized("shared", "w8a8")
    exact = build("shared")(x)
    assert (net(x) - exact).norm() < 0.7 * (narrow(x) - exact).norm()
    tap = net.instrumented.tap(net.plan.taps[0].name)
    codes = tap.codes(x)
    wanted = torch.round(x.double() / tap.scale.double()) + tap.zero_point
    ends = (0, 2**16 - 1) if kind == "uint16" else (-(2**15), 2**15 - 1)
    assert (codes - wanted.clamp(*ends)).abs().max() <= 1 and codes.unique().numel() > 2**10


@every_kind
def test_onnx_files_hold_codes_of_16_bits_and_say_that_float_computes(kind, tmp_path):
    net, x = model(kind), images("shared")
    made = export(net, tmp_path / "net.onnx", x, to="onnx-int8")
    assert made.parity.classes == 100
    program = onnx.load(made.path)
    held = {one.name: one for one in program.graph.initializer}
    quantizers = [node for node in program.graph.node if node.op_type == "QuantizeLinear"]
    wanted = {"uint16": onnx.TensorProto.UINT16, "int16": onnx.TensorProto.INT16}[kind]
    assert {held[node.input[2]].data_type for node in quantizers} == {wanted}
    assert len(quantizers) == len(net.plan.taps)
    assert all("float32" in made.notes[tap.name] for tap in net.plan.taps)
    assert not made.parity.saturating and made.kernels.integer_multiplications == 0


def test_a_decoder_is_right_too(tmp_path):
    """ONNX Runtime rounds weights of transposed convolutions to 8 bits where a bias is inside."""
    net, x = model("uint16", "decoder"), images("decoder")
    made = export(net, tmp_path / "net.onnx", x, to="onnx-int8")
    assert made.parity.ratio <= 1


def test_a_packed_file_gives_the_same_network(tmp_path):
    for kind in SETTINGS:
        path = tmp_path / f"{kind}.safetensors"
        subbyte.save(model(kind), path)
        loaded = subbyte.load(path, build("shared"))
        assert torch.equal(loaded(images("shared")), model(kind)(images("shared")))


@every_kind
def test_vectors_hold_codes_of_16_bits(kind, tmp_path):
    net, x = model(kind), images("shared")
    write_vectors(net, tmp_path / "net.vectors.npz", Samples.of(x))
    vectors = read_vectors(tmp_path / "net.vectors.npz")
    assert {value.codes.dtype for value in vectors.values.values()} == {np.dtype(np.uint16)}
    same = {name: value.codes for name, value in vectors.values.items()}
    signed = {name: (codes.astype(int) - 2**15).astype(np.int16) for name, codes in same.items()}
    for codes in (same, signed):
        assert not any(one.wrong for one in compare(vectors, codes))
    name, codes = next(iter(same.items()))
    assert compare(vectors, {name: codes ^ 64})[0].wrong


@pytest.mark.parametrize("name", ["openvino", "executorch", "litert"])
def test_other_exporters_refuse_before_the_walk(name):
    refusal = EXPORTERS[name].refusal(quantized("shared", "w8a16", "weights.narrow=true").plan)
    assert "onnx-int8 or torch" in str(refusal)


def test_torch_programs_are_right(tmp_path):
    net, x = model("uint16"), images("shared")
    path = tmp_path / "net.pt2"
    export(net, path, x, to="torch")
    assert torch.equal(runner(path)(x), net(x))


def test_targets_say_whether_they_take_16_bits():
    """int8-mcu takes them without zero points alone; what it leaves open is chosen so."""
    x = images("shared")
    q = subbyte.quantize(build("shared"), x, "w8a16", target="int8-mcu")
    for tap in q.plan.taps:
        assert tap.spec.alphabet == Uniform(16, signed=True, symmetric=True)
    for target in ("xnnpack", "tensorrt", "litert"):
        with pytest.raises(RecipeError, match=f"target {target}: .*16 bits; it takes 8"):
            subbyte.quantize(build("shared"), x, "w8a16", target=target)


@pytest.mark.parametrize("bits", [9, 12, 15, 17, 32])
def test_widths_between_are_no_widths(bits):
    with pytest.raises(RecipeError, match="from 2 to 8, 16, or null"):
        subbyte.load_recipe("w8a8", [f"activations.bits={bits}"])
