"""Pages in a real browser: drawn without an error, at any width, light, dark and printed, by mouse
and by keyboard.
"""

import pytest
from PIL import Image

from subbyte.pages.write import write_report
from tests.pages.browser import CHROMIUM, Browser, browser
from tests.pages.results import (
    EVIDENCE,
    LAYERS,
    OPTIONS,
    RESULT,
    make_result,
    make_scan,
    make_sweep,
    measured,
)
from tests.pages.test_training import make_run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A network alone, and a mixture of two networks, a sweep, a training run and a clip search."""
    folder = tmp_path_factory.mktemp("pages")
    make_result(folder / "net", options=OPTIONS)
    make_result(folder / "both" / "first", quantized=measured(88.0, 99.25, 95.87))
    make_result(folder / "both" / "second", bytes=RESULT["bytes"] | {"packed": 90000})
    run, scan = make_run(folder / "run", quantized=True), make_scan(folder / "scan")
    write_report([folder / "net"], folder / "net.html")
    write_report([folder / "both", make_sweep(folder / "bits"), run, scan], folder / "mixed.html")
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def wide(chromium: Browser, pages):
    chromium.open(pages / "net.html", 1200, 900)
    return chromium


DRAWN = """[...document.querySelectorAll('figure.plot')].map((plot) => [
    plot.querySelector('figcaption').textContent,
    plot.querySelectorAll(
        '.trace path, .trace text, .point path, .hm image, .heatmaplayer image').length,
    plot.querySelector('.main-svg')?.getBoundingClientRect().width || 0])"""


def colours(picture) -> set:
    with Image.open(picture) as image:
        return {colour for _, colour in image.convert("RGB").getcolors(2**24)}


def test_every_plot_is_drawn_on_a_wide_screen(wide, tmp_path):
    drawn = wide.run(DRAWN)
    assert len(drawn) == 12 and all(
        marks > 0 and 600 < width < 1000 for _, marks, width in drawn
    ), drawn
    assert wide.run("document.documentElement.scrollWidth") == 1200 and wide.problems == []
    seen = colours(wide.screenshot(tmp_path / "wide.png", whole=True))
    assert {(255, 255, 255), (0, 0x72, 0xB2)} <= seen and len(seen) > 300
    ticks = wide.run(
        "[...document.querySelectorAll('.ytick text')].map((tick) => tick.textContent)"
    )
    assert set(LAYERS) <= set(ticks)  # as they are, markup and all
    assert wide.run("document.querySelectorAll('.modebar-btn').length") > 10
    assert (
        wide.run(
            'document.querySelectorAll(\'[data-title^="Share"], [data-title*="loud"]\').length'
        )
        == 0
    )


COLUMN = """[...document.querySelectorAll('caption')]
    .find((c) => c.textContent == 'All layers').parentElement"""


def column(wide: Browser, number: int) -> list[str]:
    return wide.run(f"[...{COLUMN}.tBodies[0].rows].map((row) => row.cells[{number}].textContent)")


def test_tables_sort_by_mouse_and_keyboard(wide):
    head = f"{COLUMN}.tHead.rows[0].cells"
    before = column(wide, 0)
    wide.run(f"{head}[3].querySelector('button').click()")
    assert column(wide, 3) == ["345", "1,234", "2,345"]
    assert wide.run(f"{head}[3].getAttribute('aria-sort')") == "ascending"
    wide.run(f"{head}[3].querySelector('button').focus()")
    wide.press("Enter", "\r")
    assert column(wide, 3) == ["2,345", "1,234", "345"]
    assert wide.run(f"{head}[3].getAttribute('aria-sort')") == "descending"
    wide.run(f"{head}[4].querySelector('button').click()")
    assert column(wide, 4) == ["18.2", "30.5", "exact"]
    assert wide.run(f"{head}[3].getAttribute('aria-sort')") is None
    wide.run(f"{head}[0].querySelector('button').click()")
    assert column(wide, 0) == sorted(before) and wide.problems == []


def test_tables_are_filtered(wide):
    rows = "[...document.querySelector('.filter').closest('.table').querySelectorAll('tbody tr')]"
    shown = f"{rows}.filter((row) => row.offsetParent).length"
    box = "document.querySelector('.filter')"
    assert wide.run(shown) == 9
    for words, count in (("TERNARY", 3), ("ternary  stem", 1), ("nothing", 0), ("", 9)):
        wide.run(f"{box}.value = '{words}'; {box}.dispatchEvent(new Event('input'))")
        assert wide.run(shown) == count, words


PLOT = (
    "[...document.querySelectorAll('figure.plot')].find((p) => p.textContent.startsWith('\\n{}'))"
)


def test_curves_hide_and_come_back(wide):
    plot = PLOT.format("Ranges of weights")
    visible = f"{plot}.querySelector('.canvas')._fullData.map((trace) => trace.visible)"
    button = f"{plot}.querySelectorAll('.legend button')[1]"
    assert wide.run(visible) == [True, True] and wide.run(f"{button}.textContent") == "float values"
    wide.run(f"{button}.click()")
    assert (
        wide.run(visible) == [True, False]
        and wide.run(f"{button}.getAttribute('aria-pressed')") == "false"
    )
    wide.run(f"{button}.focus()")
    wide.press("Enter", "\r")
    assert wide.run(visible) == [True, True]


def test_keys_zoom_move_and_go_back(wide):
    canvas = f"{PLOT.format('Signal-to-noise ratio of layers')}.querySelector('.canvas')"
    ends = f"{canvas}._fullLayout.xaxis.range.slice()"
    low, high = wide.run(ends)
    wide.run(f"{canvas}.focus()")
    wide.press("+", "+")
    a, b = wide.run(ends)
    assert (b - a) == pytest.approx(0.7 * (high - low)) and a + b == pytest.approx(low + high)
    wide.press("ArrowRight")
    assert wide.run(ends)[0] == pytest.approx(a + 0.15 * (b - a))
    wide.press("0", "0")
    assert wide.run(ends) == pytest.approx([low, high], rel=0.02)
    rows = wide.run(f"{canvas}._fullLayout.yaxis.range.slice()")
    assert rows == pytest.approx([2.6, -0.6]) and wide.problems == []


def test_one_of_many_histograms_is_chosen(wide):
    plot = PLOT.format("Weights on their grids")
    taken = f"{plot}.querySelector('.canvas')._fullData[1].y.map((y) => y)"
    weights = [100 * count / 240 for count in EVIDENCE.layers[LAYERS[0]].taken]
    assert wide.run(taken) == pytest.approx(weights, abs=1e-3)
    wide.run(f"{plot}.querySelectorAll('.small button')[2].click()")
    weights = [100 * count / 240 for count in EVIDENCE.layers[LAYERS[2]].taken]
    assert wide.run(taken) == pytest.approx(weights, abs=1e-3)
    assert wide.run(f"{plot}.querySelector('select').value") == "2"
    assert wide.run(f"{plot}.querySelector('.note').textContent").startswith("fc: values from")
    pressed = (
        f"[...{plot}.querySelectorAll('.small button')].map((b) => b.getAttribute('aria-pressed'))"
    )
    assert wide.run(pressed) == ["false", "false", "true"]
    wide.run(
        f"{plot}.querySelector('select').value = '1'; "
        f"{plot}.querySelector('select').dispatchEvent(new Event('change'))"
    )
    assert wide.run(f"{plot}.querySelector('.note').textContent").startswith(
        "block.<b>1</b>: values"
    )
    axis = f"{plot}.querySelector('.canvas')._fullLayout.yaxis.type"
    assert wide.run(axis) == "linear"
    wide.run(f"{plot}.querySelector('.log').click()")
    assert wide.run(axis) == "log"
    numbers = f"{plot}.querySelector('.numbers')"
    wide.run(f"{numbers}.open = true")
    wide.wait(f"{numbers}.querySelectorAll('tr').length > 30")
    assert (
        wide.run(f"[...{numbers}.querySelectorAll('tr')].at(-1).cells[0].textContent")
        == "quantized"
    )
    assert wide.problems == []


def test_plots_follow_the_theme_and_keep_their_state(wide, tmp_path):
    canvas = f"{PLOT.format('Accuracy against size')}.querySelector('.canvas')"
    wide.run(f"void Plotly.relayout({canvas}, {{'yaxis.range': [90, 91]}})")
    ink = f"{canvas}._fullLayout.font.color"
    assert wide.run(ink) == "#1b1f24"
    wide.theme(True)
    wide.wait(f"{ink} == '#e6edf3'")
    assert wide.run(f"{canvas}._fullLayout.yaxis.range.slice()") == [90, 91]
    seen = colours(wide.screenshot(tmp_path / "dark.png", whole=True))
    assert {(0x12, 0x16, 0x1C), (0x4F, 0xA8, 0xE0)} <= seen and (0, 0x72, 0xB2) not in seen
    wide.theme(False)
    wide.wait(f"{ink} == '#1b1f24'")
    assert wide.problems == []


def test_a_printed_page_is_light_and_narrow(wide, tmp_path):
    wide.theme(True)
    seen = "window.widths = []; addEventListener('beforeprint', () => { window.widths = "
    seen += (
        "[...document.querySelectorAll('.main-svg')].map((svg) => "
        "svg.getBoundingClientRect().width); "
    )
    seen += (
        "window.inks = [...document.querySelectorAll('.canvas')].map((c) => "
        "c._fullLayout?.font.color); })"
    )
    wide.run(seen)
    wide.print(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    assert (
        content.startswith(b"%PDF")
        and content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 3
    )
    widths, inks = wide.run("window.widths"), wide.run("window.inks")
    assert len(widths) >= 11 and max(widths) <= 680 and set(inks) == {"#1b1f24"}
    wide.theme(False)
    assert wide.problems == []


def test_everything_fits_on_a_phone(chromium, pages, tmp_path):
    chromium.open(pages / "net.html", 390, 844, phone=True)
    drawn = chromium.run(DRAWN)
    assert all(marks > 0 and 250 < width <= 390 for _, marks, width in drawn), drawn
    assert chromium.run("document.documentElement.scrollWidth") == 390 and chromium.problems == []
    assert chromium.run("document.querySelector('nav details').open") is False
    chromium.screenshot(tmp_path / "phone.png", whole=True)
    with Image.open(tmp_path / "phone.png") as image:
        assert image.width == 390 and image.height > 3000


def test_folded_parts_are_drawn_when_opened(chromium, pages, tmp_path):
    chromium.open(pages / "mixed.html", 1000, 800)
    count = "document.querySelectorAll('figure.plot[data-drawn]').length"
    total = chromium.run("document.querySelectorAll('figure.plot').length")
    comparison, sweep, run, search = 2, 6, 4, 1
    assert chromium.run(count) == comparison + sweep + run + search < total
    assert chromium.problems == []
    chromium.screenshot(tmp_path / "mixed.png", whole=True)
    chromium.run("location.hash = '#s-second'")
    chromium.wait(f"{count} > 12")
    assert chromium.run("document.querySelector('#s-second').open") and chromium.run(count) < total
    assert (
        all(marks > 0 for _, marks, width in chromium.run(DRAWN) if width > 0)
        and chromium.problems == []
    )


def test_old_browsers_are_told(chromium, pages, tmp_path):
    page = tmp_path / "old.html"
    text = (pages / "net.html").read_text()
    page.write_text(
        text.replace(
            "<script>\n// Draws", "<script>delete window.DecompressionStream;\n// Draws", 1
        )
    )
    assert page.read_text() != text
    chromium.open(page, 800, 600)
    notes = chromium.run("[...document.querySelectorAll('.note')].map((note) => note.textContent)")
    assert set(notes) == {"This browser is too old to draw plots."} and chromium.problems == []
