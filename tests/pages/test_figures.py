"""Figures: what is drawn of them, in a page and in pictures, is what they were given."""

import json
import math
from itertools import pairwise

import pytest
from PIL import Image
from tests.report.test_charts import Page, traces

from subbyte.errors import SubbyteError
from subbyte.pages.charts import Chart, Line, write_html, write_png
from subbyte.pages.figures import Chooser, Cloud, Heat, Histogram, Marks, Points, Rows, numbers
from subbyte.pages.pictures import write_picture
from subbyte.pages.plotted import histogram, plot

LINES = Chart(
    "t",
    "clip",
    "loss",
    (
        Line("a", (1, 2, 3), (3.0, math.nan, 1.5), low=(2, 1, 1), high=(4, 3, 2)),
        Line("b", (1, 3), (1.0, 2.0), dashed=True),
        Line("best", (1, 3), (2, 2), strong=True),
    ),
)
POINTS = Points(
    "t",
    "about",
    "bytes",
    "top-1 %",
    (
        Cloud(
            "one", (1000, 2000), (90.5, 91.5), ("x", "<y>"), ("x: here", "y: there"), (0.5, 0.25)
        ),
        Cloud("two", (5000,), (92.0,)),
    ),
    log_x=True,
    steps=((1000, 2000), (90.5, 91.5)),
    steps_name="front",
)
ROWS = Rows(
    "t",
    "about",
    "dB",
    ("a", "b<i>", "c"),
    (
        Marks("dots", (1.5, None, 3.25)),
        Marks("more", (2.0, 1.0, 0.5)),
        Marks("bars", (1, 2, 3), "bar"),
        Marks("span", (-1, 0, None), "broad", (1, 2, None)),
        Marks("line", (-2, 0, 1), "thin", (0, 2, 3)),
    ),
)
HEAT = Heat(
    "t",
    "about",
    "put into",
    "class",
    ("p", "q"),
    ("r", "<s>"),
    ((1.0, None), (-3.0, 2.0)),
    (("1", ""), ("-3", "+2")),
    diverging=True,
)
STEMS = Histogram(
    "conv",
    "of it",
    "code",
    -2.5,
    0.5,
    (1, 0, 4, 5, 3, 2, 0, 1, 1, 3),
    25,
    (-2, -1, 0, 1),
    (2, 9, 4, 5),
    ends=(-2, 1),
)
BINS = Histogram(
    "fc",
    "of it",
    "code",
    0,
    20.0,
    (10, 20, 10),
    40,
    tuple(range(40)),
    (1,) * 39 + (3,),
    ends=(0, 39),
)
OUTLINE = Histogram("mixed", "of it", "weight / scale", 0.0, 1.0, (1, 3), 4, rounded=(4, 0))
CHOOSER = Chooser("t", "about", "layer", "float", "quantized", (STEMS, BINS, OUTLINE))
ALL = {"lines": LINES, "points": POINTS, "rows": ROWS, "heat": HEAT, "chooser": CHOOSER}


def test_heights_are_shares_for_a_step():
    assert STEMS.stems and STEMS.step == 1 and STEMS.edges[0] == -2.5 and STEMS.edges[-1] == 2.5
    assert STEMS.heights == pytest.approx([100 * count / 25 * 2 for count in STEMS.counts])
    assert STEMS.after == [10, 45, 20, 25]
    area = sum(height * 0.5 for height in STEMS.heights)
    assert area == pytest.approx(100 * 20 / 25)  # 5 of 25 values lie outside
    assert not OUTLINE.stems and OUTLINE.heights == [25, 75] and OUTLINE.after == [100, 0]


def test_many_levels_are_counted_by_bin():
    many = Histogram("n", "", "code", -0.5, 4.0, (5,) * 10, 50, tuple(range(40)), tuple(range(40)))
    assert not many.stems and many.step == 4
    sums = [sum(range(4 * k, 4 * k + 4)) for k in range(10)]
    assert many.after == pytest.approx([100 * s / sum(range(40)) for s in sums])


def test_lines_have_bands_and_gaps():
    spec = plot(LINES)
    band, a, b, best = spec["data"]
    assert (
        band["fill"] == "toself"
        and band["x"] == [1, 2, 3, 3, 2, 1]
        and band["y"] == [4, 3, 2, 1, 1, 2]
    )
    assert (
        a["y"] == [3, None, 1.5] and b["line"]["dash"] == "dash" and best["line"]["color"] == "@ink"
    )
    assert [(entry["name"], entry["traces"]) for entry in spec["legend"]] == [
        ("a", [0, 1]),
        ("b", [2]),
        ("best", [3]),
    ]
    assert a["line"]["color"] == "@0" and b["line"]["color"] == "@1"


def test_bands_are_drawn_in_pages_and_pictures_of_charts(tmp_path):
    write_html("t", [LINES], tmp_path / "a.html")
    band, *lines = traces(Page((tmp_path / "a.html").read_text()))
    assert band["fill"] == "toself" and band["y"] == [4, 3, 2, 1, 1, 2] and len(lines) == 3
    write_png(LINES, tmp_path / "a.png")
    write_png(
        Chart("t", "x", "y", tuple(Line(o.name, o.x, o.y) for o in LINES.lines)), tmp_path / "b.png"
    )
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    with pytest.raises(SubbyteError, match="3 x and a band of 3 and 2"):
        Line("a", (1, 2, 3), (1, 2, 3), low=(1, 2, 3), high=(1, 2))
    with pytest.raises(SubbyteError, match="2 x and a band of 1 and 1"):
        Line("a", (1, 2), (1, 2), low=(1,), high=(1,))


def test_bands_skip_gaps():
    lines = (Line("a", (1, 2, 3), (1, 1, 1), low=(0, math.nan, 2), high=(1, 1, 3)),)
    (band, _), (logged, _) = (
        plot(Chart("t", "x", "y", lines, log_y=log))["data"] for log in (False, True)
    )
    assert band["x"] == [1, 3, 3, 1] and logged["x"] == [3, 3]


def test_points_are_where_they_belong():
    spec = plot(POINTS)
    front, one, two = spec["data"]
    assert front["x"] == [1000, 2000] and front["line"]["shape"] == "hv"
    assert (one["x"], one["y"], one["error_y"]["array"]) == (
        [1000, 2000],
        [90.5, 91.5],
        [0.5, 0.25],
    )
    assert one["text"][1] == " &lt;y&gt; " and one["hovertext"] == ["x: here", "y: there"]
    assert two["mode"] == "markers" and one["marker"]["symbol"] != two["marker"]["symbol"]
    assert [entry["name"] for entry in spec["legend"]] == ["front", "one", "two"]
    assert spec["layout"]["xaxis"]["type"] == "log"


def test_rows_are_in_order_from_the_top():
    spec = plot(ROWS)
    axis = spec["layout"]["yaxis"]
    assert axis["ticktext"] == ["a", "b&lt;i&gt;", "c"] and axis["range"][0] > axis["range"][1]
    dots, more, bars, span, line = spec["data"]
    assert dots["x"] == [1.5, None, 3.25] and bars["orientation"] == "h" and bars["x"] == [1, 2, 3]
    # side by side, not on top of each other
    assert all(a < b for a, b in zip(dots["y"], more["y"], strict=True))
    assert span["x"] == [-1, 1, None, 0, 2, None, None, None, None] and span["y"][:3] == [
        0,
        0,
        None,
    ]
    assert line["line"]["width"] < span["line"]["width"]


def test_heat_maps_are_centred_where_they_diverge():
    spec = plot(HEAT)["data"][0]
    assert spec["z"] == [[1, None], [-3, 2]] and (spec["zmin"], spec["zmax"]) == (-3, 3)
    assert (
        spec["text"] == [["1", ""], ["-3", "+2"]] and spec["hovertext"][1][0] == "&lt;s&gt; / p: -3"
    )
    assert plot(HEAT)["layout"]["yaxis"]["autorange"] == "reversed"
    pale = Heat("t", "", "x", "y", ("a",), ("b",), ((2.5,),), (("",),), palest=0.0)
    assert (plot(pale)["data"][0]["zmin"], plot(pale)["data"][0]["zmax"]) == (0, 2.5)


def test_histograms_show_bars_stems_and_ends():
    spec = histogram(STEMS, "float", "quantized")
    bars, stems = spec["data"]
    assert (bars["x0"], bars["dx"], bars["width"]) == (-2.25, 0.5, 0.5) and bars[
        "y"
    ] == pytest.approx(STEMS.heights)
    assert (
        stems["x"] == [-2, -1, 0, 1] and stems["y"] == STEMS.after and stems["width"] < STEMS.width
    )
    lines = [shape for shape in spec["layout"]["shapes"] if shape["type"] == "line"]
    assert [line["x0"] for line in lines] == [-2, 1]
    outline = histogram(OUTLINE, "float", "quantized")
    assert outline["data"][1]["x"] == [0, 1, 2] and outline["data"][1]["y"] == [100, 0, 0]
    assert outline["layout"]["shapes"] == []
    few = Histogram("tap", "", "value", 0, 1, (1, 2), 3, (0.0, 0.5, 1.0), ends=(0, 1))
    ticks = [
        s["x0"]
        for s in histogram(few, "float", "")["layout"]["shapes"]
        if s["type"] == "line" and s["y1"] < 1
    ]
    assert ticks == [0, 0.5, 1] and len(histogram(few, "float", "")["data"]) == 1


def test_numbers_say_what_figures_show():
    assert numbers(LINES).header[3:] == ("from", "to")
    assert numbers(LINES).rows[:3] == (
        ("a", "1", "3", "2", "4"),
        ("a", "2", "", "1", "3"),
        ("a", "3", "1.5", "1", "2"),
    )
    assert numbers(Chart("t", "x", "y", (Line("a", [1], [2]),))).rows == (("a", "1", "2"),)
    assert numbers(LINES).rows[3][0] == "b (dashed)"
    assert numbers(POINTS).rows[1] == ("one", "<y>", "2000", "91.5", "0.25")
    assert numbers(POINTS).rows[2] == ("two", "", "5000", "92", "")
    assert numbers(ROWS).header == (
        "name",
        "dots",
        "more",
        "bars",
        "span, from",
        "span, to",
        "line, from",
        "line, to",
    )
    assert numbers(ROWS).rows[2] == ("c", "3.25", "0.5", "3", "", "", "1", "3")
    assert numbers(HEAT).rows == (("r", "1", ""), ("<s>", "-3", "+2"))
    table = numbers(CHOOSER)
    assert table.rows[0] == ("conv", "bin", "-2.5", "-2", "1", "")
    assert ("conv", "level", "-1", "-1", "9", "45") in table.rows
    assert ("fc", "bin", "20", "40", "20", "52.381") in table.rows  # 22 of 42 weights
    for figure in ALL.values():
        widths = {len(numbers(figure).header), *(len(row) for row in numbers(figure).rows)}
        assert len(widths) == 1


@pytest.mark.parametrize("name", ALL)
def test_every_figure_is_plain_json_and_a_picture(name, tmp_path):
    figure = ALL[name]
    specs = (
        [histogram(h, "a", "b") for h in CHOOSER.figures] if name == "chooser" else [plot(figure)]
    )
    for spec in specs:
        json.dumps(spec, allow_nan=False)
        assert spec["legend"] or name == "heat"
        for entry in spec["legend"]:
            assert all(k < len(spec["data"]) for k in entry["traces"])
    for file in ("a.png", "b.png"):
        write_picture(figure, tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 800 and len(image.convert("RGB").getcolors(2**24)) > 20


def test_pictures_with_logarithms_and_many_of_them(tmp_path):
    one = Histogram("n", "", "x", 0, 1, (0, 1000, 1), 1001, ends=(0, 2))
    write_picture(
        Chooser("t", "", "tensor", "float", "", (one,) * 5, logarithm=True), tmp_path / "a.png"
    )
    log = Rows("t", "", "bytes", ("a", "b"), (Marks("m", (10.0, 1e6)),), log_x=True)
    write_picture(log, tmp_path / "b.png")
    assert plot(log)["layout"]["xaxis"]["type"] == "log"


def test_pictures_need_matplotlib(tmp_path, hide):
    hide("matplotlib")
    for figure in ALL.values():
        with pytest.raises(
            SubbyteError, match=r"pictures need matplotlib: pip install 'subbyte\[plots\]'"
        ):
            write_picture(figure, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_rows_of_many_networks_are_low_and_labels_rising():
    tall, short = (
        Rows("t", "", "x", tuple(map(str, range(n))), (Marks("m", (1.0,) * n),)) for n in (100, 10)
    )
    assert plot(tall)["layout"]["height"] < 10 * plot(short)["layout"]["height"]
    places = plot(tall)["layout"]["yaxis"]["tickvals"]
    assert all(b == a + 1 for a, b in pairwise(places))
