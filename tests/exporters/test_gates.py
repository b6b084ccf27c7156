"""Gates, means and second grids on integers alone: what ONNX Runtime makes of them, and that
nothing changes by it.
"""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte.core import Grid, GridSpec, Uniform
from subbyte.exporters.editor import Editor
from subbyte.exporters.gates import hard_sigmoid
from subbyte.exporters.pools import pool_means
from subbyte.ranges import Gate, fit_grid
from tests.exporters.pairs import needs_dots
from tests.exporters.test_bounds import IMAGES, exported, kinds


class Gated(nn.Module):
    """A convolution, an activation, and squeeze-and-excitation."""

    def __init__(self, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.stem, self.activation, self.gate = nn.Conv2d(3, 8, 3), activation, gate
        self.squeeze, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.stem(x))
        scale = self.gate(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.head(x * scale)


@needs_dots
@pytest.mark.parametrize(
    ("activation", "gate"),
    [(nn.Hardswish(), nn.Hardsigmoid()), (nn.SiLU(), nn.Sigmoid())],
    ids=["hard", "smooth"],
)
def test_squeeze_and_excitation_stays_in_integers(activation, gate, tmp_path):
    torch.manual_seed(0)
    network = Gated(activation, gate)
    model = exported(network, tmp_path / "net.onnx")
    found = kinds(tmp_path / "net.onnx", optimized=True)
    assert (found["QLinearMul"], found["QLinearConv"]) == (2, 3)
    assert found["QLinearGlobalAveragePool"] == 1
    assert not {"HardSigmoid", "Sigmoid", "Mul", "ReduceMean"} & set(found)
    with torch.no_grad():
        expected = network(IMAGES)
    noise = (model(IMAGES) - expected).square().mean() / expected.square().mean()
    assert float(noise) < 1e-3
    far = 40 * IMAGES  # gates at both ends
    torch.testing.assert_close(
        subbyte.runner(tmp_path / "net.onnx")(far), model(far), rtol=0, atol=1e-4
    )


def test_files_for_every_processor_keep_the_operation(tmp_path):
    torch.manual_seed(0)
    exported(Gated(nn.Hardswish(), nn.Hardsigmoid()), tmp_path / "net.onnx", optimize="exact")
    assert kinds(tmp_path / "net.onnx")["HardSigmoid"] == 2


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_hard_sigmoid_in_codes_is_the_hard_sigmoid_of_the_values(bits):
    """For every code of inputs on grids of many steps."""
    gate = fit_grid(
        Gate(), torch.rand(1, 10), GridSpec(Uniform(bits, signed=False, symmetric=False))
    )
    half = round(0.5 / float(gate.scale))
    assert abs(0.5 / float(gate.scale) - half) < 1e-5
    for step in np.geomspace(1e-3, 1.0, 40):
        values = (torch.arange(256) - 117) * float(step)
        shifted = torch.round(values / (6 * gate.scale)) + half
        codes = shifted.clamp(0, 2 * half)
        wanted = gate.encode(nn.functional.hardsigmoid(values))
        ties = ((values / (6 * gate.scale)) % 1 - 0.5).abs() < 1e-3
        assert torch.equal(codes[~ties], wanted[~ties].float())


def test_a_value_on_two_grids_is_never_float_between_them(tmp_path):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            return (self.b(x) + x).relu()

    torch.manual_seed(0)
    exported(Two(), tmp_path / "net.onnx", "w4a4")
    found = kinds(tmp_path / "net.onnx", optimized=True)
    assert found["QLinearLeakyRelu"] >= 1
    assert found["QuantizeLinear"] == 1 and found["DequantizeLinear"] == 1


@pytest.mark.parametrize(("axes", "kept"), [((2, 3), True), ((-1, -2), True), ((1, 2), True)])
def test_means_over_all_positions_are_pools(axes, kept):
    value = ir.Value(name="x", shape=ir.Shape([2, 3, 4, 5]), type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 21})
    mark = ir.node("Relu", [value])
    graph.append(mark)
    editor = Editor(graph)
    where = editor.constant("axes", lambda: np.array(axes, np.int64))
    mean = ir.node("ReduceMean", [mark.outputs[0], where], attributes={"keepdims": int(kept)})
    mark.outputs[0].shape = value.shape
    graph.append(mean)
    graph.outputs.append(mean.outputs[0])
    pool_means(graph)
    wanted = "ReduceMean" if axes == (1, 2) else "GlobalAveragePool"
    assert [node.op_type for node in graph] == ["Relu", wanted]


def test_codes_of_a_gate_are_written_with_its_ends():
    value = ir.Value(name="x")
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 21})
    graph.append(ir.node("HardSigmoid", [value]))
    end = ir.node("Identity", [graph[0].outputs[0]])
    graph.append(end)
    grid = Grid.of(GridSpec(Uniform(8, signed=False, symmetric=False)), torch.tensor(1 / 254))
    hard_sigmoid(Editor(graph), "g", graph[0].outputs[0], float(grid.scale), 127, end)
    assert [node.op_type for node in graph][1:4] == ["LeakyRelu", "QuantizeLinear", "Clip"]
    assert int(graph.initializers["g.highest"].const_value.numpy()) == 254
