"""Files of a fixed batch, and what exporters refuse."""

import onnx
import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import DataError, RecipeError
from subbyte.exporters import export, form_of, network_runner, runner

X = torch.rand(10, 3, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), pool, nn.Flatten()).eval()


def sizes(path):
    graph = onnx.load(path).graph
    shape = graph.input[0].type.tensor_type.shape
    return [size.dim_param or size.dim_value for size in shape.dim]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_fixes_all_sizes_and_is_fed_batch_by_batch(network, batch, tmp_path):
    model = subbyte.quantize(network, X, recipe="w8a8", dynamic=("height", "width"))
    made = export(model, tmp_path / "net.onnx", X, static=batch)
    assert made.form.batch == batch == form_of(tmp_path / "net.onnx").batch
    assert sizes(tmp_path / "net.onnx") == [batch, 3, 6, 8]
    assert not {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node} & {"Shape"}
    assert torch.equal(network_runner(tmp_path / "net.onnx")(X), model(X))
    with pytest.raises(DataError, match=f"takes float32 \\[{batch}, 3, 6, 8\\]"):
        runner(tmp_path / "net.onnx")(X)
    export(model, tmp_path / "any.onnx", X)
    assert sizes(tmp_path / "any.onnx") == ["batch", 3, "height", "width"]


def test_targets_of_fixed_sizes_get_files_for_one_sample(network, tmp_path):
    model = subbyte.quantize(network, X, recipe="w8a8", target="int8-mcu")
    assert export(model, tmp_path / "net.onnx", X).form.batch == 1
    assert export(model, tmp_path / "two.onnx", X, static=2).form.batch == 2


def test_an_output_without_samples_has_no_fixed_batch(tmp_path):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, rows):
            return self.fc(rows).mean(0)

    rows = torch.rand(10, 6)
    model = subbyte.quantize(Whole().eval(), rows, recipe="w4")
    with pytest.raises(DataError, match="does not count samples along its first axis"):
        export(model, tmp_path / "net.onnx", rows, static=2)
    assert not list(tmp_path.iterdir())


def test_forms_that_there_are_not_are_refused(network, tmp_path):
    model = subbyte.quantize(network, X, recipe="w4")
    with pytest.raises(RecipeError, match="static must be at least 1 sample, got 0"):
        export(model, tmp_path / "net.onnx", X, static=0)
    for setting, known in (("optimize", "speed, size, exact"), ("input", "float, uint8")):
        with pytest.raises(RecipeError, match=f"{setting} is one of {known}; got 'best'"):
            export(model, tmp_path / "net.onnx", X, **{setting: "best"})
    with pytest.raises(RecipeError, match="torch writes no files for batches of 2 alone"):
        export(model, tmp_path / "net.pt2", X, to="torch", static=2)
    with pytest.raises(RecipeError, match="torch: optimize is one of speed, got exact"):
        export(model, tmp_path / "net.pt2", X, to="torch", optimize="exact")
