"""OpenVINO's files: integer kernels, and no INT2."""

from collections import defaultdict

import pytest

from subbyte.errors import ParityError
from subbyte.exporters import export
from subbyte.exporters import openvino as exporting
from tests.networks import images, quantized

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")


def kernels(path):
    """The types that layers are computed in, by kind of layer, as OpenVINO says."""
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = defaultdict(set)
    for node in compiled.get_runtime_model().get_ops():
        about = node.get_rt_info()
        found[about["layerType"].value].add(about["runtimePrecision"].value)
    return found


@pytest.mark.parametrize("recipe", ["w8a8", "w4a4"])
def test_layers_are_computed_on_integers(recipe, tmp_path):
    made = export(
        quantized("residual", recipe), tmp_path / "n.xml", images("residual"), to="openvino"
    )
    found = kernels(made.path)
    assert found["Convolution"] | found["FullyConnected"] <= {"u8", "i8"}


def test_a_file_that_saturates_here_is_made_exact(tmp_path, monkeypatch):
    """As on a processor where the file for speed fails its proof."""
    proven, proofs = exporting.prove, []

    def fails_first(*given):
        proofs.append(given)
        if len(proofs) == 1:
            raise ParityError("the sums saturated")
        return proven(*given)

    monkeypatch.setattr(exporting, "prove", fails_first)
    made = export(
        quantized("residual", "w8a8"), tmp_path / "n.xml", images("residual"), to="openvino"
    )
    assert len(proofs) == 2 and not made.parity.saturating
    assert "f32" in kernels(made.path)["Convolution"]


def test_two_bits_lie_in_four_and_are_noted(tmp_path):
    model = quantized("shared", "ternary")
    made = export(model, tmp_path / "n.xml", images("shared"), to="openvino")
    assert set(made.notes) == set(model.weights)
    assert set(made.notes.values()) == {"ternary bits in INT4"}


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        export(quantized("shared", "w4"), tmp_path / f"{name}.xml", images("shared"), to="openvino")
    for end in (".xml", ".bin"):
        one, two = ((tmp_path / f"{name}{end}").read_bytes() for name in ("one", "two"))
        assert one == two and str(tmp_path).encode() not in one
