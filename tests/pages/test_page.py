"""The page: whole, escaped, small, the same for the same parts."""

import json
import re
import sys
from html.parser import HTMLParser

import pytest

from subbyte.errors import SubbyteError
from subbyte.pages import page as module
from subbyte.pages.figures import Chart, Line
from subbyte.pages.page import fitting, page
from subbyte.pages.parts import Gallery, Picture, Raw, Section, Story, Table, Text, shown_in
from subbyte.pages.writer import Writer, slug, unique
from tests.pages.test_figures import ALL, HISTOGRAMS

NASTY = "</script><img src=x onerror=alert(1)> & \"quotes\" 'single' `${x}` \u2028"
TABLE = Table(NASTY, (NASTY, "number", "mixed"), (("b" + NASTY, "1,234.5", "1 x"), ("a", "", "2")))
GALLERY = Gallery("pictures", (Picture("data:image/png;base64,AA==", NASTY), Picture("", "none")))
CHART = Chart(NASTY, NASTY, "y", (Line(NASTY, (1, 2), (3, 4)), Line("b", (1, 2), (4, 3))))
INNER = Section("Inner", (CHART, *ALL))
STORY = Story(
    ("First " + NASTY, "Second."),
    (
        Section(NASTY, (Text(NASTY), TABLE, INNER)),
        Section("Folded", (Raw(NASTY, NASTY), GALLERY), folded=True),
    ),
)


class Page(HTMLParser):
    """What a browser would find: texts of body elements, addresses and anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
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
        if data.strip() and self.open and self.open[-1] != "script":
            self.texts.append((self.open[-1], data.strip()))


@pytest.fixture(scope="module")
def text() -> str:
    return page("Title " + NASTY, STORY)


def figures(text: str) -> list[list[dict]]:
    """What page.js is given to draw, figure by figure."""
    return [
        json.loads(part)["items"]
        for part in re.findall(r'<script type="application/json">(.*?)</script>', text)
    ]


def test_a_page_holds_all_it_needs(text):
    # elements without an end
    found = Page(text.replace("<input ", "<meta ").replace("<img ", "<meta "))
    assert not found.open and len(set(found.ids)) == len(found.ids)
    inside = [
        address
        for address in found.addresses
        if not address.startswith(("#", "data:image/png;base64,"))
    ]
    assert not inside
    anchors = {address[1:] for address in found.addresses if address.startswith("#")}
    assert anchors <= set(found.ids)
    for outside in ("http://", "https://", "//cdn", "@import", "url("):
        shell = re.sub(r"<script.*?</script>", "", text, flags=re.S)
        assert outside not in shell
    assert "fetch(" not in text and "XMLHttpRequest" not in text and text.count('id="plotly"') == 1


def test_texts_are_shown_as_they_are(text):
    found = Page(text.replace("<input ", "<meta ").replace("<img ", "<meta "))
    texts = [shown for _, shown in found.texts]
    for expected in ("Title " + NASTY, "First " + NASTY, NASTY, "b" + NASTY, "1,234.5"):
        assert expected.strip() in texts, expected
    assert "<img src=x" not in text and text.count("</script>") == text.count("<script")


def test_figures_keep_their_names(text):
    given = figures(text)
    assert len(given) == 1 + len(ALL) and len(given[-1]) == len(HISTOGRAMS.figures)
    assert [entry["name"] for entry in given[0][0]["legend"]] == [NASTY, "b"]
    assert "&lt;/script&gt;" in given[0][0]["data"][0]["name"]  # plotly reads HTML in names
    assert [item["name"] for item in given[-1]] == ["conv", "fc", "mixed"]


def test_the_same_parts_give_the_same_bytes(text, monkeypatch):
    module._plotly.cache_clear()
    monkeypatch.setattr("time.time", lambda: 5e8)  # long ago
    assert page("Title " + NASTY, STORY) == text


def test_a_page_is_small(text):
    assert len(text.encode()) < 2_500_000


def test_tables_say_which_columns_are_numbers(text):
    head = re.search(r"<thead>(.*?)</thead>", text, re.S)
    assert head and re.findall(r'<th scope="col"( class="number")?>', head[1]) == [
        "",
        ' class="number"',
        "",
    ]
    assert 'type="search"' not in text  # two rows need no filter
    many = Table("many", ("a", "b"), tuple((str(k), str(k)) for k in range(9)))
    assert page("t", Story((), (Section("s", (many,)),))).count('type="search"') == 1


def test_contents_lead_to_headings(text):
    contents = re.search(r"<nav.*?</nav>", text, re.S)
    assert contents
    links = re.findall(r'<li class="level(\d)"><a href="#([^"]+)">(.*?)</a>', contents[0])
    assert [(level, title) for level, _, title in links][1:] == [("3", "Inner"), ("2", "Folded")]
    assert all(f'id="{name}"' in text for _, name, _ in links)


def test_small_pictures_are_of_every_histogram(text):
    for mark in ('<svg viewBox="0 0 120 40"', 'data-k="', "<option"):
        assert text.count(mark) == len(HISTOGRAMS.figures)
    assert text.count('aria-pressed="true">') == 1


def test_pictures_say_what_they_show(text):
    assert text.count("<figcaption>") == 2 + 1 + len(ALL)
    for part in re.findall(r'<div class="canvas"[^>]*>', text):
        assert (
            'tabindex="0"' in part
            and 'role="img"' in part
            and re.search(r'aria-label="[^"]{2,}"', part)
        )


def test_a_page_that_would_be_too_long_loses_its_last_figures(monkeypatch):
    def network(name: str) -> Section:
        return Section(name, (Text(f"words of {name}"), INNER), folded=True)

    sections = [Section("Comparison", (CHART,)), *(network(f"n{k}") for k in range(5))]
    whole = len(network("n0").html(Writer()).encode())
    cut = sum(len(section.cut(lambda _: False).html(Writer()).encode()) for section in sections)
    assert fitting(sections, 10**9) == sections
    fitted = fitting(sections, cut + int(2.5 * whole))
    assert fitted[:3] == sections[:3]
    assert [section.parts[0].text for section in fitted[3:]] == [
        "words of n2",
        "words of n3",
        "words of n4",
    ]
    assert all(
        len(section.parts) == 2 and "too long" in section.parts[1].text for section in fitted[3:]
    )
    nested = fitting([Section("all", tuple(sections))], cut + int(2.5 * whole))
    assert nested[0].parts == tuple(fitted)
    plotly = len(module._plotly())
    monkeypatch.setattr(module, "LIMIT", plotly + module._MARGIN + cut + 2 * whole)
    text = page("t", Story((), tuple(sections)))
    assert "too long" in text and len(text.encode()) <= module.LIMIT


def test_a_missing_plotly_is_named(monkeypatch):
    module._plotly.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(SubbyteError, match=r"plots need plotly: pip install 'subbyte\[plots\]'"):
        page("t", STORY)


def test_names_of_files_are_safe_and_unique():
    assert (
        slug("Ünder/Name: 100 %") == "nder-name-100"
        and slug("../..") == "part"
        and len(slug("a" * 500)) == 80
    )
    taken: set[str] = set()
    assert [unique(name, taken) for name in ("a", "a-2", "a", "a")] == ["a", "a-2", "a-3", "a-4"]
    names = [
        name
        for name, _ in shown_in(
            [Section("A b", (TABLE, CHART, TABLE, Section("c", (HISTOGRAMS, HISTOGRAMS))))]
        )
    ]
    assert len(set(names)) == len(names) == 5 and names[-2:] == ["a-b-c-t", "a-b-c-t-2"]
