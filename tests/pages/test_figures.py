"""Figures: what is drawn of them, in a page and in pictures, is what they were given."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image

from subbyte.errors import ContractError, NumericsError, SubbyteError
from subbyte.pages import figures
from subbyte.pages.figure import Figure
from subbyte.pages.figures import (
    Bars,
    Chart,
    Cloud,
    Dots,
    Heat,
    Histogram,
    Histograms,
    Line,
    Points,
    Rows,
    Spans,
    front,
)
from subbyte.pages.writer import Writer

LINES = Chart(
    "loss <b> $a_1$",
    "clip",
    "loss",
    (
        Line("a", (1, 2, 3), (3.0, math.nan, 1.5), low=(2, 1, 1), high=(4, 3, 2)),
        Line("</script>", (1, 3), (1.0, 2.0), dashed=True),
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
        Dots("dots", (1.5, None, 3.25)),
        Dots("more", (2.0, 1.0, 0.5)),
        Bars("bars", (1, 2, 3)),
        Spans("span", (-1, 0, None), to=(1, 2, None)),
        Spans("line", (-2, 0, 1), to=(0, 2, 3), thin=True),
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
HISTOGRAMS = Histograms("t", "about", "layer", "float", "quantized", (STEMS, BINS, OUTLINE))
ALL = [LINES, POINTS, ROWS, HEAT, HISTOGRAMS]

every_figure = pytest.mark.parametrize("figure", ALL, ids=lambda figure: type(figure).__name__)


class Careless(Chart):
    """Draws one value, whatever it is."""

    def items(self):
        (item,) = super().items()
        return [item | {"data": [{"type": "scatter", "y": list(self.names)}]}]


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (math.nan, NumericsError, "holds NaN or Inf"),
        (-math.inf, NumericsError, "holds NaN or Inf"),
        (object(), ContractError, "not made of plain values"),
    ],
)
def test_what_json_has_no_word_for_is_an_error_that_names_the_figure(value, kind, said):
    with pytest.raises(kind, match=f"figure 'loss of mine'.* {said}"):
        Careless("loss of mine", "x", "y", (), names=(value,)).html(Writer())


def test_every_kind_of_figure_is_tested_below():
    kinds = {one for one in vars(figures).values() if isinstance(one, type)}
    assert {type(one) for one in ALL} == {one for one in kinds if issubclass(one, Figure)}


@every_figure
def test_a_figure_is_a_table(figure):
    table = figure.table()
    assert table.title.startswith(figure.title) and table.rows
    assert {len(row) for row in table.rows} == {len(table.header)}


@every_figure
def test_a_figure_is_plain_json_in_a_frame(figure):
    for item in figure.items():
        json.dumps(item, allow_nan=False)
        assert item["layout"]["height"] > 100
        for entry in item["legend"]:
            assert entry["traces"] and all(k < len(item["data"]) for k in entry["traces"])
    page = Writer()
    text = figure.html(page)
    data = text.partition('<script type="application/json">')[2].partition("</script>")[0]
    assert json.loads(data) == {"items": json.loads(json.dumps(figure.items()))}
    assert page.figures == 1 and 'id="figure-1"' in text and text.count("</script>") == 1


@every_figure
def test_a_figure_is_a_picture(figure, tmp_path):
    for name in ("a.png", "b.png"):
        assert figure.picture(tmp_path / name) == [tmp_path / name]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 800 and len(image.convert("RGB").getcolors(2**24)) > 20


@every_figure
def test_pictures_need_matplotlib(figure, tmp_path, hide):
    hide("matplotlib")
    with pytest.raises(SubbyteError, match=r"need matplotlib: pip install 'subbyte\[plots\]'"):
        figure.picture(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_lines_have_bands_gaps_and_colours():
    (item,) = LINES.items()
    band, a, b, best = item["data"]
    assert band["fill"] == "toself" and band["x"] == [1, 2, 3, 3, 2, 1]
    assert band["y"] == [4, 3, 2, 1, 1, 2] and a["y"] == [3, None, 1.5]
    assert b["name"] == "&lt;/script&gt;" and b["line"]["dash"] == "dash"
    assert (best["line"]["color"], best["line"]["width"]) == ("@ink", 3.0)
    assert [(entry["name"], entry["traces"]) for entry in item["legend"]] == [
        ("a", [0, 1]),
        ("</script>", [2]),
        ("best", [3]),
    ]
    assert a["line"]["color"] == "@0" and b["line"]["color"] == "@1"


def test_lines_of_one_name_share_colour_and_legend(tmp_path):
    lines = (Line("a", (1, 2), (3, 4)), Line("a", (1, 2), (5, 6), dashed=True))
    (item,) = Chart("t", "x", "y", lines).items()
    under, over = item["data"]
    assert under["line"]["color"] == over["line"]["color"] and len(item["legend"]) == 1
    assert under["line"]["width"] > over["line"]["width"] and under["opacity"] < over["opacity"]
    LINES.picture(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        found = {colour for _, colour in image.convert("RGB").getcolors(2**24)}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0, 0, 0)} <= found


def test_a_logarithm_has_no_place_for_0():
    lines = (Line("a", (1, 2, 3), (0.5, 0.0, -1), low=(0, math.nan, 2), high=(1, 1, 3)),)
    (plain,), (logged,) = (Chart("t", "x", "y", lines, log_y=log).items() for log in (False, True))
    assert plain["data"][1]["y"] == [0.5, 0, -1] and logged["data"][1]["y"] == [0.5, None, None]
    assert plain["data"][0]["x"] == [1, 3, 3, 1] and logged["data"][0]["x"] == [3, 3]


@pytest.mark.parametrize(
    ("points", "band", "message"),
    [
        ((1, 2), ((), ()), "2 y"),
        ((1, 2, 3), ((1, 2, 3), (1, 2)), "3 x and a band of 3 and 2"),
        ((1, 2, 3), ((1,), (1,)), "3 x and a band of 1 and 1"),
    ],
)
def test_a_line_has_as_many_x_as_y(points, band, message):
    with pytest.raises(SubbyteError, match=message):
        Line("a", (1, 2, 3), points, low=band[0], high=band[1])


def test_points_are_where_they_belong():
    (item,) = POINTS.items()
    steps, one, two = item["data"]
    assert steps["x"] == [1000, 2000] and steps["line"]["shape"] == "hv"
    assert (one["x"], one["y"]) == ([1000, 2000], [90.5, 91.5])
    assert one["error_y"]["array"] == [0.5, 0.25] and one["text"][1] == " &lt;y&gt; "
    assert one["hovertext"] == ["x: here", "y: there"] and two["mode"] == "markers"
    assert one["marker"]["symbol"] != two["marker"]["symbol"]
    assert [entry["name"] for entry in item["legend"]] == ["front", "one", "two"]
    assert item["layout"]["xaxis"]["type"] == "log"


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(2, 5), (1, 4), (3, 4.5)], ([1, 2], [4, 5])),
        ([(1, 4), (1, 5), (1, 3)], ([1], [5])),
        ([(1, 4), (2, 4)], ([1], [4])),
        ([], ([], [])),
    ],
)
def test_the_front_is_of_those_that_no_other_beats(places, expected):
    assert front(places) == expected


def test_rows_are_in_order_from_the_top():
    (item,) = ROWS.items()
    axis = item["layout"]["yaxis"]
    assert axis["ticktext"] == ["a", "b&lt;i&gt;", "c"] and axis["range"][0] > axis["range"][1]
    dots, more, bars, span, line = item["data"]
    assert dots["x"] == [1.5, None, 3.25] and bars["orientation"] == "h" and bars["x"] == [1, 2, 3]
    # side by side, not on top of each other
    assert all(a < b for a, b in zip(dots["y"], more["y"], strict=True))
    assert span["x"] == [-1, 1, None, 0, 2, None, None, None, None]
    assert span["y"][:3] == [0, 0, None] and line["line"]["width"] < span["line"]["width"]


def test_rows_of_many_names_are_low():
    tall, short = (
        Rows("t", "", "x", tuple(map(str, range(n))), (Dots("m", (1.0,) * n),), log_x=True)
        for n in (100, 10)
    )
    (tall_item,), (short_item,) = tall.items(), short.items()
    assert tall_item["layout"]["height"] < 10 * short_item["layout"]["height"]
    assert all(b == a + 1 for a, b in pairwise(tall_item["layout"]["yaxis"]["tickvals"]))
    assert tall_item["layout"]["xaxis"]["type"] == "log"


def test_heat_maps_are_centred_where_they_diverge():
    (item,) = HEAT.items()
    trace = item["data"][0]
    assert trace["z"] == [[1, None], [-3, 2]] and (trace["zmin"], trace["zmax"]) == (-3, 3)
    assert trace["text"] == [["1", ""], ["-3", "+2"]]
    assert trace["hovertext"][1][0] == "&lt;s&gt; / p: -3"
    assert item["layout"]["yaxis"]["autorange"] == "reversed"
    (pale,) = Heat("t", "", "x", "y", ("a",), ("b",), ((2.5,),), (("",),), palest=0.0).items()
    assert (pale["data"][0]["zmin"], pale["data"][0]["zmax"]) == (0, 2.5)


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


def ticks(item: dict, *, whole: bool) -> list[float]:
    lines = [shape for shape in item["layout"]["shapes"] if shape["type"] == "line"]
    return [line["x0"] for line in lines if (line["y1"] == 1) is whole]


def test_histograms_show_bars_stems_and_ends():
    stems_item, _, outline = HISTOGRAMS.items()
    bars, stems = stems_item["data"]
    assert (bars["x0"], bars["dx"], bars["width"]) == (-2.25, 0.5, 0.5)
    assert bars["y"] == pytest.approx(STEMS.heights)
    assert stems["x"] == [-2, -1, 0, 1] and stems["y"] == STEMS.after
    assert stems["width"] < STEMS.width and ticks(stems_item, whole=True) == [-2, 1]
    assert outline["data"][1]["x"] == [0, 1, 2] and outline["data"][1]["y"] == [100, 0, 0]
    assert outline["layout"]["shapes"] == []
    few = Histogram("input", "", "value", 0, 1, (1, 2), 3, (0.0, 0.5, 1.0), ends=(0, 1))
    (item,) = Histograms("t", "", "tensor", "float", "", (few,)).items()
    assert ticks(item, whole=False) == [0, 0.5, 1] and len(item["data"]) == 1


def test_one_histogram_is_chosen_by_list_or_by_small_picture(tmp_path):
    above, below = HISTOGRAMS.controls()
    assert above.count("<option") == below.count("<svg") == 3 and "checked" not in above
    one = Histogram("n", "", "x", 0, 1, (0, 1000, 1), 1001, ends=(0, 2))
    many = Histograms("t", "", "tensor", "float", "", (one,) * 5, logarithm=True)
    assert "checked" in many.controls()[0] and many.picture(tmp_path / "a.png")


def test_tables_say_what_figures_show():
    table = LINES.table()
    assert table.header[3:] == ("from", "to")
    assert table.rows[:2] == (("a", "1", "3", "2", "4"), ("a", "2", "", "1", "3"))
    assert table.rows[3][0] == "</script> (dashed)"
    plain = replace(LINES, lines=(Line("a", [1], [2]),))
    assert plain.table().rows == (("a", "1", "2"),)
    assert POINTS.table().rows[1:] == (
        ("one", "<y>", "2000", "91.5", "0.25"),
        ("two", "", "5000", "92", ""),
    )
    spans = ("span, from", "span, to", "line, from", "line, to")
    assert ROWS.table().header == ("name", "dots", "more", "bars", *spans)
    assert ROWS.table().rows[2] == ("c", "3.25", "0.5", "3", "", "", "1", "3")
    assert HEAT.table().rows == (("r", "1", ""), ("<s>", "-3", "+2"))
    rows = HISTOGRAMS.table().rows
    assert rows[0] == ("conv", "bin", "-2.5", "-2", "1", "")
    assert ("conv", "level", "-1", "-1", "9", "45") in rows
    assert ("fc", "bin", "20", "40", "20", "52.381") in rows  # 22 of 42 weights


def test_axes_of_counts_have_whole_numbers():
    line = Line("a", (1, 2, 3), (1.0, 2.0, 3.0))
    whole, any_ = (Chart("t", "x", "y", (line,), whole_x=flag).items()[0] for flag in (True, False))
    assert whole["layout"]["xaxis"]["dtick"] == 1 and "dtick" not in any_["layout"]["xaxis"]


@pytest.mark.parametrize("y", [(2.29, 2.3), (0.1, 3.0), (1e-9, 1.0)])
def test_logarithms_of_any_range_are_drawn(y, tmp_path):
    Chart("t", "x", "y", (Line("a", (1, 2), y),), log_y=True).picture(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_names_that_start_with_an_underscore_are_in_the_legend(tmp_path):
    for name in ("_run", "run"):
        Chart("t", "x", "y", (Line(name, (1, 2), (1, 2)),)).picture(tmp_path / f"{name}.png")
    with Image.open(tmp_path / "_run.png") as odd, Image.open(tmp_path / "run.png") as usual:
        assert odd.width > usual.width  # by the width of the underscore


def test_error_bars_end_where_values_do():
    cloud = Cloud("top-1", (1, 2), (99.75, 0.25), errors=(0.5, 1.0), within=(0.0, 100.0))
    assert cloud.reach == ([0.5, 0.25], [0.25, 1.0])
    bars = cloud.trace(0, labelled=False, right=2.0)["error_y"]
    assert (bars["array"], bars["arrayminus"]) == ([0.25, 1.0], [0.5, 0.25])
