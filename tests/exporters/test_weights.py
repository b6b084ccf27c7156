"""Weights in ONNX files on processors whose kernels add pairs of products in saturating int16."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import subbyte
from subbyte.errors import ParityError
from subbyte.exporters import export
from subbyte.exporters.onnx import Onnx
from subbyte.methods import Exported
from tests.exporters.pairs import needs_dots, paired_sums, worst_inputs
from tests.networks import build, images, quantized

pytestmark = pytest.mark.usefixtures("long_names")

PRECISION = "session.x64quantprecision"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A function that exports a network once."""

    @cache
    def make(name: str, recipe: str, optimize: str) -> Exported:
        path = tmp_path_factory.mktemp("weights") / "model.onnx"
        return export(quantized(name, recipe), path, images(name), optimize=optimize)

    return make


def about(path):
    return {one.key: one.value for one in onnx.load(path).metadata_props}["subbyte.exact_on"]


def saturating(path, layers):
    """Layers with signed weights some of whose sums differ, columns in order of size."""
    held = {one.name: one for one in onnx.load(path).graph.initializer}
    for layer in layers:
        tensor = held[f"{layer.weight}.codes"]
        codes = numpy_helper.to_array(tensor).astype(int)
        codes = codes.reshape(len(codes), -1)
        if tensor.data_type == onnx.TensorProto.UINT8:
            continue
        for row in codes:
            inputs = np.concatenate(worst_inputs(row[None], 255))
            if (paired_sums(inputs, row[None], np.argsort(row)) != inputs @ row[:, None]).any():
                yield layer.name
                break


@needs_dots
@pytest.mark.parametrize("name", ["residual", "mobile"])
def test_layers_that_may_saturate_are_told_or_stored_unsigned(name, files):
    model = quantized(name, "w8a8")
    fast, exact = files(name, "w8a8", "speed"), files(name, "w8a8", "exact")
    depthwise = {"depthwise.0"} & {layer.name for layer in model.layers}
    found = set(saturating(fast.path, model.layers))
    assert found and found - set(fast.parity.saturating) == depthwise
    assert set(saturating(exact.path, model.layers)) == depthwise and not exact.parity.saturating
    assert about(fast.path) == "processors with integer dot products"
    assert about(exact.path) == "every processor"


def test_few_bits_never_saturate(files):
    model = quantized("residual", "w4a4")
    for made in (files("residual", "w4a4", "speed"), files("residual", "w4a4", "exact")):
        assert not made.parity.saturating and about(made.path) == "every processor"
        held = {one.name: one for one in onnx.load(made.path).graph.initializer}
        types = {held[f"{layer.weight}.codes"].data_type for layer in model.layers}
        assert types == {onnx.TensorProto.INT8}  # the fast kernels


@pytest.mark.parametrize(
    "name",
    [
        "residual",
        "mobile",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("tokens", "decoder")),
    ],
)
def test_the_sessions_option_for_exact_sums_changes_nothing_here(name, files):
    """With it ONNX Runtime takes signed weights for unsigned, which it can't where layers share a
    zero point.
    """
    x, found = images(name), []
    for optimize in ("speed", "exact"):
        path = files(name, "w8a8", optimize).path
        for setting in ("0", "1"):
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry(PRECISION, setting)
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            found.append(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_a_file_that_saturates_here_is_made_exact(tmp_path, monkeypatch):
    """As on a processor where the file for speed fails its proof."""
    proven, x = Onnx._proven, images("residual")

    def fails(self, model, path, *given):
        if about(path) != "every processor":
            raise ParityError("the sums saturated")
        return proven(self, model, path, *given)

    monkeypatch.setattr(Onnx, "_proven", fails)
    made = export(quantized("residual", "w8a8"), tmp_path / "model.onnx", x)
    assert about(made.path) == "every processor" and not made.parity.saturating


@pytest.mark.parametrize("layer", ["stem", "b2.conv1"])
def test_a_float_layer_between_grids_stays_float(layer, tmp_path):
    """ONNX Runtime would round its weight to 8 bits."""
    recipe = subbyte.load_recipe("w8a8", [f"layers.{layer}.skip=true"])
    model = subbyte.quantize(build("residual"), images("residual"), recipe)
    made = export(model, tmp_path / "net.onnx", images("residual"))
    assert layer not in model.weights and made.parity.ratio <= 1
