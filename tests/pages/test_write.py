"""Reports of folders: each kind's sections with the numbers of its files, mixtures, damage."""

import csv
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from subbyte.errors import FormatError, RecipeError, SubbyteError
from subbyte.pages import page as module
from subbyte.pages import subjects
from subbyte.pages.effects import costliest
from subbyte.pages.figures import Heat, Histograms, Points, Rows
from subbyte.pages.network import Network, sections
from subbyte.pages.parts import Code, Gallery, Raw, Section, Story, Table, Text
from subbyte.pages.subject import Subject, View
from subbyte.pages.write import PAGE, tell, unique_names, write_report
from tests.pages.results import (
    CLASSES,
    EVIDENCE,
    LAYERS,
    OPTIONS,
    RESULT,
    make_result,
    make_scan,
    measured,
)
from tests.pages.test_training import make_run


def found(parts, kind, title=None):
    """All parts of a type, however deep; of a title."""
    inside = [part for part in parts if isinstance(part, kind) and title in (None, part.title)]
    for part in parts:
        if isinstance(part, Section):
            inside += found(part.parts, kind, title)
    return inside


def one(parts, kind, title=None):
    (part,) = found(parts, kind, title)
    return part


@pytest.fixture
def model(tmp_path):
    return Network.read("net", make_result(tmp_path / "net", options=OPTIONS))


def titled(model, title):
    return one(sections(model), Section, title)


def test_a_network_has_all_its_sections(model):
    assert [section.title for section in sections(model)] == [
        "Scores and size",
        "Files and how to run them",
        "Which layer costs most",
        "Layers",
        "Activations",
        "Weights before and after",
        "Where activations are clipped",
        "Sensitivity",
        "Predictions",
        "Plan and settings",
        "Environment",
    ]


def test_accuracy_and_size_are_those_of_the_result(model):
    section = titled(model, "Scores and size")
    table = one(section.parts, Table)
    assert table.header == (
        "network",
        "top-1 %",
        "top-5 %",
        "agreement with float %",
        "bits a weight",
        "weight bytes",
        "file bytes",
        "ratio",
    )
    assert table.rows == (
        ("float, torch", "91.73", "99.50", "", "32.00", "1,076,136", "", ""),
        ("quantized, torch", "90.81", "99.25", "95.87", "4.10", "140,794", "144,794", "1.028"),
        ("quantized, onnx-int8", "90.79", "", "", "", "300,000", "318,248", "1.061"),
    )
    assert section.parts[1].text.startswith("Weight bytes are those of codes")
    assert "12.3 % of the quantized weights are 0" in section.parts[2].text
    assert "0.00045 on average" in section.parts[2].text
    plot = one(section.parts, Points)
    assert [(c.x[0], c.y[0]) for c in plot.clouds] == [
        (1076136, 91.73),
        (140794, 90.81),
        (318248, 90.79),
    ]
    assert plot.clouds[1].errors[0] == pytest.approx(100 * (0.9081 * 0.0919 / 200) ** 0.5)


def test_files_are_listed_with_lines_that_run_them(model):
    parts = titled(model, "Files and how to run them").parts
    ((file, exporter, count, smaller, faster),) = one(parts, Table).rows
    assert (file, exporter, count, smaller) == ("model.onnx", "onnx-int8", "318,248", "3.38")
    assert faster == "" and one(parts, Code).text == "run it"


def test_what_costs_most_comes_first_with_what_would_help(model):
    parts = titled(model, "Which layer costs most").parts
    ranks = one(parts, Rows)
    assert ranks.names == (LAYERS[1], "stem:out", LAYERS[0], LAYERS[2])
    weights, activations = ranks.marks
    assert weights.values == [None, None, 2.5, 0.5] and activations.values == [
        None,
        40.0,
        None,
        None,
    ]
    advice = one(parts, Table, "What would bring something back").rows
    assert [row[:2] for row in advice] == [
        ("--set 'layers.block.<b>1</b>.weights.bits=8'", "+77"),
        ("--set 'layers.block.<b>1</b>.activations.bits=8'", "none"),
        ("--set layers.stem.weights.bits=8", "+55"),
        ("subbyte tune FOLDER --weights net.th --time 5min", "none"),
    ]
    assert costliest(model.result.effects).endswith("moves the output by more than can be told.")


def test_layers_are_drawn_and_listed(model):
    parts = titled(model, "Layers").parts
    signal = one(parts, Rows, "Signal-to-noise ratio of layers")
    assert signal.names == LAYERS and signal.marks[0].values == [30.5, 18.25, None]
    assert one(parts, Rows, "Bytes by layer").marks[0].values == [1234, 2345, 345]
    ranges = one(parts, Rows, "Ranges of weights")
    assert list(ranges.marks[1].values) == [EVIDENCE.layers[name].values[0] for name in LAYERS]
    assert list(ranges.marks[0].to) == [EVIDENCE.layers[name].reach[1] for name in LAYERS]
    table = one(parts, Table)
    spread = EVIDENCE.layers["stem"]
    assert table.rows[0] == (
        "stem",
        "4",
        "4",
        "1,234",
        "30.5",
        "1.9",
        f"{spread.clipped_percent:.3g}",
        f"{spread.scales[2]:.4g}",
        f"{spread.scales[0]:.4g}",
        f"{spread.scales[4]:.4g}",
        "4 bits in INT8",
    )
    assert table.rows[2][4] == "exact" and table.rows[1][-1] == "because <script>"
    activations = one(titled(model, "Activations").parts, Table)
    assert activations.header == (
        "name",
        "asked",
        "bits",
        "bytes",
        "SNR dB",
        "clipped %",
        "scale",
        activations.header[-1],
    )
    assert activations.rows[1][:5] == ("stem:out", "4", "4", "5", "17.8")


def test_weights_stand_on_codes_and_activations_on_values(model):
    weights = one(titled(model, "Weights before and after").parts, Histograms)
    for name, histogram in zip(LAYERS, weights.figures, strict=True):
        spread = EVIDENCE.layers[name]
        assert (histogram.name, histogram.start, histogram.width) == (
            name,
            spread.start,
            spread.width,
        )
        assert list(histogram.counts) == spread.counts and list(histogram.taken) == spread.taken
        assert histogram.ends == (-8, 7) and histogram.total == 240
        assert (
            f"{spread.clipped_percent:.3g} % clipped" in histogram.about
            and "zero points from" in histogram.about
        )
    activations = one(titled(model, "Where activations are clipped").parts, Histograms)
    assert [h.name for h in activations.figures] == ["input", "stem:out"] and activations.logarithm
    for histogram in activations.figures:
        spread = EVIDENCE.activations[histogram.name]
        assert histogram.ends == pytest.approx(spread.reach, rel=1e-4)
        edges = histogram.edges
        assert edges[0] <= spread.values[0] and spread.values[1] <= edges[-1] + 1e-9
    assert "40 calibration images" in activations.about


def test_sensitivity_has_every_width(model):
    section = titled(model, "Sensitivity")
    heat = one(section.parts, Heat)
    assert heat.rows == LAYERS and heat.columns == ("ternary", "4", "8")
    assert heat.texts[0] == ["12", "*0.45", "0"] and heat.values[0][2] is None
    assert heat.values[0][0] == pytest.approx(-1.9101, abs=1e-4)
    assert one(section.parts, Table).rows[1] == ("stem", "4", "10", "0.45", "chosen")


def test_predictions_are_counted_and_shown(model):
    parts = titled(model, "Predictions").parts
    predictions = EVIDENCE.predictions
    changed = predictions.lost + predictions.gained + predictions.moved
    assert parts[0].text.startswith(f"{changed} of 200 images are put into another class")
    matrix = one(parts, Heat, "Confusion of the quantized network")
    cells = {(label, named): count for label, named, count in predictions.quantized_cells}
    before = {(label, named): count for label, named, count in predictions.float_cells}
    difference = one(parts, Heat, "What quantization changed in it")
    for label in range(3):
        for named in range(3):
            assert matrix.texts[label][named] == str(cells.get((label, named), ""))
            assert difference.values[label][named] == cells.get((label, named), 0) - before.get(
                (label, named), 0
            )
    by_class = one(parts, Table, "By class")
    for label, row in enumerate(by_class.rows):
        total = predictions.labels[label]
        assert row[:3] == (
            CLASSES[label],
            str(total),
            f"{100 * before.get((label, label), 0) / total:.2f}",
        )
    wrong = [int(row[2]) for row in one(parts, Table, "Most frequent mistakes").rows]
    assert wrong == sorted(wrong, reverse=True) and sum(wrong) == sum(
        c for (a, b), c in cells.items() if a != b
    )
    gallery = one(parts, Gallery)
    assert len(gallery.pictures) == 24 and all(
        p.source.startswith("data:image/png") for p in gallery.pictures
    )
    kinds = [
        re.search(r"\((became wrong|became right|wrong both)", p.text)[1] for p in gallery.pictures
    ]
    assert kinds == sorted(kinds, key=["became wrong", "became right", "wrong both"].index)
    first = min(o.index for o in predictions.changed if o.float_class == o.label)
    assert f"Image {first}, " in gallery.pictures[0].text


def test_plan_settings_and_environment_are_whole(model):
    plan, environment = sections(model)[-2:]
    settings = dict(one(plan.parts, Table).rows)
    assert (
        settings["weights.bits"] == "4"
        and json.loads(settings["weights.rounding"])["name"] == "gptq"
    )
    assert settings["budget"] == "null" and settings["layers"] == "{}"
    assert one(plan.parts, Raw).text == model.plan
    values = dict(one(environment.parts, Table, "").rows)
    expected = {
        "seed": "3",
        "fingerprint": "ab12cd",
        "version of torch": "2.13",
        "seconds, walk": "12.2",
        "calibration images": "40",
        "machine": "x86_64",
        "weights": "net.th",
    }
    assert expected.items() <= values.items() and "normalize" not in values
    assert one(environment.parts, Table, "Left float").rows == (
        ("norm", "layer_norm: it stays float"),
    )


def test_results_without_all_files_say_what_is_missing(tmp_path):
    folder = make_result(
        tmp_path / "old",
        figures=False,
        plan=False,
        activations=[],
        settings={},
        about={},
        versions={},
    )
    (path,) = write_report([folder])
    text = path.read_text()
    assert (
        "has no figures.json" in text and "has no plan.yaml" in text and "Predictions" not in text
    )
    assert "90.81 % top-1" in text


def test_several_networks_are_compared(tmp_path):
    names = {
        "small": (75000, 89.17),
        "middle": (91000, 90.44),
        "worse": (95000, 90.0),
        "large": (180000, 91.7),
    }
    for name, (count, top1) in names.items():
        make_result(
            tmp_path / "all" / name,
            bytes=RESULT["bytes"] | {"packed": count},
            quantized=measured(top1, 99.25, 95.87),
            figures=name == "small",
        )
    title, story = tell([tmp_path / "all"])
    assert title == "4 quantized networks"
    assert story.sentences[0].startswith(
        "The most accurate is large: 4-bit weights and activations in all layers, 91.70"
    )
    assert (
        story.sentences[1].startswith("The smallest is small:")
        and "75 kB instead of 1.1 MB" in story.sentences[1]
    )
    comparison = story.sections[0]
    table = one(comparison.parts, Table)
    assert [row[0] for row in table.rows] == ["large", "middle", "small", "worse"]
    assert table.rows[2][5:10] == ("75,000", "144,794", "91.73", "89.17", "-2.56")
    plot = one(comparison.parts, Points)
    assert (list(plot.steps[0]), list(plot.steps[1])) == (
        [75000, 91000, 180000],
        [89.17, 90.44, 91.7],
    )
    clouds = {cloud.name: cloud for cloud in plot.clouds}
    assert dict(zip(clouds["quantized"].labels, clouds["quantized"].y, strict=True)) == {
        name: top1 for name, (_, top1) in names.items()
    }
    assert (clouds["float"].x, clouds["float"].y) == ([1076136], [91.73])
    signals = one(comparison.parts, Rows)
    assert [marks.name for marks in signals.marks] == ["large", "middle", "small", "worse"]
    assert [(s.title, s.folded) for s in story.sections[1:]] == [
        (name, True) for name in sorted(names)
    ]
    (path,) = write_report([tmp_path / "all"])
    assert path == tmp_path / "all" / PAGE and path.stat().st_size < 6_000_000


def test_networks_of_two_kinds_are_told_apart(tmp_path):
    make_result(tmp_path / "a", model="lenet", layers=RESULT["layers"][:2])
    make_result(tmp_path / "b")
    _, story = tell([tmp_path / "a", tmp_path / "b"])
    assert "accuracies compare only within each" in story.sentences[-1]
    plot = one(story.sections[0].parts, Points)
    assert [cloud.name for cloud in plot.clouds] == ["lenet on digits", "net on digits", "float"]
    assert plot.clouds[2].labels == ["float lenet", "float net"] and not plot.steps[0]
    assert not found(story.sections[0].parts, Rows)


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/a/run", "x/b/run", "x/c"], ["a/run", "b/run", "c"]),
        (["a/s/run", "b/s/run", "b/run"], ["a/s/run", "b/s/run", "b/run"]),
        (["a/b/../c", "a/d/"], ["c", "d"]),
    ],
)
def test_names_are_the_shortest_tails_that_differ(folders, names, tmp_path):
    found = unique_names([tmp_path / folder for folder in folders])
    assert found == names and len(set(found)) == len(folders)


@pytest.mark.skipif(os.name == "nt", reason="there all names are text")
def test_names_that_are_no_text_are_shown_as_text(tmp_path):
    folders = [make_result(tmp_path / os.fsdecode(name)) for name in (b"\xff", b"b")]
    (page,) = write_report(folders, tmp_path / "a.html")
    assert "\ufffd" in page.read_text("utf-8")
    (page,) = write_report(folders, tmp_path / "b.html", names=[os.fsdecode(b"\xfe"), "c"])
    assert "\ufffd" in page.read_text("utf-8")


def test_names_reach_up_to_the_root():
    assert unique_names([Path("/run"), Path("/zz/run")]) == ["/run", "zz/run"]


def test_clip_searches_are_drawn(tmp_path):
    title, story = tell([make_scan(tmp_path / "clips")])
    assert (
        title == "clips"
        and "mse:2 at 3 bits, one clip a network, 72.50 % top-1" in story.sentences[0]
    )
    parts = story.sections[0].parts
    assert parts[0].title.startswith("3 bits") and [line.name for line in parts[0].lines] == [
        "mse:2",
        "true loss",
    ]
    assert one(parts, Table, "All choices").rows[0][0] == "mse:2"
    assert ("bits", "[3]") in one(parts, Table, "Settings").rows


def test_kinds_mix_in_one_page(tmp_path, monkeypatch):
    folders = [
        make_scan(tmp_path / "s"),
        make_result(tmp_path / "x" / "r"),
        make_run(tmp_path / "t"),
    ]
    monkeypatch.chdir(tmp_path)
    (path,) = write_report([folders[0], tmp_path / "x", folders[2]])
    assert path.resolve() == tmp_path / PAGE
    title, story = tell([folders[0], tmp_path / "x", folders[2]])
    assert title == "3 results: s, r, t"
    assert [section.title for section in story.sections] == [
        "Quantized networks",
        "Training runs",
        "Clip searches",
    ]
    assert len(story.sentences) == 6


def test_a_new_kind_is_a_line_in_the_registry(tmp_path, monkeypatch):
    class Songs(Subject[str]):
        title, holds, files = "Songs", "songs (songs.json)", ("songs.json",)

        def read(self, name, folder):
            return name

        def tell(self, found, view):
            return Story((f"{len(found)} songs.",), (Section("Runs", tuple(map(Text, found))),))

    songs = Songs()
    monkeypatch.setattr(subjects, "SUBJECTS", (*subjects.SUBJECTS, songs))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "songs.json").write_text("{}")
    assert tell([tmp_path / "s"]) == ("s", songs.tell(["s"], View()))
    _, both = tell([tmp_path / "s", make_result(tmp_path / "r")])
    assert both.sections[-1] == Section("Songs", (Section("Runs", (Text("s"),)),))


def test_folders_are_named_as_asked(tmp_path):
    folders = [make_result(tmp_path / "a"), make_result(tmp_path / "b")]
    _, story = tell(folders, names=["first", "<b>"])
    assert [section.title for section in story.sections[1:]] == ["first", "<b>"]
    for names, message in (
        (["a"], "as many names as folders are needed: got 1 for 2"),
        (["a", "a"], "two folders are named 'a'"),
        (["a", " "], "a folder's name is empty"),
    ):
        with pytest.raises(RecipeError, match=message):
            tell(folders, names=names)


def test_what_is_asked_of_others_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="--smooth is for training runs; none of the folders"):
        tell([make_result(tmp_path / "net")], view=View(smooth=3))
    with pytest.raises(FormatError, match=r"scan.csv has no metric kl; it has mse:2"):
        tell([make_scan(tmp_path / "scan")], view=View(metrics=("kl",)))


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    folder = make_result(tmp_path / "net", options=OPTIONS)
    (path,) = write_report([folder])
    first = path.read_bytes()
    module._plotly.cache_clear()
    assert write_report([folder]) == [path] and path.read_bytes() == first
    shutil.copytree(folder, tmp_path / "else" / "net")
    (again,) = write_report([tmp_path / "else" / "net"])
    assert again.read_bytes() == first  # wherever it lies
    assert len(first) < 2_500_000
    text = first.decode()
    assert str(tmp_path) not in text and "<script>alert(1)" not in text and "<b>1</b>" not in text


def test_pictures_and_tables_are_files_too(tmp_path):
    folder = make_result(tmp_path / "net", options=OPTIONS)
    paths = write_report(
        [folder], tmp_path / "a.html", png=tmp_path / "png", tables=tmp_path / "csv"
    )
    assert paths[0] == tmp_path / "a.html" and all(path.is_file() for path in paths)
    png, tables = (sorted((tmp_path / kind).iterdir()) for kind in ("png", "csv"))
    assert sorted(paths[1:]) == [*tables, *png] and not (folder / PAGE).exists()
    assert {path.suffix for path in png} == {".png"} and len(png) == 12
    for path in png:
        with Image.open(path) as image:
            assert image.width > 500
    assert len(tables) == len(png) + 12  # as many tables besides
    layers = list(csv.reader(io.StringIO((tmp_path / "csv" / "layers-all-layers.csv").read_text())))
    assert layers[1][:5] == ["stem", "4", "4", "1,234", "30.5"]
    confusion = (
        tmp_path / "csv" / "predictions-confusion-of-the-quantized-network.csv"
    ).read_text()
    cells = list(csv.reader(io.StringIO(confusion)))
    assert sum(int(cell or 0) for row in cells[1:] for cell in row[1:]) == 200


def test_wrong_folders_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FormatError,
        match=r"empty is none of the folders .* \(result.json\), .*epochs.csv.*scan.csv",
    ):
        write_report([tmp_path / "empty"])
    with pytest.raises(FormatError, match="nowhere is not a folder"):
        write_report([tmp_path / "nowhere"])
    folder = make_result(tmp_path / "net")
    with pytest.raises(FormatError, match=r"result\.json is not a folder"):
        write_report([folder / "result.json"])
    with pytest.raises(RecipeError, match="net is given twice"):
        write_report([folder, folder])
    with pytest.raises(RecipeError, match="no folder"):
        write_report([])
    assert not list(tmp_path.rglob(PAGE))


def test_damage_is_named_and_nothing_is_written(tmp_path):
    damaged = make_result(tmp_path / "net")
    (damaged / "result.json").write_text("{")
    scan = make_scan(tmp_path / "scan")
    (scan / "choices.csv").write_text("bits,granularity,metric\n3,network,kl\n")
    bare = make_scan(tmp_path / "bare")
    (bare / "settings.json").write_text("[1]")
    gone = make_scan(tmp_path / "gone")
    (gone / "choices.csv").unlink()
    run = make_run(tmp_path / "run")
    (run / "steps.csv").unlink()
    for folder, name in (
        (damaged, "net/result.json"),
        (scan, "scan/choices.csv is damaged"),
        (bare, "bare/settings.json"),
        (gone, "gone/choices.csv"),
        (run, "run is not a training run .* no steps.csv"),
    ):
        with pytest.raises(FormatError, match=name):
            write_report([folder])
        assert not (folder / PAGE).exists()


def test_only_pages_of_ours_are_replaced(tmp_path):
    folder, mine = make_result(tmp_path / "net"), tmp_path / "mine.html"
    mine.write_text("<html>my own</html>")
    with pytest.raises(
        RecipeError, match=r"mine.html exists and `subbyte report` did not write it"
    ):
        write_report([folder], mine)
    with pytest.raises(RecipeError, match="net is a folder; give the name of the page"):
        write_report([folder], folder)
    assert mine.read_text() == "<html>my own</html>"


def test_missing_libraries_leave_nothing(tmp_path, monkeypatch):
    folder = make_result(tmp_path / "net")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(SubbyteError, match="pictures need matplotlib: pip install"):
            write_report([folder], png=tmp_path / "png")
    module._plotly.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(SubbyteError, match="plots need plotly: pip install"):
        write_report([folder])
    assert not (folder / PAGE).exists()


def test_the_result_is_not_touched(tmp_path):
    folder = make_result(tmp_path / "net")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report([folder])
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.pop(PAGE) and after == before and json.loads(after["result.json"])


def test_pages_share_one_file_that_draws_plots(tmp_path):
    folders = [make_result(tmp_path / name) for name in ("a b", "c")]
    whole = write_report(folders[:1])[0].stat().st_size
    pages = [write_report([folder], assets=tmp_path) for folder in folders]
    assert pages[0][1] == pages[1][1] and pages[0][1].parent == tmp_path
    for page, plotly in pages:
        text = page.read_text()
        assert f'<script src="../{plotly.name}">' in text and 'id="plotly"' not in text
        assert page.stat().st_size < whole - 1_500_000
