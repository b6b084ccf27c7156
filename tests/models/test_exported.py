"""Networks of exported programs."""

import zipfile

import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import ModelError
from subbyte.models import load_model


@pytest.fixture
def saved(tmp_path):
    """(file, network, images)"""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(model, nn.Linear(64, 3)).eval()
    x = torch.randn(20, 1, 6, 6)
    axes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=axes), tmp_path / "net.pt2")
    return tmp_path / "net.pt2", model, x


def test_a_program_is_quantized_as_its_network_is(saved):
    path, model, x = saved
    ours, theirs = (subbyte.quantize(m, x, "w4a8") for m in (load_model(str(path)), model))
    assert [row.name for row in ours.ledger] == [row.name for row in theirs.ledger]
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("damage", ["missing", "cut", "no archive", "object"])
def test_what_is_no_sound_program_is_refused(saved, damage):
    path, _, _ = saved
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "no archive":
        path.write_bytes(b"net")
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("net/data/constants/custom_obj_0", b"x")
    with pytest.raises(ModelError, match=r"net\.pt2"):
        load_model(str(path))
