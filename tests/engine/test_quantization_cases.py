"""Networks that once failed, with what they expect, and three variants of each.

They lie beside the repository, in ../shared/cases/networks.py; without it these tests are skipped.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import onnx
import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte import QuantizedModel
from tests.networks import signal_to_noise
from tests.reference.cases import VARIANTS

CASES = Path(__file__).parents[2].parent / "shared" / "cases" / "networks.py"


def load_cases() -> ModuleType | None:
    if not CASES.exists():
        return None
    spec = importlib.util.spec_from_file_location("shared_cases", CASES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FOUND = load_cases()
NAMES = [] if FOUND is None else [n for n, v in vars(FOUND).items() if isinstance(v, FunctionType)]
LEAST = {"w8a8": 20.0, "w4a4": 4.0, "w2": 2.0, "w4": 8.0}
"""Signal-to-noise of outputs in dB, by recipe: of random networks, which forgive little."""


EACH = 4  # the case itself, and three variants


def constants_have_none(q: QuantizedModel, path: Path) -> None:
    assert len(q.plan.taps) <= 4 and not any("constant" in tap.name for tap in q.plan.taps)


def all_layers(q: QuantizedModel, path: Path) -> None:
    assert not [row for row in q.ledger if row.kind == "rest" or row.bits == "float"]


def four_bit_products(q: QuantizedModel, path: Path) -> None:
    (product,) = (row for row in q.ledger if row.kind == "product")
    assert product.bits == "4 x 4" and product.multiplications == 6 * 6 * 8 and product.integer


def integer_biases(q: QuantizedModel, path: Path) -> None:
    assert all("float" not in row.reason for row in q.ledger), "a bias stays float"


def no_pads(q: QuantizedModel, path: Path) -> None:
    assert "Pad" not in {node.op_type for node in onnx.load(path).graph.node}


def named_output(q: QuantizedModel, path: Path) -> None:
    assert [value.name for value in onnx.load(path).graph.output] == ["output"]


def agreement(q: QuantizedModel, path: Path) -> None:
    assert q.findings.agreement is not None and q.findings.agreement > 80


EXPECTED: dict[str, Callable[[QuantizedModel, Path], None]] = {
    "sum_of_parameters": constants_have_none,
    "gate_from_a_parameter": constants_have_none,
    "bias_that_is_computed": all_layers,
    "attention_without_rows": four_bit_products,
    "one_dead_channel": integer_biases,
    "pad_before_a_convolution": no_pads,
    "output_name": named_output,
    "segmentation_agreement": agreement,
}
"""Expectations beyond a right file and little noise, by case."""
QUICK = {"additive_mask", *EXPECTED}
"""The others expect what every kind of network and every random one is held to."""


def made(name: str, variant: int) -> tuple[nn.Module, Tensor, str]:
    """A case, or one of its variants: network, inputs, recipe."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = VARIANTS[name][variant - 1]() if variant else getattr(FOUND, name)()
    model, inputs, recipe = found[:3]
    return model, inputs, recipe


def called(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x.clone())


@pytest.mark.skipif(FOUND is None, reason="no ../shared")
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, k, marks=pytest.mark.slow if k or name not in QUICK else [])
        for name in NAMES
        for k in range(EACH)
    ],
)
def test_networks_that_failed_go_all_the_way(name, variant, tmp_path):
    model, x, recipe = made(name, variant)
    expected = called(model, x)
    q = subbyte.quantize(model, x, recipe)
    least = 25 if name == "additive_mask" else LEAST[recipe]
    assert signal_to_noise(expected.float(), q(x)) > least
    subbyte.save(q, tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", model)
    assert torch.equal(again(x), q(x))
    path = tmp_path / "net.onnx"
    assert subbyte.export(q, path, x).parity.samples == len(x)
    torch.testing.assert_close(
        subbyte.runner(path)(x.float()), q(x), rtol=0, atol=float(q(x).abs().max()) / 20
    )
    if name in EXPECTED:
        EXPECTED[name](q, path)


@pytest.mark.skipif(FOUND is None, reason="no ../shared")
def test_every_case_has_its_variants():
    assert set(NAMES) == set(VARIANTS)
    assert all(len(variants) == EACH - 1 for variants in VARIANTS.values())
