"""Graphs compute what the user's modules compute, and leave those alone."""

import copy
import importlib.util
import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte import Inputs
from subbyte.errors import CaptureError, NumericsError
from subbyte.graph import capture, prepare
from tests.reference.networks import NAMES, Calls, build, captured, images, outputs

every_network = pytest.mark.parametrize("name", NAMES)


@every_network
def test_outputs_are_those_of_the_module_for_any_batch_size(name):
    model, graph_module = captured(name)
    for count in (1, 7):
        x = images(name, count, seed=count)
        with torch.no_grad():
            torch.testing.assert_close(graph_module(x), outputs(model, x), rtol=1e-5, atol=1e-6)


@every_network
def test_the_graph_is_functional_with_one_input_and_the_users_names(name):
    model, graph_module = captured(name)
    nodes = graph_module.graph.nodes
    assert sum(node.op == "placeholder" for node in nodes) == 1
    assert {node.op for node in nodes} <= {"placeholder", "get_attr", "call_function", "output"}
    for node in nodes:
        schema = getattr(node.target, "_schema", None)
        assert schema is None or not schema.is_mutable, f"{node} changes its arguments"
    used = {node.target for node in nodes if node.op == "get_attr"}
    computed = {"body.weight"} if name == "computed" else set()
    assert used and used <= set(model.state_dict()) | computed


@pytest.mark.parametrize("name", ["residual", "tied", "computed"])
@pytest.mark.parametrize("act", [capture, prepare])
def test_the_users_tensors_stay_as_they_are(name, act):
    model = build(name)
    tensors = dict(model.state_dict(keep_vars=True))
    before = copy.deepcopy(model.state_dict())
    act(model, images(name))
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before) and model.training
    assert all(
        after[key] is tensors[key] and torch.equal(after[key], before[key]) for key in before
    )
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("cut", [lambda x: x[..., :5], lambda x: x[:, :, ::2, ::2]])
def test_parts_of_larger_images_are_captured_like_any(cut):
    """They lie in memory with gaps."""
    model = Calls(lambda m, x: F.relu(m.conv(x)), conv=nn.Conv2d(3, 4, 3)).eval()
    x = cut(torch.randn(4, 3, 12, 12))
    assert torch.allclose(capture(model, x)(x), model(x), atol=1e-6)


@pytest.mark.parametrize("act", [capture, prepare])
def test_parts_that_are_frozen_in_training_stay_frozen(act):
    model = build("sequential")
    for k, module in enumerate(model.modules()):
        module.training = k % 2 == 0
    modes = [module.training for module in model.modules()]
    act(model, images("sequential"))
    assert [module.training for module in model.modules()] == modes


def test_the_graph_owns_its_tensors():
    model = build("sequential")
    graph_module = capture(model, images("sequential"))
    expected = graph_module(images("sequential"))
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(graph_module(images("sequential")), expected)


@pytest.mark.parametrize("count", [1, 5])
def test_an_example_of_any_batch_size_will_do(count):
    graph_module = capture(build("views"), images("views", count))
    x = images("views", 4)
    torch.testing.assert_close(graph_module(x), outputs(build("views"), x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_in_float32_and_come_back(dtype):
    model, x = build("sequential").to(dtype), images("sequential")
    graph_module = capture(model, x.to(dtype))
    assert {p.dtype for p in model.parameters()} == {dtype}
    found = graph_module(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, outputs(model.float(), x))


def test_state_that_is_no_tensor_does_no_harm():
    class Tagged(nn.Linear):
        def get_extra_state(self):
            return {"version": 3}

        def set_extra_state(self, state):
            pass

    model, x = nn.Sequential(Tagged(4, 2)), torch.randn(3, 4)
    torch.testing.assert_close(capture(model, x)(x), outputs(model, x))


@pytest.mark.parametrize(
    ("key", "value"),
    [("0.weight", torch.nan), ("1.running_var", torch.nan), ("8.bias", -torch.inf)],
)
def test_weights_that_are_no_numbers_are_named(key, value):
    model = build("sequential")
    model.state_dict()[key].view(-1)[1] = value
    with pytest.raises(NumericsError, match=f"'{key}'"):
        capture(model, images("sequential"))


USER_FILE = """
import torch
from torch import Tensor, nn


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        if y.sum() > 0:
            return y
        return -y


class Item(Branching):
    def forward(self, x):
        count = int(x.abs().sum().item())
        return self.layer(x) * torch.ones(count).sum()


class Raising(Branching):
    def forward(self, x):
        return self.layer(checked(x))


def checked(x):
    if x.shape[1] != 5:
        raise RuntimeError("five features, please")
    return x
"""
LINES = {
    "Branching": (13, "data-dependent"),
    "Item": (20, "data-dependent"),
    "Raising": (31, "five features, please"),
}


def users_network(path: Path, name: str) -> nn.Module:
    path.parent.mkdir(exist_ok=True)
    path.write_text(USER_FILE)
    spec = importlib.util.spec_from_file_location("users_network", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)()


@pytest.mark.parametrize("folder", ["mine", "subbyte-experiments", "torch"])
@pytest.mark.parametrize("name", LINES)
def test_errors_show_the_users_line_and_pytorchs_reason(name, folder, tmp_path):
    path = tmp_path / folder / "network.py"
    line, reason = LINES[name]
    with pytest.raises(CaptureError) as caught:
        capture(users_network(path, name), torch.randn(3, 4))
    message = str(caught.value)
    assert f"{path}:{line}" in message and reason in message
    assert name in message and "float32 [3, 4]" in message
    assert caught.value.__cause__ is not None


def test_a_failure_prints_and_logs_nothing_and_leaves_logging_as_it_was(tmp_path, capsys, caplog):
    caplog.set_level(logging.WARNING, "torch")
    caplog.set_level(logging.INFO, "torch.export")
    with pytest.raises(CaptureError):
        capture(users_network(tmp_path / "network.py", "Branching"), torch.randn(3, 4))
    assert capsys.readouterr() == ("", "")
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert logging.getLogger("torch").level == logging.WARNING
    assert logging.getLogger("torch.export").level == logging.INFO


def test_a_shape_that_does_not_fit_is_explained():
    with pytest.raises(CaptureError, match=r"\[3, 2, 8, 8\].*3 channels"):
        capture(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(3, 2, 8, 8))


def test_a_second_input_is_named_and_no_library_line_is_blamed():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, mask):
            return self.layer(x) * mask

    with pytest.raises(CaptureError, match="'mask'") as caught:
        capture(Two(), torch.randn(3, 4))
    assert "inspect.py" not in str(caught.value)


COUNTS = {
    "len": lambda x: x.reshape(len(x), -1),
    "new": lambda x: x + torch.zeros(len(x), 1),
    "compared": lambda x: x if len(x) > 1 else 2 * x,
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_number_of_samples_that_python_asks_for_stays_open(name):
    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(COUNTS[name](x))

    model = Counting(4, 2)
    graph = capture(model, torch.randn(8, 4))
    for count in (2, 7):
        x = torch.randn(count, 4)
        assert torch.equal(graph(x), model(x))


@pytest.mark.parametrize("parts", [list, lambda x: x.split(1)], ids=["loop", "split"])
def test_a_loop_over_the_samples_is_explained(parts):
    class Looping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([nn.Linear.forward(self, each) for each in parts(x)])

    with pytest.raises(CaptureError, match="as in a loop over them"):
        capture(Looping(4, 2), torch.randn(8, 4))


def test_a_fixed_batch_size_is_refused():
    model = Calls(lambda m, x: m.layer(x.reshape(2, 4)), layer=nn.Linear(4, 4))
    with pytest.raises(CaptureError, match="Calls"):
        capture(model, torch.randn(2, 4))


def test_dropout_leaves_no_operation():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout(0.9), nn.ReLU())
    calls = [
        n.target for n in capture(model, torch.randn(2, 4)).graph.nodes if n.op == "call_function"
    ]
    assert calls == [torch.ops.aten.linear.default, torch.ops.aten.relu.default]


def test_layers_and_pools_stay_one_operation_each():
    def run(m, x):
        return F.adaptive_avg_pool2d(F.avg_pool2d(F.max_pool2d(m.c(x), 2), 2), 1)

    graph_module = capture(Calls(run, c=nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 18, 18))
    calls = [n.target for n in graph_module.graph.nodes]
    aten = torch.ops.aten
    for operation in (
        aten.conv2d.default,
        aten.max_pool2d.default,
        aten.avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
    ):
        assert operation in calls


def test_networks_in_another_memory_format():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 5))
    x = torch.randn(3, 3, 4, 4)
    graph_module = capture(model.to(memory_format=torch.channels_last), x)
    with torch.no_grad():
        for images in (x, x.to(memory_format=torch.channels_last)):
            torch.testing.assert_close(graph_module(images), model(images))


@pytest.mark.parametrize("bound", [torch.clamp, torch.clip, F.hardtanh])
def test_bounds_are_of_one_type(bound):
    """torch.onnx has no form of a whole number beside a fraction."""
    model = Calls(lambda m, x: bound(m.layer(x), -1, 0.5), layer=nn.Linear(4, 3))
    graph = capture(model, torch.randn(3, 4)).graph
    (node,) = (n for n in graph.nodes if n.args[1:] == (-1, 0.5))
    assert all(isinstance(number, float) for number in node.args[1:])
    assert node.target in (torch.ops.aten.clamp.default, torch.ops.aten.hardtanh.default)


def test_whole_numbers_keep_their_bounds():
    model = Calls(lambda m, x: m.layer(x) * x.long().clamp(-1, 2), layer=nn.Linear(4, 4))
    graph = capture(model, torch.randn(3, 4)).graph
    assert any(n.args[1:] == (-1, 2) and isinstance(n.args[1], int) for n in graph.nodes)


def test_the_users_forward_is_his_again():
    class Any(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, *values, **others):
            return self.layer(values[0]) * others["scale"]

    model, own = Any(), lambda *values, **others: Any.forward(model, *values, **others) + 1
    inputs = Inputs(torch.randn(3, 4), scale=torch.rand(3, 1))
    capture(model, inputs)
    assert "forward" not in vars(model)
    model.forward = own  # as users patch it
    graph_module = capture(model, inputs)
    assert model.forward is own
    x, scale = torch.randn(7, 4), torch.rand(7, 1)
    torch.testing.assert_close(graph_module(x, scale=scale), own(x, scale=scale))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_pixels_as_whole_numbers_are_told_what_networks_take(dtype):
    pixels = torch.zeros(2, 3, 4, 4, dtype=dtype)
    with pytest.raises(CaptureError, match="give images as floating point, scaled and normalized"):
        capture(nn.Conv2d(3, 2, 1), pixels)
