"""The torch exporter: files and modules that torch runs without subbyte, to the bit."""

import os
import subprocess
import sys

import pytest
import torch

import subbyte
from subbyte.exporters import contents, export
from tests.networks import images, quantized

ALONE = """
import sys
sys.modules["subbyte"] = None  # whoever imports it fails
import torch
torch.set_num_threads(1)
x, y = torch.load(sys.argv[2])
program = torch.export.load(sys.argv[1]).module()
assert torch.equal(program(x), y) and torch.equal(program(x[:3]), y[:3])
"""


@pytest.mark.parametrize("network", ["residual", "mobile", "tokens"])
@pytest.mark.parametrize("recipe", ["w4a4", "w2"])
def test_programs_compute_what_the_model_computes_to_the_bit(network, recipe, tmp_path):
    model, x = quantized(network, recipe), images(network)
    made = export(model, tmp_path / "net.pt2", x, to="torch")
    assert made.parity.outputs[0].largest == 0
    assert torch.equal(subbyte.plain(model)(x), model(x))
    assert set(made.notes) == set(model.weights)


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("residual", ("activations.granularity=channel",)),
        ("residual", ("activations.dynamic=true", "activations.range=minmax")),
        ("norm first", ("softmax={bits: 4, levels: log2}",)),
    ],
)
def test_grids_of_every_kind_are_computed_to_the_bit(network, settings):
    """Scales of channels, ranges of every batch, uneven levels."""
    model, x = quantized(network, "w4a4", *settings), images(network)
    assert torch.equal(subbyte.plain(model)(x), model(x))


def test_files_run_where_there_is_no_subbyte(tmp_path):
    model, x = quantized("residual", "w4a4"), images("residual")
    export(model, tmp_path / "net.pt2", x, to="torch")
    torch.save((x, model(x)), tmp_path / "xy.pt")
    environment = os.environ | {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, "net.pt2", "xy.pt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_of_ours_is_in_a_program(tmp_path):
    model, x = quantized("residual", "w4a4"), images("residual")
    export(model, tmp_path / "net.pt2", x, to="torch")
    assert all(name.startswith("aten.") for name in contents(tmp_path / "net.pt2").operations)
    modules = {type(module).__module__ for module in subbyte.plain(model).modules()}
    assert not any(name.startswith("subbyte") for name in modules)


def test_the_same_network_gives_the_same_bytes(tmp_path):
    model, x = quantized("residual", "w4a4"), images("residual")
    for name in ("one.pt2", "two.pt2"):
        export(model, tmp_path / name, x, to="torch")
    content = (tmp_path / "one.pt2").read_bytes()
    assert content == (tmp_path / "two.pt2").read_bytes()
    assert str(tmp_path).encode() not in content and b".py" not in content
