"""subbyte inspect: every file that subbyte wrote, and no other."""

import json
from collections import Counter
from math import log2
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from subbyte import load_recipe, quantize, save
from subbyte.cli.terminal import console
from subbyte.core import compressed_bytes
from subbyte.exporters import EXPORTERS
from subbyte.exporters.packed import read
from tests.exporters.plugin import Arrays
from tests.workplace import trained


def test_a_packed_file_shows_plan_layers_and_sizes(subbyte, result):
    done = subbyte("inspect", result[0] / "model.safetensors")
    assert done.code == 0
    found = json.loads((result[0] / "result.json").read_text())
    lines = done.out.splitlines()
    for row in found["layers"]:
        snr = f"{row['sqnr_db']:.1f}"
        assert any(line.split()[1:2] == [row["name"]] and snr in line.split() for line in lines), (
            row["name"]
        )
    assert "corrected" in done.out and "plan: w4a8" in done.out and "calibration: 40" in done.out
    assert f"{found['bytes']['file']:,} bytes" in " ".join(done.out.split())  # titles wrap
    codes = 8 * 8 * 9 // 2
    assert any(f"{8 * (codes + 40) / 576:.2f}" in line and str(codes) in line for line in lines)


def test_a_packed_file_shows_entropy_and_totals(subbyte, result):
    """Against the codes of the file, counted here; the total's entropy is the mean over weights,
    not over layers.
    """
    file = result[0] / "model.safetensors"
    lines = [
        line.split("│")[1:-1]
        for line in subbyte("inspect", file).out.splitlines()
        if line.startswith("│")
    ]
    rows = {
        cells[0].strip(): [cell.strip() for cell in cells[2:]] for cells in lines if len(cells) == 9
    }
    packed, sums = read(file), [0, 0, 0, 0.0, 0]
    for layer in packed.plan.layers:
        weight = packed.weight(layer)
        shares = [
            count / weight.codes.numel()
            for count in Counter(weight.codes.reshape(-1).tolist()).values()
        ]
        bits = -sum(share * log2(share) for share in shares)
        stored = packed.tensors[f"layers/{layer.name}/codes"].numel()
        size = (
            weight.codes.numel(),
            stored,
            weight.nbytes - stored,
            bits,
            compressed_bytes(weight.codes),
        )
        assert rows[layer.name][:6] == shown(*size)
        sums = [a + b for a, b in zip(sums, (*size[:3], bits * size[0], size[4]), strict=True)]
    count, codes, scales, bits, compressed = sums
    assert rows["total"] == [*shown(int(count), codes, scales, bits / count, compressed), ""]
    assert len(rows) == 1 + len(packed.plan.layers) > 2


def test_channels_with_levels_of_their_own_show_their_mean_width(tmp_path, subbyte):
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    recipe = load_recipe("w2", ["budget=3bits", "budget_for=channels", "weights.rounding=nearest"])
    quantized = quantize(network, torch.randn(20, 1, 8, 8), recipe)
    save(quantized, tmp_path / "net.safetensors")
    out = " ".join(subbyte("inspect", tmp_path / "net.safetensors").out.split())
    for row in quantized.ledger:
        assert f"│ {row.name} │ {row.bits} │" in out and row.bits.endswith(" mixed")


def shown(count: int, codes: float, scales: float, entropy: float, compressed: float) -> list[str]:
    sizes = [f"{count:,}", f"{codes:,}", f"{scales:,}", f"{8 * (codes + scales) / count:.2f}"]
    return [*sizes, f"{entropy:.2f}", f"{compressed:,}"]


def test_tables_of_packed_files_fit_100_columns(subbyte, result):
    console.width = 100
    out = subbyte("inspect", result[0] / "model.safetensors").out
    assert "compressed" in out and "…" not in out.split("safetensors")[1]


def test_an_onnx_file_shows_tensors_and_their_types(subbyte, result):
    done = subbyte("inspect", result[0] / "model.onnx")
    assert done.code == 0
    assert (
        "opset 21" in " ".join(done.out.split())
        and "│ 4 " in done.out  # the codes of layer 4
        and "INT8" in done.out
        and "8x8x3x3" in done.out
    )
    assert (
        "2 Conv" in done.out and "QuantizeLinear" in done.out and "subbyte.recipe: w4a8" in done.out
    )


def test_a_plugged_in_exporters_file_shows_what_it_says(subbyte, given, tmp_path, monkeypatch):
    monkeypatch.setitem(EXPORTERS, "arrays", Arrays())
    out = tmp_path / "out"
    done = subbyte("quantize", *given, "--recipe", "w4", "--export", "arrays", "--out", out)
    assert done.code == 0, done.err
    shown = subbyte("inspect", out / "model.npy-zip")
    assert shown.code == 0 and "bytes, zip" in shown.out and "recipe: w4" in shown.out
    (line,) = (line for line in shown.out.splitlines() if "8x72" in line)
    assert "float32" in line and f"{4 * 8 * 72:,}" in line
    (out / "model.npy-zip").write_bytes(b"hello")
    spoilt = subbyte("inspect", out / "model.npy-zip")
    assert spoilt.code == 1 and "no arrays" in spoilt.err


def test_a_plan_shows_layers_and_activations(subbyte, result):
    done = subbyte("inspect", result[0] / "plan.yaml")
    assert (
        done.code == 0
        and "plan: w4a8" in done.out
        and "activation (input)" in done.out
        and "conv 8x3x3x3" in done.out
    )


def test_a_result_and_its_folder_show_the_same_tables(subbyte, result):
    first, second = subbyte("inspect", result[0] / "result.json"), subbyte("inspect", result[0])
    assert first.code == second.code == 0 and first.out == second.out
    assert [line for line in first.out.splitlines() if "top-1" in line or "parity" in line]
    tables = [
        line
        for line in result[1].out.splitlines()
        if line.strip() and not line.startswith("to look at:")
    ]
    assert [line for line in first.out.splitlines() if line.strip()] == tables


def foreign_onnx() -> bytes:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other]
    )
    return onnx.helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"hello"),
        ("model.safetensors", b""),
        ("model.onnx", b"hello"),
        ("model.onnx", b""),
        ("model.onnx", foreign_onnx()),
        ("plan.yaml", b"a: 1"),
        ("plan.yaml", b"weights: {bits: 4}"),
        ("plan.yaml", b""),
        ("plan.yaml", b"[1, 2]"),
        ("plan.yaml", b"{"),
        ("plan.yaml", b"\xff\xfe"),
        ("result.json", b"{}"),
        ("result.json", b"[]"),
        ("result.json", b"{"),
        ("result.json", b'{"layers": 3}'),
        ("result.json", b"null"),
        ("notes.txt", b"hello"),
        ("model.pt", b""),
        ("none", b"hello"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value[:12]),
)
def test_other_files_are_an_error(name, content, subbyte, tmp_path):
    (tmp_path / name).write_bytes(content)
    done = subbyte("inspect", tmp_path / name)
    assert done.code == 1 and name in done.err, done.out + done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and done.out == ""


def test_float_checkpoints_are_an_error(subbyte, tmp_path):
    save_file(trained(), tmp_path / "float.safetensors")
    done = subbyte("inspect", tmp_path / "float.safetensors")
    assert done.code == 1 and "subbyte did not write it" in done.err


def test_damaged_results_are_an_error(subbyte, result, tmp_path):
    for name in ("model.safetensors", "model.onnx", "plan.yaml", "result.json"):
        data = (result[0] / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        done = subbyte("inspect", tmp_path / name)
        assert done.code == 1 and name in done.err and "Traceback" not in done.err, name


def test_missing_files_and_empty_folders_are_an_error(subbyte, tmp_path):
    for path in (tmp_path, tmp_path / "none.onnx", Path("/nowhere/at/all")):
        done = subbyte("inspect", path)
        assert done.code == 1 and path.name in done.err


@pytest.mark.parametrize("name", ["plan.yaml", "result.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"a": ' * 80 + b"1" + b"}" * 80,
        b'{"version": NaN}',
        b'{"version": 2, "version": 2}',
        b'{"version": ' + b"9" * 5000 + b"}",
        b'{"version": 4, "model": "\\ud800"}',
        b"a: &a [*a]",
        b"a: !!python/object/apply:os.system [exit]",
        b"\0",
    ],
)
def test_files_of_anything_are_one_line(subbyte, name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    done = subbyte("inspect", tmp_path / name)
    assert done.code == 1 and done.err.startswith("error: ") and name in done.err
    assert done.err.strip().count("\n") == 0 and "Traceback" not in done.err
