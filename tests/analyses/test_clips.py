"""The run of a clip search: what it writes is what it says, and it goes on where it was stopped."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from subbyte.analyses.clips import Search, run
from subbyte.analyses.clips.judge import Judge
from subbyte.core import GridSpec
from subbyte.data import DataSet, draw_calibration, draw_labels
from subbyte.engine.evaluation import evaluate
from subbyte.errors import FormatError, RecipeError, SubbyteError
from subbyte.graph import prepare, set_tensor, tensor_at
from subbyte.ranges import MinMax, fit_grid
from subbyte.ranges.clips import clip_spec, clipped_grid
from tests.workplace import data_set, float_network, lay_out, names_in

SEARCH = Search(
    bits=(2, 3),
    resolution=5,
    metrics=("mse:2", "grad:1.5", "hessian", "gauss_newton", "loss"),
    granularities=("network", "layer"),
    calibration=20,
    evaluate=40,
    batch_size=8,
)
FILES = {"scan.csv", "choices.csv", "correlation.csv", "settings.json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("clips"))


def search(
    place: Path,
    out: Path,
    what: Search = SEARCH,
    report=lambda *_: None,
    data: DataSet | None = None,
    **more: Any,
) -> Path:
    images = data or data_set(place)
    run(what, float_network(place), images, out, report, {"model": "net"}, **more)
    return out


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """A folder of results; do not change it."""
    return search(place, place / "done")


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def measured(
    place: Path, grids: dict[str, tuple[GridSpec, float]]
) -> tuple[float, float, float, float]:
    """Loss, divergence, accuracy and test accuracy with layers on clipped grids, from first
    principles.
    """
    data = data_set(place)
    images, _ = draw_calibration(data, 60, 0)
    labels = draw_labels(data, 60, 0)[20:]
    network = prepare(float_network(place), images[:2])
    module = network.graph_module
    with torch.no_grad():
        reference = module(images[20:]).log_softmax(1)
        for layer in network.layers:
            spec, clip = grids[layer.name]
            matrix = layer.geometry.to_matrix(tensor_at(module, layer.weight).detach())
            end = torch.tensor([clip], dtype=torch.float64)
            grid = (
                fit_grid(MinMax(), matrix, spec)
                if clip == 1
                else clipped_grid(matrix, spec, end, end)
            )
            set_tensor(module, layer.weight, layer.geometry.to_weight(grid.quantize(matrix)))
        found = module(images[20:])
    divergence = F.kl_div(found.log_softmax(1), reference, log_target=True, reduction="batchmean")
    accuracy = 100 * (found.argmax(1) == labels).double().mean()
    return (
        float(F.cross_entropy(found, labels)),
        float(divergence),
        float(accuracy),
        evaluate(module, data.test).top1,
    )


def test_a_run_writes_what_it_measured(place, done):
    assert names_in(done) == FILES | {
        f"clips_{bits}_layer_{name}.csv"
        for bits in (2, 3)
        for name in ("mse-2", "grad-1.5", "hessian", "gauss_newton", "loss")
    }
    scan, choices = rows(done, "scan.csv"), rows(done, "choices.csv")
    assert [(int(row["bits"]), float(row["clip"])) for row in scan] == [
        (b, k / 5) for b in (2, 3) for k in range(1, 6)
    ]
    assert len(choices) == 2 * 2 * 6  # bits, granularities; min-max and loss beside four proxies
    spec = clip_spec(2, symmetric=True, per_channel=False)
    layers = [row["layer"] for row in rows(done, "clips_2_layer_mse-2.csv")]
    for clip in (0.4, 1.0):
        row = next(row for row in scan if row["bits"] == "2" and float(row["clip"]) == clip)
        expected = measured(place, dict.fromkeys(layers, (spec, clip)))
        assert [float(row[name]) for name in ("loss", "divergence", "accuracy")] == pytest.approx(
            expected[:3], rel=1e-4
        )
    chosen = {
        row["layer"]: (spec, float(row["upper"]))
        for row in rows(done, "clips_2_layer_gauss_newton.csv")
    }
    row = next(
        r
        for r in choices
        if (r["bits"], r["granularity"], r["metric"]) == ("2", "layer", "gauss_newton")
    )
    found = [float(row[name]) for name in ("loss", "divergence", "accuracy", "test")]
    assert found == pytest.approx(measured(place, chosen), rel=1e-4)
    assert float(row["upper"]) == pytest.approx(
        sum(clip for _, clip in chosen.values()) / len(layers)
    )


def test_choices_are_the_best_of_the_scan(done):
    scan = rows(done, "scan.csv")
    for row in rows(done, "choices.csv"):
        same = [r for r in scan if r["bits"] == row["bits"]]
        whole = next(r for r in same if r["clip"] == "1.0")
        if row["metric"] == "minmax":  # of the same granularity: one range a layer either way
            assert (row["lower"], row["loss"]) == ("1.0", whole["loss"])
        elif row["granularity"] == "network":
            least = min(float(r[row["metric"]]) for r in same)
            best = max(float(r["clip"]) for r in same if float(r[row["metric"]]) == least)
            assert row["upper"] == row["lower"] and float(row["upper"]) == pytest.approx(best)
            assert row["loss"] == next(r["loss"] for r in same if float(r["clip"]) == best)
        elif row["metric"] == "loss":  # layer by layer, from the network's
            assert float(row["loss"]) <= min(float(r["loss"]) for r in same)


def test_rank_correlations(done):
    scan = rows(done, "scan.csv")
    found = rows(done, "correlation.csv")
    assert len(found) == 2 * 4
    for row in found:
        columns = [
            torch.tensor(
                [float(r[name]) for r in scan if r["bits"] == row["bits"]], dtype=torch.float64
            )
            for name in (row["metric"], "loss")
        ]
        ranks = torch.stack([column.argsort().argsort().double() for column in columns])
        assert float(row["loss"]) == pytest.approx(float(torch.corrcoef(ranks)[0, 1]))


def test_a_run_that_was_stopped_goes_on(place, done, tmp_path, monkeypatch):
    calls = 0

    def stop(stage: str, step: int, total: int, what: str) -> None:
        nonlocal calls
        calls += stage == "scan, 3 bits"
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(place, tmp_path / "out", report=stop)
    kept = rows(tmp_path / "out", "scan.csv")
    assert kept == rows(done, "scan.csv")[:7]
    search(place, tmp_path / "out")
    assert names_in(tmp_path / "out") == names_in(done)
    for name in names_in(done):
        assert (tmp_path / "out" / name).read_bytes() == (done / name).read_bytes(), name
    # once done, nothing is run again
    monkeypatch.setattr(
        "subbyte.analyses.clips.judge.evaluate", lambda *_: pytest.fail("the network was run")
    )
    monkeypatch.setattr(
        "subbyte.analyses.clips.scan.gather", lambda *_: pytest.fail("statistics were collected")
    )
    search(place, tmp_path / "out")


def test_further_widths_join(place, done, tmp_path):
    search(place, tmp_path, replace(SEARCH, bits=(2,)))
    search(place, tmp_path)
    assert names_in(tmp_path) == names_in(done)
    for name in names_in(done):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes(), name
    search(place, tmp_path, replace(SEARCH, bits=(3,)))
    assert (tmp_path / "settings.json").read_bytes() == (done / "settings.json").read_bytes()


def test_what_another_search_measured_is_taken_over(place, done, tmp_path, monkeypatch):
    others = replace(SEARCH, metrics=("mse:2", "fisher"), granularities=("network",))
    alone = search(place, tmp_path / "alone", others)
    whole = Judge.judge
    count = 0

    def counted(*given: Any) -> dict[str, float]:
        nonlocal count
        count += 1
        return whole(*given)

    monkeypatch.setattr(Judge, "judge", counted)
    based = search(place, tmp_path / "based", others, bases=[done])
    assert count <= 2 * 4  # the choices of two widths, but none of the scan
    for name in names_in(alone):
        assert (based / name).read_bytes() == (alone / name).read_bytes(), name
    for other, message in (
        (replace(others, seed=1), "made with seed = 0, here it is 1"),
        (replace(others, evaluate=0), "made with evaluate = 40, here it is 0"),
    ):
        with pytest.raises(RecipeError, match=message):
            search(place, tmp_path / "other", other, bases=[done])
    with pytest.raises(RecipeError, match="holds no clip search"):
        search(place, tmp_path / "other", others, bases=[tmp_path])


def test_tensors_are_written_on_request(place, tmp_path):
    small = replace(SEARCH, bits=(2,), metrics=("grad:1", "hessian", "gauss_newton"), evaluate=0)
    held = load_file(search(place, tmp_path, small, dump=True) / "evidence.safetensors")
    network = prepare(float_network(place), data_set(place).test.images(range(2)))
    assert {name.rpartition(".")[0] for name in held} == {one.name for one in network.owners}
    for layer in network.owners:
        weight, columns = tensor_at(network.graph_module, layer.weight), layer.geometry.columns
        torch.testing.assert_close(held[f"{layer.name}.weight"], weight.detach())
        for kind in ("gradient", "absolute", "fisher"):
            assert held[f"{layer.name}.{kind}"].shape == weight.shape
        assert (held[f"{layer.name}.gradient"].abs() <= held[f"{layer.name}.absolute"] + 1e-6).all()
        assert held[f"{layer.name}.hessian"].shape == (layer.geometry.rows, columns, columns)
        assert held[f"{layer.name}.moments"].shape[1:] == (columns, columns)


def test_another_search_does_not_go_on_there(place, done, tmp_path):
    before = {name: (done / name).read_bytes() for name in FILES}
    with pytest.raises(RecipeError, match="made with resolution = 5, now it is 6"):
        search(place, done, replace(SEARCH, resolution=6))
    fewer = replace(data_set(place), fingerprint="other")
    with pytest.raises(RecipeError, match="made with data"):
        search(place, done, data=fewer)
    assert before == {name: (done / name).read_bytes() for name in FILES}
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RecipeError, match="holds no clip search"):
        search(place, tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(RecipeError, match="damaged"):
        search(place, tmp_path)
    with pytest.raises(SubbyteError, match="calibration images"):
        search(place, tmp_path / "many", replace(SEARCH, evaluate=1000))


def test_ends_apart_and_channels(place, done, tmp_path):
    """On asymmetric grids, with labels; the true loss is never worse than with one clip for both
    ends.
    """
    what = replace(
        SEARCH,
        bits=(2,),
        metrics=("mse:2", "fisher", "kl", "loss"),
        granularities=("network",),
        symmetric=False,
        labels="true",
    )
    together = rows(search(place, tmp_path / "together", what), "choices.csv")
    apart = rows(search(place, tmp_path / "apart", replace(what, apart=True)), "choices.csv")
    losses = [
        next(float(row["loss"]) for row in found if row["metric"] == "loss")
        for found in (together, apart)
    ]
    assert losses[1] <= losses[0]
    assert any(row["lower"] != row["upper"] for row in apart)

    plain = Search(
        bits=(1, 4),
        resolution=4,
        metrics=("mse",),
        granularities=("channel",),
        apart=True,
        symmetric=False,
        calibration=8,
    )
    out = search(place, tmp_path / "channels", plain)
    assert names_in(out) == FILES - {"correlation.csv"} | {
        f"clips_{bits}_channel_mse-2.csv" for bits in (1, 4)
    }
    clips = rows(out, "clips_4_channel_mse-2.csv")
    assert [row["channel"] for row in clips] == [
        *map(str, range(8)),
        *map(str, range(8)),
        *map(str, range(4)),
    ]
    assert list(rows(out, "scan.csv")[0]) == ["bits", "clip", "mse:2"]  # nothing to judge by
    best = max(float(row["test"]) for row in rows(out, "choices.csv"))
    assert best >= evaluate(float_network(place), data_set(place).test).top1 - 10
    settings = json.loads((out / "settings.json").read_text())
    assert (
        settings["apart"] is True and settings["model"] == "net" and len(settings["weights"]) == 64
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bits": (0, 2)}, "bits must be of"),
        ({"bits": ()}, "bits must be of"),
        ({"granularities": ("row",)}, "granularity must be of"),
        ({"labels": "some"}, "labels must be of"),
        ({"metrics": ("mse:2", "mse")}, "each once"),
        ({"metrics": ("loss",)}, "besides loss"),
        ({"metrics": ("mse", "loss"), "evaluate": 0}, "images to evaluate on"),
        ({"granularities": ("channel",)}, "thousands of evaluations"),
        ({"apart": True}, "asymmetric grids only"),
        ({"clip": (1.0, 1.0)}, "clips must go up"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_searches_that_make_no_sense(wrong, message):
    with pytest.raises(RecipeError, match=message):
        replace(SEARCH, **wrong)


def test_evidence_is_of_the_right_layers(place):
    """Second moments against products of the inputs themselves."""
    from subbyte.analyses.clips.targets import gather

    images, _ = draw_calibration(data_set(place), 20, 0)
    network = prepare(float_network(place), images[:2])
    found = {
        target.layer.name: target
        for target in gather(network, images, None, SEARCH, lambda *_: None)
    }
    first, head = found["0"], found["7"]
    assert first.evidence.hessian is not None and first.evidence.hessian.shape == (8, 27, 27)
    unfolded = F.unfold(images, 3, padding=1).transpose(1, 2).reshape(-1, 27)
    assert first.evidence.H is not None
    assert torch.allclose(
        first.evidence.H[0], unfolded.T @ unfolded / len(unfolded), rtol=1e-4, atol=1e-5
    )
    seen: list[Tensor] = []
    model = float_network(place).eval()
    model[7].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        model(images)
    assert head.evidence.H is not None and torch.allclose(
        head.evidence.H[0], seen[0].T @ seen[0] / 20, rtol=1e-3, atol=1e-4
    )
    assert all(target.evidence.gradients is not None for target in found.values())


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("scan.csv", lambda text: text[:-20]),
        ("scan.csv", lambda text: text.replace("clip", "klip", 1)),
        ("scan.csv", lambda text: text.replace("0.4", "abc", 1)),
        ("choices.csv", lambda text: "\x80\xff" + text),
    ],
    ids=["cut", "column", "word", "bytes"],
)
def test_damaged_results_are_named(place, done, tmp_path, file, damage):
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / file).write_bytes(damage((out / file).read_text()).encode("latin-1"))
    (out / "correlation.csv").unlink()
    with pytest.raises(FormatError, match=file):
        search(place, out)
