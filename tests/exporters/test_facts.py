"""What files say of themselves, and whether they are the ones that were proven."""

import json
import zipfile

import onnx
import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import FormatError
from subbyte.exporters import contents, export, form_of, onnx_files, runner, seal
from subbyte.exporters.facts import form_in
from subbyte.records import About, Colours, Preprocessing

X = torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(1))
ABOUT = About(
    preprocessing=Preprocessing(
        resize=8, crop=6, interpolation="bicubic", mean=(0.5,), std=(0.25,), colours=Colours.RGB
    ),
    classes=("ant", "bee", "Käfer"),
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 8)
    return subbyte.quantize(nn.Sequential(*layers).eval(), X, recipe="w8a8")


@pytest.mark.parametrize(("to", "name"), [("onnx-int8", "net.onnx"), ("torch", "net.pt2")])
def test_files_state_facts_and_proof_and_know_whether_they_are_whole(model, to, name, tmp_path):
    made = export(model, tmp_path / name, X, to=to, about=ABOUT)
    told = {key.removeprefix("subbyte."): text for key, text in contents(made.path).about.items()}
    assert form_of(made.path).about == ABOUT and told["recipe"] == "w8a8"
    assert told["proof"].startswith("12 samples") and told["digest"] == made.digest
    own = seal(made.path)
    assert own.stated == own.found == made.digest and not own.broken
    again = export(model, tmp_path / f"again{made.path.suffix}", X, to=to, about=ABOUT)
    assert again.path.read_bytes() == made.path.read_bytes()


def test_a_changed_number_or_fact_breaks_the_seal(model, tmp_path):
    path = export(model, tmp_path / "net.onnx", X, about=ABOUT).path
    for change in ("number", "fact", "node"):
        program = onnx.load(path)
        if change == "number":
            codes = max(program.graph.initializer, key=lambda one: len(one.raw_data))
            codes.raw_data = bytes([codes.raw_data[0] ^ 1]) + codes.raw_data[1:]
        elif change == "fact":
            next(p for p in program.metadata_props if p.key == "subbyte.classes").value = "[]"
        else:
            program.graph.node[0].name = "mine"
        onnx.save(program, tmp_path / "changed.onnx")
        assert seal(tmp_path / "changed.onnx").broken, change


def test_a_changed_archive_breaks_the_seal(model, tmp_path):
    path = export(model, tmp_path / "net.pt2", X, to="torch").path
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new.pt2", "w") as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, part[:-1] + b"\1" if "/weights/" in name else part)
    assert seal(tmp_path / "new.pt2").broken


def test_large_files_keep_their_numbers_beside_them(model, tmp_path, monkeypatch):
    path, beside = tmp_path / "net.onnx", tmp_path / "net.onnx.data"
    small = export(model, path, X)
    monkeypatch.setattr(onnx_files, "LARGEST", 1000)
    made = export(model, path, X, force=True)
    assert sorted(tmp_path.iterdir()) == [path, beside]
    assert made.bytes == path.stat().st_size + beside.stat().st_size
    assert path.stat().st_size < small.bytes and beside.stat().st_size >= 1000
    assert torch.equal(runner(path)(X), model(X)) and not seal(path).broken
    assert made.kernels.integers == small.kernels.integers > 0
    number = bytearray(beside.read_bytes())
    number[7] ^= 1
    beside.write_bytes(number)
    assert seal(path).broken
    monkeypatch.undo()
    export(model, path, X, force=True)
    assert list(tmp_path.iterdir()) == [path]


def test_producer_and_names_are_ours_and_the_users(model, tmp_path):
    program = onnx.load(export(model, tmp_path / "net.onnx", X).path)
    assert (program.producer_name, program.producer_version) == ("subbyte", subbyte.__version__)
    assert [one.name for one in program.graph.input] == ["input"]
    assert [one.name for one in program.graph.output] == ["output"]


def test_facts_that_can_not_be_read_are_an_error():
    for facts in ({"batch": "two"}, {"preprocessing": "{"}, {"input": "int4"}):
        with pytest.raises(FormatError, match="what the file says of itself can't be read"):
            form_in(facts)
    assert form_in({"subbyte.classes": json.dumps(["a"])}).about.classes == ("a",)
