"""subbyte demo, from end to end."""

import json
import time

import pytest

from tests.workplace import figures, names_in

FILES = ("model.safetensors", "model.onnx", "plan.yaml", "result.json", "figures.json", "card.md")
RECIPES = ["w8a8", "w4a4", "w3", "w2", "ternary"]


@pytest.mark.slow
def test_the_demo_trains_quantizes_and_compares(subbyte, tmp_path):
    start = time.perf_counter()
    done = subbyte("demo", "--out", tmp_path / "demo")
    seconds = time.perf_counter() - start
    assert done.code == 0, done.err
    files = {f"{r}/{f}" for r in RECIPES for f in FILES}
    assert names_in(tmp_path / "demo") == {
        "results.json",
        "report.html",
        "lenet-digits.safetensors",
        *RECIPES,
        *files,
    }
    results = json.loads((tmp_path / "demo/results.json").read_text())
    assert [result["recipe"] for result in results] == RECIPES
    for result in results:
        assert (
            f"{figures(result['quantized'])['top-1']:.2f}" in done.out
            and f"{result['bits_per_weight']:.2f}" in done.out
        )
        assert (
            f"{result['bytes']['packed']:,}" in done.out
            and f"{result['exports'][0]['bytes']:,}" in done.out
        )
        assert (
            f"{figures(result['quantized'])['agreement']:.2f}" in done.out
            and result["exports"][0]["parity"]["outputs"][0]["classes"] >= 97.5
        )
        assert (
            json.loads((tmp_path / "demo" / result["recipe"] / "result.json").read_text()) == result
        )
    before = figures(results[0]["float"])["top-1"]
    assert f"{before:.2f}" in done.out and before > 94
    assert figures(results[0]["quantized"])["top-1"] > before - 1
    assert figures(results[4]["quantized"])["top-1"] > 88
    sizes = [result["bytes"]["packed"] for result in results]
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] > sizes[4]
    assert seconds < 240  # two minutes on two idle cores
    again = subbyte("demo", "--out", tmp_path / "demo")
    assert again.code == 1 and "--force" in again.err
