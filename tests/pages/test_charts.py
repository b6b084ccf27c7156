"""Pictures and pages: whole, self-contained, the same for the same input, and they show what they
were given.
"""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from subbyte.errors import SubbyteError
from subbyte.pages import Chart, Line, Table, write_html, write_png

X = (1.0, 2.0, 3.0, 4.0)
CHART = Chart(
    "loss <b> $a_1$",
    "clip",
    "loss & more",
    (
        Line("mse", X, (3.0, 1.0, math.nan, 2.0)),
        Line("mse", X, (3.0, 1.1, 1.0, math.inf), dashed=True),
        Line("</script>", X, (0.5, 0.0, -1.0, 0.5)),
        Line("true loss", X, (1.0, 2.0, 1.0, 3.0), dashed=True, strong=True),
    ),
)
TABLE = Table("accuracy", ("metric", "2 bits"), (("mse & <i>", "91.2"), ("kl", "90.0")))


class Page(HTMLParser):
    """What a browser would find: texts of body elements, and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif data.strip():
            self.texts.append((self.open[-1], data.strip()))


def traces(page: Page) -> list[dict[str, object]]:
    """What each chart of a page is told to draw."""
    calls = [s for s in page.scripts if "Plotly.newPlot(" in s and len(s) < 100_000]
    found: list[dict[str, object]] = []
    for call in calls:
        start = call.index("[", call.index("Plotly.newPlot("))
        found += json.JSONDecoder().raw_decode(call[start:])[0]
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "a.html"
    write_html("A <title>", [CHART, "a & b <c>", TABLE, CHART], path)
    return Page(path.read_text())


def test_a_page_holds_all_it_needs(page):
    assert not page.open and not page.addresses
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1  # plotly.js, once
    assert len(set(page.ids)) == len(page.ids) == 2


def test_texts_are_shown_as_they_are(page):
    for text in (
        ("h1", "A <title>"),
        ("p", "a & b <c>"),
        ("h2", "accuracy"),
        ("th", "2 bits"),
        ("td", "mse & <i>"),
    ):
        assert text in page.texts


def test_lines_keep_their_points_and_gaps(page):
    drawn = traces(page)[:4]
    assert [line["name"] for line in drawn] == ["mse", "mse", "&lt;/script&gt;", "true loss"]
    assert drawn[0]["y"] == [3.0, 1.0, None, 2.0] and drawn[1]["y"] == [3.0, 1.1, 1.0, None]
    assert drawn[2]["y"] == [0.5, 0.0, -1.0, 0.5]
    style = [line["line"] for line in drawn]
    assert style[0]["color"] == style[1]["color"] != style[2]["color"]  # type: ignore[index]
    assert (style[0]["dash"], style[1]["dash"]) == ("solid", "dash")  # type: ignore[index]
    assert (style[3]["color"], style[3]["width"]) == ("#000000", 3.0)  # type: ignore[index]
    assert [line["showlegend"] for line in drawn] == [True, False, True, True]


def test_a_logarithm_has_no_place_for_0(tmp_path):
    write_html("log", [Chart("t", "x", "y", CHART.lines, log_y=True)], tmp_path / "a.html")
    assert traces(Page((tmp_path / "a.html").read_text()))[2]["y"] == [0.5, None, None, 0.5]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_png(CHART, tmp_path / f"{name}.png")
        write_html("t", [CHART, TABLE], tmp_path / f"{name}.html")
    for suffix in ("png", "html"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.html",
        "a.png",
        "b.html",
        "b.png",
    ]


def test_pictures_show_lines_in_their_colours(tmp_path):
    write_png(CHART, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 1100 and image.height >= 650
        colours = {colour for _, colour in image.convert("RGB").getcolors(2**24)}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0, 0, 0)} <= colours
    write_png(Chart("none", "x", "y", ()), tmp_path / "empty.png")


def test_a_line_has_as_many_x_as_y():
    with pytest.raises(SubbyteError, match="line 'a' of a chart has 2 x and 1 y"):
        Line("a", (1, 2), (1,))


@pytest.mark.parametrize("library", ["matplotlib", "plotly"])
def test_missing_libraries_are_named(library, tmp_path, hide):
    hide(library)
    with pytest.raises(SubbyteError, match=rf"{library}: pip install 'subbyte\[plots\]'"):
        (
            write_png(CHART, tmp_path / "a")
            if library == "matplotlib"
            else write_html("t", [CHART], tmp_path / "a")
        )
    assert list(Path(tmp_path).iterdir()) == []


def test_pages_without_charts_need_no_library(tmp_path):
    write_html("t", [TABLE, "text"], tmp_path / "a.html")
    assert not Page((tmp_path / "a.html").read_text()).scripts
