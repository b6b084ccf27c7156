"""The torch exporter: files and modules that torch runs without subbyte, to the bit."""

import os
import subprocess
import sys
from itertools import product

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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A program; do not change it."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    export(quantized("residual", "w4a4"), path, images("residual"), to="torch")
    return path


SLOW = {("residual", "w2"), ("mobile", "w4a4"), ("tokens", "w2")}


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case in SLOW else [])
        for case in product(("residual", "mobile", "tokens"), ("w4a4", "w2"))
    ],
)
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


def test_files_run_where_there_is_no_subbyte(written, tmp_path):
    model, x = quantized("residual", "w4a4"), images("residual")
    torch.save((x, model(x)), tmp_path / "xy.pt")
    environment = os.environ | {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, str(written), "xy.pt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_of_ours_is_in_a_program(written):
    assert all(name.startswith("aten.") for name in contents(written).operations)
    plain = subbyte.plain(quantized("residual", "w4a4"))
    modules = {type(module).__module__ for module in plain.modules()}
    assert not any(name.startswith("subbyte") for name in modules)


def test_the_same_network_gives_the_same_bytes(written, tmp_path):
    model, x = quantized("residual", "w4a4"), images("residual")
    export(model, tmp_path / "two.pt2", x, to="torch")
    content = (tmp_path / "two.pt2").read_bytes()
    assert content == written.read_bytes()
    assert str(tmp_path).encode() not in content and b".py" not in content
