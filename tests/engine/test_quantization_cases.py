"""Networks that once failed, with what they expect.

They lie beside the repository, in ../shared/cases/networks.py; without it these tests are skipped.
"""

import importlib.util
from pathlib import Path
from types import FunctionType, ModuleType

import onnx
import pytest
import torch
from torch import Tensor, nn

import subbyte
from tests.networks import signal_to_noise

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


OPEN = {
    "one_dead_channel": "a bias beyond int32 keeps its layer in float",
}
"""Cases that the exporters still have to mend, and why they fail."""


@pytest.fixture(params=NAMES or [pytest.param("", marks=pytest.mark.skip("no ../shared"))])
def case(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs, recipe, _, _ = getattr(FOUND, request.param)()
    if request.param in OPEN:
        request.applymarker(pytest.mark.xfail(reason=OPEN[request.param]))
    return request.param, model, inputs, recipe


def called(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x.clone())


def test_networks_that_failed_go_all_the_way(case, tmp_path):
    name, model, x, recipe = case
    expected = called(model, x)
    q = subbyte.quantize(model, x, recipe)
    assert signal_to_noise(expected.float(), q(x)) > LEAST[recipe]
    subbyte.save(q, tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", model)
    assert torch.equal(again(x), q(x))
    path = tmp_path / "net.onnx"
    assert subbyte.export(q, path, x).parity.samples == len(x)
    torch.testing.assert_close(
        subbyte.runner(path)(x.float()), q(x), rtol=0, atol=float(q(x).abs().max()) / 20
    )
    rows = {row.name: row for row in q.ledger}
    if name == "attention_without_rows":
        (product,) = (row for row in q.ledger if row.kind == "product")
        assert product.bits == "4 x 4" and product.multiplications == 6 * 6 * 8
        assert product.integer
    if name == "additive_mask":
        assert signal_to_noise(expected, q(x)) > 25
    if name == "one_dead_channel":
        assert all("float" not in row.reason for row in rows.values()), "a bias stays float"
    if name == "output_name":
        assert [value.name for value in onnx.load(path).graph.output] == ["output"]
