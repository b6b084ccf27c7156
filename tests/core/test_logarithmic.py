"""Powers of two for what a softmax gives: from the recipe to a proven file."""

import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte.core import GridSpec, PowersOfTwo
from subbyte.errors import RecipeError
from subbyte.graph import mark_sites
from subbyte.ranges import Unit, fit_grid
from subbyte.recipe import load_recipe
from tests.reference.networks import Calls

LOG2 = "softmax={bits: 4, levels: log2}"


class Attention(nn.Module):
    """One head of attention over 12 tokens, with a causal mask. sharp: a factor on scores."""

    def __init__(self, sharp: float = 4.0) -> None:
        super().__init__()
        self.sharp = sharp
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 5)
        self.register_buffer("mask", torch.full((12, 12), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.sharp * self.query(x) @ self.key(x).transpose(1, 2) + self.mask
        return self.head((scores.softmax(-1) @ self.value(x)).mean(1))


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Attention().eval()


X = torch.randn(40, 12, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_from_0_to_1_they_are_0_and_the_powers_down_from_1(bits):
    grid = fit_grid(Unit(), torch.rand(1, 9), GridSpec(PowersOfTwo(bits)))
    powers = [2.0**-k for k in range(2**bits - 1)]
    assert grid.quantize(torch.tensor([*powers, 0.0])).tolist() == [*powers, 0.0]
    x = torch.rand(500, generator=torch.Generator().manual_seed(2)) ** 4
    nearest = [min([0.0, *powers], key=lambda p, v=float(v): abs(p - v)) for v in x]
    assert grid.quantize(x).tolist() == nearest
    assert grid.quantize(torch.tensor([-3.0, 7.0])).tolist() == [0.0, 1.0]


def test_from_the_recipe_to_a_proven_file(tmp_path):
    q = subbyte.quantize(network(), X, load_recipe("w4a4", [LOG2]))
    (tap,) = [tap for tap in q.plan.taps if isinstance(tap.spec.alphabet, PowersOfTwo)]
    (row,) = [row for row in q.ledger if row.name == tap.name]
    assert (row.asked, row.bits, row.reason) == ("4 log2", "4 log2", "")

    subbyte.save(q, tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", network(seed=2))
    assert torch.equal(again(X), q(X)) and again.plan == q.plan and again.ledger == q.ledger

    exported = subbyte.export(q, tmp_path / "net.onnx", X)
    assert exported.notes[tap.name] == "4 log2 bits: levels in float32"
    found = subbyte.runner(tmp_path / "net.onnx")(X[:7])
    assert torch.allclose(found, q(X[:7]), atol=1e-6)


@pytest.mark.parametrize(("setting", "marks"), [(LOG2, 1), ("softmax={bits: 8}", 2)])
def test_marks_are_repeated_behind_moves_of_integers_alone(setting, marks):
    layers = {"key": nn.Linear(8, 8), "value": nn.Linear(8, 8)}
    net = Calls(lambda m, x: m.key(x).softmax(-1).transpose(1, 2) @ m.value(x), **layers)
    q = subbyte.quantize(net, X, load_recipe("w8a8", [setting]))
    (tap,) = [tap.name for tap in q.plan.taps if "softmax" in tap.name]
    marked = mark_sites(q.instrumented, [])
    calls = [node.target for node in marked.graph.nodes if node.op == "call_module"]
    assert [marked.get_submodule(call).name for call in calls].count(tap) == marks


def test_learning_goes_through_them():
    q = subbyte.quantize(network(), X, load_recipe("w8a8", [LOG2]))
    (tap,) = [tap for tap in q.plan.taps if isinstance(tap.spec.alphabet, PowersOfTwo)]
    rounds = q.instrumented.tap(tap.name)
    x = torch.tensor([-1.0, 0.0, 0.3, 0.9, 2.0], requires_grad=True)
    y = rounds(x)
    y.sum().backward()
    assert torch.equal(y.detach(), rounds(x.detach()))
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("softmax={levels: log2}", "levels log2 have 2 to 5 bits, got 8"),
        ("softmax={bits: 4, levels: log3}", "softmax.levels"),
        ("softmax={bits: 4, levels: log2, symmetric: true}", "leave symmetric, dynamic"),
        ("softmax={bits: 4, levels: log2, granularity: channel}", "granularity channel out"),
        ("softmax={bits: 4, levels: log2, dynamic: true}", "leave symmetric, dynamic"),
        ("activations.levels=log2", "activations.levels: .*known here: allocate, bits"),
        ("weights.levels=log2", "'log2' has no numbers below 0, which weights have"),
    ],
)
def test_what_they_do_not_go_with_is_refused(said, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("w4a4", [said])


class Shared(Attention):
    """A softmax that a product and a layer read."""

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return self.head((weights @ self.value(x)).mean(1)) + self.last(weights.mean(1))

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 5)


def test_readers_of_equal_steps_have_a_quantizer_of_their_own():
    q = subbyte.quantize(Shared().eval(), X, load_recipe("w4a4", [LOG2, "others.bits=4"]))
    labels = {tap.spec.alphabet.label for tap in q.plan.taps if "softmax" in tap.name}
    assert labels == {"4", "4 log2"}
