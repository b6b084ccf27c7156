"""Captured graphs on disk: what is read is what was captured, and nothing else can be."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

import subbyte.graph.network as network_module
from subbyte.graph import Network, prepare
from subbyte.graph.as_tensors import UnstorableError, from_tensors, to_tensors
from subbyte.graph.instrument import copied
from subbyte.io.cache import Cache
from tests.reference.networks import NAMES, build, captured, images, prepared


def known(value: Any) -> Any:
    """Type and sizes of a node's value."""
    if isinstance(value, tuple | list):
        return tuple(known(each) for each in value)
    if not isinstance(value, Tensor):
        return None
    return value.dtype, tuple(size if isinstance(size, int) else "batch" for size in value.shape)


def described(network: Network) -> list[Any]:
    nodes = [
        (n.name, n.op, n.target, str(n.args), str(n.kwargs), known(n.meta.get("val")))
        for n in network.graph_module.graph.nodes
        if n.op != "output"
    ]
    layers = [
        (layer.name, layer.node.name, layer.geometry, layer.owner) for layer in network.layers
    ]
    taps = [(tap.name, tap.node.name, tap.feeds, tap.others, tap.axis) for tap in network.taps]
    rest = [
        network.skipped,
        network.folded,
        network.fold_error,
        network.signature,
        network.multiplications,
        network.output_names,
        network.float_bytes,
    ]
    return [*nodes, *layers, *taps, *rest]


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if k % 3 else []) for k, name in enumerate(NAMES)],
)
def test_a_network_is_the_same_from_the_cache(name, cache, monkeypatch):
    once, graph_module = prepared(name), copied(captured(name)[1])
    monkeypatch.setattr(network_module, "capture", lambda *_: graph_module)
    prepare(build(name), images(name), cache)
    assert len(list(cache.folder.iterdir())) == 1
    monkeypatch.setattr(network_module, "capture", lambda *_: pytest.fail("it is in the cache"))
    again = prepare(build(name), images(name), cache)
    assert described(again) == described(once)
    for count in (1, 2, 5):
        x = images(name, count, seed=count)
        assert torch.equal(again.graph_module(x), once.graph_module(x))


def test_other_inputs_are_captured_anew(cache):
    for size in (4, 6):
        network = prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, size, size), cache)
        assert network.signature.leaves[0].shape == (3, size, size)
    assert len(list(cache.folder.iterdir())) == 2


TREES = pytree.tree_structure(((0,), {})), pytree.tree_structure(0)
"""Of one input and one output."""


def changed(tensors: dict[str, Tensor], before: str, after: str) -> dict[str, Tensor]:
    text = bytes(tensors["graph"].numpy()).decode()
    assert before in text
    return tensors | {
        "graph": torch.frombuffer(bytearray(text.replace(before, after), "utf8"), dtype=torch.uint8)
    }


@pytest.mark.parametrize(
    "function",
    ["os.system", "prims.conv2d.default", "aten.conv2d", "operator.setitem", "aten.no.default"],
)
def test_only_operations_of_graphs_are_called(function):
    tensors = changed(to_tensors(captured("functional")[1]), "aten.conv2d.default", function)
    with pytest.raises((ValueError, AttributeError)):
        from_tensors(tensors, *TREES)


@pytest.mark.parametrize(
    ("op", "place", "odd"),
    [
        ("placeholder", 0, "x = f()"),
        ("placeholder", 2, "_ = f()\nx"),
        ("get_attr", 2, 'x", f()) #'),
        ("call_function", 4, ["dict", ["x=f(), y", 1]]),
        ("call_function", 1, "call_method"),
        ("call_function", 2, ["function", "aten.from_file.default"]),
        ("placeholder", 0, "class"),
    ],
)
def test_names_hold_no_code(op, place, odd):
    """torch writes names into code of its own making."""
    tensors = to_tensors(captured("functional")[1])
    nodes = json.loads(bytes(tensors["graph"].numpy()))
    next(node for node in nodes if node[1] == op)[place] = odd
    text = bytearray(json.dumps(nodes).encode())
    with pytest.raises(ValueError, match=r"is no (name|node|operation)"):
        from_tensors(tensors | {"graph": torch.frombuffer(text, dtype=torch.uint8)}, *TREES)


def test_what_names_torchs_things_names_types_only():
    tensors = to_tensors(captured("bare")[1])
    with pytest.raises(ValueError, match="no type"):
        from_tensors(changed(tensors, '"float32"', '"compile"'), *TREES)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[[1, 2]]", json.dumps([["x", "placeholder", "x"]]).encode()]
)
def test_a_graph_that_cannot_be_read_is_captured_again(content, cache):
    what = "graph for inputs torch.float32 (6,)"
    prepare(build("bare"), images("bare"), cache)
    whole = cache.find(what)
    assert whole is not None
    cache.keep(
        what, whole | {"graph": torch.frombuffer(bytearray(content or b"\n"), dtype=torch.uint8)}
    )
    assert described(prepare(build("bare"), images("bare"), cache)) == described(prepared("bare"))
    mended = cache.find(what)
    assert mended is not None and torch.equal(mended["graph"], whole["graph"])


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.register_buffer("turn", torch.tensor([1j, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        return (self.inner(x) * self.turn).real + self.inner(x)


class Constants(nn.Module):
    """Tensors that are neither parameters nor buffers, one of them made on the way."""

    def __init__(self, factor: float = 1.5) -> None:
        super().__init__()
        self.inner, self.factors = nn.Linear(3, 3), torch.full((3,), factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x * self.factors) + torch.tensor([1.0, 2.0, 3.0])


def test_constants_are_kept(cache):
    torch.manual_seed(0)
    model, x = Constants(), torch.randn(4, 3)
    once, again = prepare(model, x, cache), prepare(model, x, cache)
    assert len(list(cache.folder.iterdir())) == 1
    assert torch.equal(once.graph_module(x), again.graph_module(x))
    assert once.float_bytes == again.float_bytes


def test_a_graph_that_is_not_the_models_is_captured_again(cache):
    torch.manual_seed(0)
    model, x = Constants(), torch.randn(4, 3)
    prepare(model, x, cache)
    model.factors = 4 * model.factors
    again = prepare(model, x, cache)
    torch.testing.assert_close(again.graph_module(x), model(x))
    assert torch.equal(prepare(model, x, cache).graph_module(x), again.graph_module(x))


def test_memory_formats_make_no_difference(cache):
    """They decide which kernels run, and so the last bits."""
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)),
        torch.randn(2, 3, 9, 9),
    )
    model = model.to(memory_format=torch.channels_last)
    once, again = prepare(model, x, cache), prepare(model, x, cache)
    assert torch.equal(once.graph_module(x), again.graph_module(x)) and cache.folder.exists()


def called(function: Any) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output((graph.call_function(function, (graph.placeholder("x"),)),))
    return fx.GraphModule(nn.Module(), graph)


def test_a_graph_that_has_no_file_is_not_kept(cache):
    with pytest.raises(UnstorableError, match="call of"):
        to_tensors(called(Path))
    network = prepare(Complex(), torch.randn(2, 3), cache)
    assert network.layers and not cache.folder.exists()
