"""Every page of the site and of the reports in a real browser, narrow and wide, light and dark, and
printed. The pictures stay in build/screens, to be looked at.

The site is there after `make docs`.
"""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from subbyte.analyses.look import look
from subbyte.data import load_data
from subbyte.pages.write import write_report
from subbyte.records import write_document
from subbyte.records.look import LOOK
from tests.pages.browser import CHROMIUM, Browser, browser
from tests.pages.results import OPTIONS, make_result, make_scan, make_sweep
from tests.pages.test_training import make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
ROOT = Path(__file__).parents[2]
SITE, SCREENS = ROOT / "build" / "site", ROOT / "build" / "screens"
WIDTHS = (390, 1400)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    SCREENS.mkdir(parents=True, exist_ok=True)
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, str]:
    """A page of every kind, by name: its address."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "look").mkdir()
    found = look(load_data("digits"), 6, 500, 0, lambda *_: None)
    write_document(folder / "look" / LOOK, found, short=True)
    kinds = {
        "network": [make_result(folder / "net", options=OPTIONS)],
        "networks": [make_result(folder / "both" / name) for name in ("first", "second")],
        "training": [make_run(folder / "run", quantized=True)],
        "clips": [make_scan(folder / "scan")],
        "sweep": [make_sweep(folder / "bits")],
        "look": [folder / "look"],
    }
    for name, made in kinds.items():
        write_report(made, folder / f"{name}.html")
    return {name: (folder / f"{name}.html").as_uri() for name in kinds}


@pytest.fixture(scope="module")
def site() -> Iterator[dict[str, str]]:
    """The pages of the site, by name: addresses of a server, whose files its scripts ask for."""
    if not SITE.is_dir():
        pytest.skip("no site; `make docs` builds it")
    handler = partial(SimpleHTTPRequestHandler, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = sorted(path.parent.relative_to(SITE).parts for path in SITE.rglob("index.html"))
        start = f"http://127.0.0.1:{server.server_port}"
        yield {"-".join(one) or "home": "/".join((start, *one, "")) for one in found}
        server.shutdown()


def shot(chromium: Browser, address: str, name: str, ready: str) -> list[str]:
    """Take the pictures of a page; returns what is wrong with it."""
    wrong = []
    for width in WIDTHS:
        for dark in (False, True):
            # the site keeps the theme of the first visit: by another name it is another site
            place = address.replace("127.0.0.1", "localhost") if dark else address
            chromium.visit(place, width, 900, dark=dark, ready=ready)
            theme = "dark" if dark else "light"
            path = chromium.screenshot(SCREENS / f"{name}-{width}-{theme}.png", whole=True)
            broad = chromium.run("document.documentElement.scrollWidth")
            if broad > width:
                wrong.append(f"{name}: {broad} pixels at {width}")
            with Image.open(path) as picture:
                corner = sum(picture.convert("RGB").getpixel((2, picture.height - 3)))
            if dark != (corner < 3 * 128):
                wrong.append(f"{name}: not {theme} at {width}")
            wrong += [f"{name}: {problem}" for problem in chromium.problems]
    chromium.print(SCREENS / f"{name}.pdf")
    return wrong


def test_pages_of_reports_at_every_width_and_theme(chromium, reports):
    ready = "document.documentElement?.dataset.ready == 'yes'"
    wrong = [
        line
        for name, one in reports.items()
        for line in shot(chromium, one, f"report-{name}", ready)
    ]
    assert not wrong


def test_pages_of_the_site_at_every_width_and_theme(chromium, site):
    ready = "document.readyState == 'complete'"
    wrong = [shot(chromium, one, f"site-{name}", ready) for name, one in site.items()]
    assert len(site) > 25 and not any(wrong), wrong
