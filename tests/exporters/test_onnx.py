"""ONNX files: they hold the integers they say, compute what torch computes, and run on integer
kernels.
"""

from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

import subbyte
from subbyte.errors import FormatError, ModelError, ParityError
from subbyte.exporters import export, runner
from subbyte.exporters import onnx as exporting
from subbyte.exporters.parity import check_parity
from subbyte.graph import Layer, Samples, set_tensor, tensor_at
from subbyte.methods import Exported
from tests.networks import NAMES, build, images, quantized

pytestmark = pytest.mark.usefixtures("long_names")

RECIPES = ["w8a8", "w4a8", "w4a4", "w4", "w3", "w2", "ternary"]
WEIGHT_ONLY = ["w4", "w3", "w2", "ternary"]
CONTAINERS = ["int8", "compact"]
TYPES = {
    "w8a8": "INT8",
    "w4a8": "INT4",
    "w4a4": "INT4",
    "w4": "INT4",
    "w3": "INT4",
    "w2": "INT2",
    "ternary": "INT2",
}

every_container = pytest.mark.parametrize("container", CONTAINERS)


def slow(*values: object):
    return pytest.param(*values, marks=pytest.mark.slow)


QUICK = {  # one of each type in each container
    ("w8a8", "int8"),
    ("w4a4", "int8"),
    ("w4a4", "compact"),
    ("w3", "compact"),
    ("w2", "int8"),
    ("w2", "compact"),
}
every_file = pytest.mark.parametrize(
    ("recipe", "container"),
    [pair if pair in QUICK else slow(*pair) for pair in product(RECIPES, CONTAINERS)],
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function that exports a network once: (export, what is in the file)."""

    @cache
    def make(name: str, recipe: str, container: str, *settings: str) -> tuple[Exported, ModelProto]:
        path = tmp_path_factory.mktemp("onnx") / "model.onnx"
        model, to = quantized(name, recipe, *settings), f"onnx-{container}"
        result = export(model, path, images(name), to=to)
        return result, onnx.load(path)

    return make


def initializers(program: ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in program.graph.initializer}


def type_of(tensor: onnx.TensorProto) -> str:
    return onnx.TensorProto.DataType.Name(tensor.data_type)


def dequantized(program: ModelProto, layer: Layer) -> np.ndarray:
    """A weight as ONNX defines what makes numbers of its codes, by numpy."""
    known = {
        name: numpy_helper.to_array(tensor).astype(
            np.int64 if type_of(tensor) == "INT64" else np.float32
        )
        for name, tensor in initializers(program).items()
    }
    of_codes = f"{layer.weight}.codes"
    for node in program.graph.node:
        if node.op_type in NUMBERS and all(name in known for name in node.input):
            if node.op_type == "Transpose" and known[node.input[0]].ndim == 2:
                continue  # the product's own
            settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            inputs = [known[name] for name in node.input]
            known[node.output[0]] = NUMBERS[node.op_type](*inputs, **settings)
            if of_codes in node.input:
                of_codes = node.output[0]
    return known[of_codes]


NOTHING = np.zeros((), np.float32)


def by_operator(codes, scale, zero=NOTHING, axis=1, block_size=None):
    """DequantizeLinear."""
    if block_size is not None:
        scale, zero = (p.repeat(block_size, axis=1)[:, : codes.shape[1]] for p in (scale, zero))
    elif scale.ndim:
        shape = [-1 if k == axis else 1 for k in range(codes.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (codes - zero) * scale


def cut(x, starts, ends, axes, steps):
    """Slice."""
    parts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = slice(start, end if end > -(2**30) else None, step)
    return x[tuple(parts)]


NUMBERS = {
    "DequantizeLinear": by_operator,
    "Cast": lambda x, to: x,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Expand": lambda x, shape: x * np.ones(shape, x.dtype),
    "Reshape": lambda x, shape: x.reshape(shape),
    "Transpose": lambda x, perm: x.transpose(perm),
    "Slice": lambda x, starts, ends, axes, steps=(1,): cut(x, starts, ends, axes, steps),
}
"""What stands between codes and a product."""


def optimized(path: Path, folder: Path) -> Counter[str]:
    """Operations of the graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def run(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


@every_file
def test_onnx_runtime_computes_what_torch_computes(recipe, container, exported):
    model, x = quantized("residual", recipe), images("residual")
    made, _ = exported("residual", recipe, container)
    assert made.parity.classes == 100 and made.parity.samples == len(x)
    expected, got = model(x), run(made.path, x)
    difference = (expected - got).abs()
    assert made.parity.outputs[0].largest == pytest.approx(float(difference.max()))
    assert torch.equal(expected.argmax(1), got.argmax(1))
    if recipe in WEIGHT_ONLY:
        assert float(difference.max()) < 1e-4 * float(expected.abs().max())
    else:  # a value on the border of two codes may fall to either side
        assert float(difference.max()) < 0.05 * float(expected.abs().max())
        assert float((difference > 1e-5).double().mean()) < 0.1


@every_file
def test_files_are_sound_onnx_of_the_opset_they_need(recipe, container, exported):
    made, program = exported("residual", recipe, container)
    onnx.checker.check_model(str(made.path), full_check=True)
    opset = 25 if container == "compact" and recipe in ("w2", "ternary") else 21
    assert [(entry.domain, entry.version) for entry in program.opset_import] == [("", opset)]
    assert made.opset == opset and made.bytes == made.path.stat().st_size
    assert (
        all(node.domain in ("", "ai.onnx") for node in program.graph.node) and not program.functions
    )


@every_file
def test_files_hold_the_integers_themselves(recipe, container, exported):
    _, program = exported("residual", recipe, container)
    model, found = quantized("residual", recipe), initializers(program)
    for layer in model.layers:
        stored = type_of(found[f"{layer.weight}.codes"])
        assert stored.removeprefix("U") == ("INT8" if container == "int8" else TYPES[recipe])
        expected = tensor_at(model.graph_module, layer.weight).numpy()
        assert np.array_equal(dequantized(program, layer), expected), layer.name
    floats = [
        tensor for tensor in found.values() if type_of(tensor) in ("FLOAT", "DOUBLE", "FLOAT16")
    ]
    # scales and biases, a number a channel
    assert max(np.prod(tensor.dims, initial=1) for tensor in floats) <= 16
    constants = [node for node in program.graph.node if node.op_type == "Constant"]
    assert sum(len(node.SerializeToString()) for node in constants) < 1000


def test_fewer_bits_make_smaller_files(exported):
    count = 8 * 27 + 2 * 8 * 72 + 16 * 72 + 16 * 144 + 80
    sizes = {pair: exported("residual", *pair)[0].bytes for pair in QUICK}
    # zero points, which int8 codes have room to take up, stand beside INT2 codes
    for recipe, saved, held in (("w4a4", count // 2, 0.75), ("w2", 3 * count // 4, 0.6)):
        assert sizes[recipe, "int8"] - sizes[recipe, "compact"] > held * saved


@every_file
def test_files_tell_nothing_of_the_machine(recipe, container, exported):
    data = exported("residual", recipe, container)[0].path.read_bytes()
    places = [str(Path(subbyte.__file__).parents[i]) for i in range(3)] + [
        str(Path.cwd()),
        str(Path.home()),
    ]
    for word in [
        "site-packages",
        ".py",
        "/home",
        "/usr",
        "Traceback",
        "forward",
        "nn.Module",
        *places,
    ]:
        assert word.encode() not in data, word


def test_eight_bits_run_on_integer_kernels_from_end_to_end(exported, tmp_path):
    found = optimized(exported("residual", "w8a8", "int8")[0].path, tmp_path)
    assert found["QLinearConv"] == 5 and found["QLinearAdd"] == 2 and found["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "Add", "Relu"} & set(found)


def test_fewer_bits_run_on_integer_kernels_too(exported, tmp_path):
    found = optimized(exported("residual", "w4a4", "int8")[0].path, tmp_path)
    assert found["QLinearConv"] == 5 and found["QLinearAdd"] == 2
    assert not {"Conv", "FusedConv", "Gemm", "Add"} & set(found)


@pytest.mark.parametrize(("name", "convs", "adds"), [("mobile", 4, 1), ("waves", 2, 0)])
def test_depthwise_grouped_and_1d_convolutions_run_on_integer_kernels(
    name, convs, adds, exported, tmp_path
):
    found = optimized(exported(name, "w8a8", "int8")[0].path, tmp_path)
    assert (found["QLinearConv"], found["QLinearAdd"]) == (convs, adds)
    assert not {"Conv", "FusedConv"} & set(found)


@every_container
def test_four_bit_activations_have_sixteen_levels(container, exported):
    """Every 4-bit tap: the values that the file computes are those of torch, on its 16 levels."""
    _, program = exported("residual", "w4a4", container)
    model, x = quantized("residual", "w4a4"), images("residual")
    probe = ModelProto()
    probe.CopyFrom(program)
    sites = {
        node.input[1]: node.output[0]
        for node in probe.graph.node
        if node.op_type == "DequantizeLinear"
    }
    four = [tap.name for tap in model.plan.taps if tap.spec.label == "4"]
    assert len(four) == 5
    for name in four:
        probe.graph.output.append(
            onnx.helper.make_tensor_value_info(sites[f"{name}.scale"], onnx.TensorProto.FLOAT, None)
        )
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for name, values in zip(four, session.run(None, {"x": x.numpy()})[1:], strict=True):
        grid = model.instrumented.tap(name).grid
        levels = (np.arange(16) - int(grid.zero_point)) * np.float32(grid.scale)
        assert set(np.unique(values)) <= set(levels.astype(np.float32)), name
        assert len(np.unique(values)) > 8


@pytest.mark.parametrize(
    ("recipe", "container"),
    [("w8a8", "int8"), slow("w2", "compact"), slow("w4", "int8"), slow("w4a8", "compact")],
)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "residual"])
def test_every_kind_of_network_agrees(name, recipe, container, exported):
    model, x = quantized(name, recipe), images(name)
    made, program = exported(name, recipe, container)
    assert made.parity.classes >= 97.5  # at most one image of 40 on the border of two codes
    expected, got = model(x), run(made.path, x)
    difference = (expected - got).abs().amax(1) / expected.abs().max()
    # ONNX Runtime multiplies matrices of integers with activations rounded to 8 bits a block
    # (MatMulNBits)
    blocks = name == "tokens" and (container == "compact" or recipe in WEIGHT_ONLY)
    assert float(difference.max()) < (0.1 if "a" in recipe else 1e-2 if blocks else 1e-4)
    assert blocks or float((difference > 1e-4).double().mean()) < 0.2
    for layer in model.owners:
        expected_weight = tensor_at(model.graph_module, layer.weight).numpy()
        assert np.allclose(dequantized(program, layer), expected_weight, rtol=1e-6, atol=0), (
            layer.name
        )


GRIDS = {
    "groups of 8": ("weights.granularity=group", "weights.group_size=8"),
    "one scale": ("weights.granularity=tensor",),
    "zero points": ("weights.symmetric=false",),
    "groups that do not divide": ("weights.granularity=group", "weights.group_size=7"),
    "one zero point": ("weights.symmetric=false", "weights.granularity=tensor"),
    "narrow": ("weights.narrow=true",),
    "zero points in groups": (
        "weights.symmetric=false",
        "weights.granularity=group",
        "weights.group_size=16",
    ),
}


@pytest.mark.parametrize(
    ("grid", "recipe", "container"),
    [
        ("groups of 8", "w8a8", "int8"),
        ("groups of 8", "w3", "compact"),
        ("one scale", "w8a8", "int8"),
        ("zero points", "w3", "compact"),
        *(slow(grid, "w8a8", "int8") for grid in list(GRIDS)[2:]),
        *(slow(grid, "w3", "compact") for grid in list(GRIDS)[3:]),
    ],
)
def test_every_kind_of_grid_agrees(grid, recipe, container, exported):
    model, x = quantized("mobile", recipe, *GRIDS[grid]), images("mobile")
    made, program = exported("mobile", recipe, container, *GRIDS[grid])
    assert made.parity.classes >= 97.5
    expected, got = model(x), run(made.path, x)
    difference = (expected - got).abs().amax(1) / expected.abs().max()
    assert float((difference > 1e-4).double().mean()) < (0.1 if "a" in recipe else 1e-9)
    for layer in model.layers:
        expected_weight = tensor_at(model.graph_module, layer.weight).numpy()
        assert np.allclose(dequantized(program, layer), expected_weight, rtol=1e-6, atol=0), (
            layer.name
        )


@pytest.mark.parametrize(
    ("name", "recipe", "container", "settings"),
    [
        ("decoder", "w4", "compact", ("weights.granularity=group", "weights.group_size=8")),
        ("decoder", "w8a8", "int8", ("weights.symmetric=false",)),
        ("residual", "w2", "compact", ("first_last=8",)),
        slow("residual", "w4a4", "int8", ("layers={b1.conv1: {skip: true}}",)),
        slow(
            "residual",
            "w8a8",
            "int8",
            ("activations.symmetric=true", "others.symmetric=true", "input.symmetric=true"),
        ),
        slow("residual", "w8a8", "int8", ("activations.bits=3", "others.bits=5", "input.bits=7")),
        slow("residual", "w8a8", "int8", ("input.bits=null", "others.bits=null")),
        slow("residual", "w4a4", "int8", ("first_last=8",)),
        slow("decoder", "w2", "compact", ("weights.granularity=tensor",)),
        slow("tokens", "w8a8", "int8", ("weights.granularity=group", "weights.group_size=8")),
    ],
)
def test_other_settings_agree(name, recipe, container, settings, exported):
    model, x = quantized(name, recipe, *settings), images(name)
    made, _ = exported(name, recipe, container, *settings)
    assert made.parity.classes >= 97.5
    difference = (model(x) - run(made.path, x)).abs().amax(1) / model(x).abs().max()
    assert float((difference > 1e-4).double().mean()) < 0.1


def test_first_and_last_layer_keep_their_own_type(exported):
    found = initializers(exported("residual", "w2", "compact", "first_last=8")[1])
    types = {
        name: type_of(found[f"{name}.weight.codes"])
        for name in ("stem", "b1.conv1", "b2.conv2", "fc")
    }
    assert types == {"stem": "INT8", "b1.conv1": "INT2", "b2.conv2": "INT2", "fc": "INT8"}


def test_skipped_layers_stay_float(exported):
    found = initializers(exported("residual", "w4a4", "int8", "layers={b1.conv1: {skip: true}}")[1])
    assert "b1.conv1.weight.codes" not in found and type_of(found["b1.conv1.weight"]) == "FLOAT"


def test_shared_weights_are_stored_once(exported):
    found = initializers(exported("shared", "w4", "int8")[1])
    assert sorted(name for name in found if name.endswith(".codes")) == [
        "head.weight.codes",
        "inner.weight.codes",
    ]


def test_loaded_models_export_to_the_same_bytes(exported, tmp_path):
    subbyte.save(quantized("residual", "w4a4"), tmp_path / "model.safetensors")
    loaded = subbyte.load(tmp_path / "model.safetensors", build("residual", seed=2))
    export(loaded, tmp_path / "model.onnx", images("residual"))
    made, _ = exported("residual", "w4a4", "int8")
    assert (tmp_path / "model.onnx").read_bytes() == made.path.read_bytes()


def test_a_wrong_integer_fails_parity(tmp_path, monkeypatch):
    """The certificate looks at the written file, not at what was meant to be written."""

    def spoiled(program, *others):
        facts = insert(program, *others)
        for name, value in program.graph.initializers.items():
            if name == "head.weight.codes":
                value.const_value = exporting.ir.tensor(-value.const_value.numpy(), name=name)
        return facts

    insert, model = exporting.insert_pairs, quantized("shared", "w4")
    monkeypatch.setattr(exporting, "insert_pairs", spoiled)
    with pytest.raises(ParityError):
        export(model, tmp_path / "model.onnx", images("shared"), to="onnx-int8")
    assert list(tmp_path.iterdir()) == []


def test_notes_say_how_bits_are_held(exported):
    assert "INT8" in exported("residual", "w4", "int8")[0].notes["fc"]
    assert exported("residual", "w4", "compact")[0].notes["fc"] == "INT4"
    assert "INT4" in exported("residual", "w3", "compact")[0].notes["fc"]
    assert "INT2" in exported("residual", "ternary", "compact")[0].notes["fc"]
    assert "0..15" in exported("residual", "w4a4", "int8")[0].notes["b1.conv1:out"]
    assert exported("residual", "w8a8", "int8")[0].notes == {}


def test_a_bias_beyond_int32_agrees(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(16, 3, 6, 6)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        network[0].weight.mul_(1e-9)
    model = subbyte.quantize(network, x, "w8a8")
    assert "int32" in next(row.reason for row in model.ledger if row.name == "0")
    assert export(model, tmp_path / "model.onnx", x).parity.outputs[0].largest < 1e-5


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_fails(error, tmp_path, monkeypatch):
    def fail(program, path):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(exporting.ir, "save", fail)
    with pytest.raises(type(error)):
        export(quantized("shared", "w4"), tmp_path / "model.onnx", images("shared"))
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_nan_fail_parity(exported):
    path = exported("shared", "w4", "int8")[0].path
    x = images("shared").clone()
    x[3] = torch.nan
    with pytest.raises(ParityError):
        check_parity(quantized("shared", "w4"), runner(path), Samples.of(x), "ONNX Runtime")


def test_another_networks_file_does_not_pass(exported):
    path = exported("shared", "w4", "int8")[0].path
    model = subbyte.quantize(build("shared"), images("shared"), "w4")
    set_tensor(
        model.graph_module,
        "head.bias",
        tensor_at(model.graph_module, "head.bias") + torch.tensor([9.0, 0, 0]),
    )
    with pytest.raises(ParityError):
        check_parity(model, runner(path), Samples.of(images("shared")), "ONNX Runtime")


LEVELS = [  # settings, container, ONNX type; None: float32
    ("weights.levels=wide weights.bits=1", "compact", "INT2"),
    ("weights.levels=wide weights.bits=3", "int8", "INT8"),
    ("weights.levels=wide weights.bits=4", "compact", "INT8"),
    ("weights.levels=wide weights.bits=8", "int8", "INT16"),
    ("weights.bits=16", "compact", "INT16"),
    ("weights.levels=odd weights.bits=2", "compact", "INT4"),
    ("weights.levels=11", "compact", "INT8"),
    ("weights.levels=[-1,0,0.5,1]", "compact", "INT4"),
    ("weights.levels=[-1,0,0.3,1]", "compact", None),
    ("weights.rounding=kmeans", "int8", None),
]


@pytest.mark.parametrize(("settings", "container", "wanted"), LEVELS)
def test_level_sets_are_integers_where_they_are_whole_numbers(
    settings, container, wanted, exported
):
    chosen = ("weights.symmetric=true", *settings.split())
    made, program = exported("functional", "w4", container, *chosen)
    model = quantized("functional", "w4", *chosen)
    held = initializers(program)
    for layer in model.layers:
        if wanted is None:
            assert f"{layer.weight}.codes" not in held and "float32" in made.notes[layer.name]
            continue
        assert type_of(held[f"{layer.weight}.codes"]) == wanted
        expected = layer.geometry.to_weight(model.weights[layer.name].dequantize()).numpy()
        np.testing.assert_allclose(dequantized(program, layer), expected, rtol=1e-6, atol=1e-7)
    assert made.parity.outputs[0].largest < 1e-4


def test_integer_kernels_take_level_sets(exported):
    made, program = exported("residual", "w4a8", "int8", "weights.levels=7")
    assert made.parity.classes == 100
    biases = [name for name in initializers(program) if name.endswith("bias.codes")]
    assert len(biases) == len(quantized("residual", "w4a8", "weights.levels=7").layers)


def test_an_operation_without_an_onnx_form_is_named_and_leaves_no_file(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    )
    x = torch.randn(8, 3, 10, 10)  # 8 is no multiple of 3
    q = subbyte.quantize(model, x)
    with pytest.raises(ModelError, match=r"^aten\.adaptive_max_pool2d has no ONNX form"):
        subbyte.export(q, tmp_path / "net.onnx", x)
    assert list(tmp_path.iterdir()) == [] and q(x).shape == (8, 3)


def test_a_file_that_fails_when_it_runs_is_explained_in_one_line(tmp_path):
    """As some operations do whose shapes ONNX Runtime reads from the batch."""
    two, float32 = numpy_helper.from_array(np.array([2]), "two"), onnx.TensorProto.FLOAT
    given, got = (onnx.helper.make_tensor_value_info(n, float32, ["n", 3]) for n in ("x", "y"))
    node = onnx.helper.make_node("Reshape", ["x", "two"], ["y"], name="the_culprit")
    graph = onnx.helper.make_graph([node], "net", [given], [got], [two])
    opsets = [onnx.helper.make_opsetid("", 21)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(FormatError, match=r"can't run it: .*Reshape.*the_culprit") as found:
        runner(tmp_path / "net.onnx")(torch.zeros(4, 3))
    assert "\n" not in str(found.value)
