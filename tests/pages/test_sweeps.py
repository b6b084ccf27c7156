"""Pages about sweeps: lines, bands, heat maps and sentences against numbers worked out here."""

import json
from math import sqrt
from statistics import mean, stdev

import pytest

from subbyte.pages.figures import Chart, Heat, Points, Rows
from subbyte.pages.parts import Raw, Section, Table
from subbyte.pages.write import tell, write_report
from subbyte.records.sweep import Sweep
from tests.pages.results import make_sweep, swept_top1

T2 = 4.302652729911275
"""Student's t at 0.975 with 2 degrees of freedom, from a table."""


def found(parts, kind):
    """All parts of a type, however deep, by title."""
    inside = {part.title: part for part in parts if isinstance(part, kind)}
    for part in parts:
        if isinstance(part, Section):
            inside |= found(part.parts, kind)
    return inside


@pytest.fixture
def folder(tmp_path):
    return make_sweep(tmp_path / "bits")


def test_curves_are_means_and_bands_are_intervals_over_seeds(folder):
    _, story = tell([folder])
    chart = found(story.sections, Chart)["Top-1 accuracy against weights.bits"]
    lines = {line.name: line for line in chart.lines}
    assert list(lines) == ["gpfq", "nearest", "float"] and chart.whole_x
    for name in ("gpfq", "nearest"):
        assert lines[name].x == [2, 3, 8]
        for k, bits in enumerate((2, 3, 8)):
            values = [swept_top1(name, bits, seed) for seed in (0, 1, 2)]
            half = T2 * stdev(values) / sqrt(3)
            assert lines[name].y[k] == pytest.approx(mean(values), abs=1e-5)
            assert lines[name].low[k] == pytest.approx(mean(values) - half, abs=1e-4)
            assert lines[name].high[k] == pytest.approx(min(100, mean(values) + half), abs=1e-4)
    assert lines["float"].y == [91.5, 91.5] and lines["float"].x == [2, 8]
    lost = found(story.sections, Chart)["Accuracy lost against weights.bits"]
    assert lost.log_y and [line.name for line in lost.lines] == ["gpfq", "nearest"]
    for line in lost.lines:
        assert line.y == pytest.approx([91.5 - y for y in lines[line.name].y])
        assert line.low == pytest.approx([max(0.01, 91.5 - y) for y in lines[line.name].high])


def test_heat_maps_hold_every_pair(folder):
    heat = found(tell([folder])[1].sections, Heat)[
        "Top-1 accuracy by weights.rounding and weights.bits"
    ]
    assert heat.rows == ("gpfq", "nearest") and heat.columns == ("2", "3", "8")
    assert heat.values[1][2] == pytest.approx(
        mean(swept_top1("nearest", 8, seed) for seed in (0, 1, 2)), abs=1e-5
    )
    assert heat.texts[0][0] == f"{mean(swept_top1('gpfq', 2, seed) for seed in (0, 1, 2)):.2f}"


def test_settings_are_listed_best_first_with_what_they_cost(folder):
    sections = tell([folder])[1].sections
    listed = found(sections, Rows)["Settings, best first"]
    assert listed.names[0] == "gpfq, bits 8" and listed.names[-1] == "nearest, bits 2"
    against = found(sections, Points)["Accuracy against size"]
    assert [cloud.name for cloud in against.clouds] == ["gpfq", "nearest"]
    assert list(against.clouds[0].x) == [2000, 3000, 8000] and against.steps[0] == [
        2000,
        3000,
        8000,
    ]
    assert "Weights that are 0 against weights.bits" in found(sections, Chart)


def test_the_best_the_smallest_and_failures_are_told(tmp_path):
    words = " ".join(tell([make_sweep(tmp_path / "a")])[1].sentences)
    assert (
        "18 runs, 6 settings with 3 seeds each, of net.py:net on npz, measured on 2,000 validation "
        "images" in words
    )
    assert (
        "The best is gpfq, bits 8: 91.40 ± 0.25 % (0.10 points below float, 91.50 %) top-1, in 8.0 "
        "kB" in words
    )
    assert "within 0.5 points of it is gpfq, bits 3: 91.00" in words and "failed" not in words
    _, story = tell([make_sweep(tmp_path / "b", fails=lambda run: run.seed == 1)])
    assert "6 runs failed" in " ".join(story.sentences)
    table = found(story.sections, Table)["Failed runs"]
    assert len(table.rows) == 6 and table.rows[0][-1] == "out of <luck>"
    _, nothing = tell([make_sweep(tmp_path / "c", fails=lambda run: True)])
    assert (
        not found(nothing.sections, Chart)
        and len(found(nothing.sections, Table)["Failed runs"].rows) == 18
    )


def test_a_single_seed_has_no_bands(tmp_path):
    sections = tell([make_sweep(tmp_path / "one", seeds=[4])])[1].sections
    assert all(not line.low for chart in found(sections, Chart).values() for line in chart.lines)
    assert [marks.name for marks in found(sections, Rows)["Settings, best first"].marks] == ["mean"]


def test_the_choice_is_told_with_its_test_accuracy(tmp_path):
    folder = make_sweep(tmp_path / "chosen", choose="quantized_top1_percent")
    _, story = tell([folder])
    assert any(
        "Chosen on validation images: gpfq, bits 8; on the test images" in s
        for s in story.sentences
    )
    assert found(story.sections, Table)["Chosen, on the test images"].rows[0][:2] == ("gpfq", "8")


def test_many_settings_are_shown_by_the_best_of_the_rest(tmp_path):
    grid = {
        "weights.bits": "2..8",
        "weights.scalar": "1.0..2.0..0.05",
        "weights.rounding": ["gpfq", "nearest"],
    }
    sections = tell([make_sweep(tmp_path / "many", grid=grid, seeds=[0])])[1].sections
    charts = found(sections, Chart)
    by_scalar = charts[
        "Top-1 accuracy against weights.scalar, the most accurate of all other settings"
    ]
    assert [line.name for line in by_scalar.lines][:2] == ["bits 2", "bits 3"] and len(
        by_scalar.lines
    ) == 8
    assert by_scalar.lines[0].y[0] == pytest.approx(swept_top1("gpfq", 2, 0), abs=1e-5)
    assert not by_scalar.whole_x and len(found(sections, Heat)) == 3
    assert "Settings, best first" not in found(sections, Rows)


def test_what_was_asked_and_of_what_is_kept(folder):
    sections = tell([folder])[1].sections
    assert "weights.rounding:" in found(sections, Raw)["The space, as it was asked"].text
    about = dict(found(sections, Table)["Environment"].rows)
    assert (
        "version of torch" in about
        and len(next(v for k, v in about.items() if k.startswith("fingerprint"))) == 64
    )


def test_several_sweeps_are_told_one_after_the_other(tmp_path):
    _, story = tell([make_sweep(tmp_path / "a"), make_sweep(tmp_path / "b", seeds=[0])])
    assert [section.title for section in story.sections] == ["Comparison", "Sweep a", "Sweep b"]
    table, points = (found(story.sections[:1], kind) for kind in (Table, Points))
    assert [row[0] for row in table["Best of each"].rows] == ["a", "b"]
    assert [cloud.name for cloud in points["Accuracy against size"].clouds] == ["a", "b"]
    (chart,) = found(story.sections[:1], Chart).values()
    assert [line.name for line in chart.lines] == ["a", "b"]
    assert chart.lines[1].y == pytest.approx([swept_top1("gpfq", bits, 0) for bits in (2, 3, 8)])
    (page, *files) = write_report(
        [tmp_path / "a", tmp_path / "b"], tmp_path / "x.html", tables=tmp_path / "csv"
    )
    assert page.stat().st_size < 6e6 and len({file.name for file in files}) == len(files)


def test_a_sweep_that_has_not_ended_is_said(folder):
    mark = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(mark | {"runs": 30}))
    assert "It has not ended: 18 of 30 runs are there" in " ".join(tell([folder])[1].sentences)


def test_what_is_at_float_or_above_stays_on_the_chart(tmp_path):
    """Its loss is drawn at 0.01 points, as a loss of 0 has no logarithm."""
    folder = make_sweep(
        tmp_path / "x", top1=lambda run: {2: 60.0, 3: 91.5, 8: 92.0}[run.recipe.weights.bits]
    )
    lost = found(tell([folder])[1].sections, Chart)["Accuracy lost against weights.bits"]
    assert [line.y for line in lost.lines] == [[31.5, 0.01, 0.01]] * 2


def test_what_is_best_by_chance_or_by_choice_is_said(tmp_path):
    told = {
        measure: " ".join(tell([make_sweep(tmp_path / measure, measure=measure)])[1].sentences)
        for measure in ("validation", "test")
    }
    assert "1 more lie within one standard error of the images (0.63 points)" in told["validation"]
    assert "which flatters it" in told["test"] and "which flatters it" not in told["validation"]


def test_a_label_stands_for_the_settings_that_go_with_it(tmp_path):
    pairs = [
        {
            "label": ["naive", "ours"],
            "weights.rounding": ["nearest", "gpfq"],
            "weights.range": ["minmax", "mse"],
        },
        {"weights.bits": [2, 3, 8]},
    ]
    folder = make_sweep(tmp_path / "labelled", grid={}, pairs=pairs)
    sweep = Sweep.read("x", folder)
    assert (
        sweep.axes == ("label", "weights.bits")
        and len(sweep.settings) == 6
        and len(sweep.rows) == 18
    )
    assert "weights.rounding" in sweep.columns
    chart = found(tell([folder])[1].sections, Chart)["Top-1 accuracy against weights.bits"]
    assert [line.name for line in chart.lines] == ["naive", "ours", "float"]
