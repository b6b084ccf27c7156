"""The comparison with other tools: which cells there are, what is missing, lines, the page."""

from pathlib import Path

import pytest

from benchmarks._store import Store
from benchmarks.peers.awkward import AWKWARD
from benchmarks.peers.cells import (
    COLUMNS,
    KEY,
    PREFIX,
    SUBJECTS,
    cells_of,
    note_of,
    peers,
    requirements,
    user_lines,
)
from benchmarks.peers.table import page

SOURCE = '''
"""A tool."""
import sys
import tool
from tool.parts import (
    part,
)
from benchmarks.peers.contract import Job

def quantize(job):
    """Theirs."""
    few = job.inputs
    # user code
    made = tool.quantize(  # told
        few,
    )

    # a remark
    class Reader:
        """Reads."""
    # end of user code
    # user code: first and last at 8 bits
    made.ends(8)
    # end of user code: first and last at 8 bits
    return made
'''


def row(peer: str, score: str = "", **more: str) -> dict[str, str]:
    own = {"model": "resnet20", "peer": peer, "width": "W4", "ends": "all", "images": "500"}
    own |= {"seed": "0", "metric": "top-1 %", "score": score, "quantize_cpu": "7.0"}
    own |= {"version": "1.0", "user_lines": "4", "date": "2026-12-01", "machine": "a processor"}
    return dict.fromkeys(COLUMNS, "") | own | more


def test_lines_are_a_users_alone() -> None:
    assert user_lines(SOURCE, ends8=False) == 8  # four of imports, three of the call
    assert user_lines(SOURCE, ends8=True) == 9


def test_a_cell_with_a_row_is_not_missing(tmp_path: Path) -> None:
    cells = cells_of("brevitas", ["resnet20"], "W4", "", 0)
    assert [cell["ends"] for cell in cells] == ["all", "8bit"]
    Store(tmp_path / "rows.csv", COLUMNS, KEY).add(dict(row("brevitas", "91.0")))
    store = Store(tmp_path / "rows.csv", COLUMNS, KEY)
    assert [store.find(cell) is None for cell in cells] == [False, True]


def test_every_cell_is_asked_once() -> None:
    cells = cells_of("subbyte", [], "", "", 0)
    keys = {tuple(cell[name] for name in KEY) for cell in cells}
    assert len(keys) == len(cells) == 13 + 10 + 9
    assert len(cells_of("float", [], "", "", 0)) == len(SUBJECTS) - len(AWKWARD)
    awkward = {cell["model"] for cell in cells_of("subbyte", ["awkward"], "", "", 0)}
    assert awkward == {PREFIX + name for name in AWKWARD}


@pytest.mark.parametrize("peer", peers())
def test_tools_say_their_settings_and_pin_their_packages(peer: str) -> None:
    assert note_of(peer)
    lines = requirements(peer).read_text().splitlines()
    named = [line for line in lines if not line.startswith(("#", "--"))]
    assert named and all("==" in line for line in named)


def test_the_page_says_what_is_lost_and_why_cells_are_empty() -> None:
    rows = [row("float", "91.73", width="float"), row("subbyte", "91.00")]
    rows += [row("brevitas", "91.50"), row("nncf", reason="no | bits: `a_b`, c_d")]
    text = page(rows)
    assert "| subbyte | not run yet | not run yet | not run yet | 91.00 |" in text
    assert "| Brevitas | not run yet | not run yet | not run yet | **91.50** |" in text
    assert "* W4, all layers at the bits: Brevitas is 0.50 ahead;" in text
    assert "| NNCF | not run yet | not run yet | not run yet | [1] |" in text
    assert "* [1] NNCF: no \\| bits: `a_b`, c\\_d" in text


def test_a_difference_below_the_standard_error_is_a_tie() -> None:
    text = page([row("subbyte", "91.00"), row("brevitas", "91.20")])
    assert "Brevitas is 0.20 ahead (a tie)." in text
    assert "No tool is ahead" in page([row("subbyte", "91.30"), row("brevitas", "91.20")])
