"""Tables that fit the terminal."""

from io import StringIO

import pytest
from rich.console import Console

from subbyte.cli.fitting import Table, shortened


def printed(table: Table, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, markup=False, emoji=False)
    console.print(table)
    return console.file.getvalue().splitlines()


def wide(name: str, figures: int) -> Table:
    table = Table(title="some")
    table.add_column("name")
    for number in range(figures):
        table.add_column(f"figure {number}", justify="right")
    table.add_column("why")
    for row in range(2):
        cells = (f"{1000 * row + number:,}.5" for number in range(figures))
        table.add_row(f"{row}{name}", *cells, "a reason of several words that goes on and on")
    return table


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("name", ["fc", "features.12.conv.0.0.weight" * 4])
@pytest.mark.parametrize("figures", [1, 9])
def test_lines_are_no_longer_and_figures_are_whole(width, name, figures):
    lines = printed(wide(name, figures), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(f"{number}.5" in text for number in range(figures))
    assert all(f"1,{number:03}.5" in text for number in range(figures))
    assert text.count("some") == 1 and text.count("why") == 1


def test_each_part_of_a_table_says_whose_rows_they_are():
    text = "\n".join(printed(wide("layer", 9), 60))
    parts = text.count("│ 0layer")
    assert parts > 1 and parts == text.count("│ 1layer") == text.count("┃ name ")


def test_names_are_shortened_in_the_middle_and_only_as_far_as_needed():
    assert shortened("features.0.conv", 15) == "features.0.conv"
    assert shortened("features.0.conv", 9) == "feat…conv" and shortened("abc", 1) == "…"
    name = "a" * 30 + "b" * 30
    assert any(name in line for line in printed(wide(name, 1), 160))
    shown = next(line for line in printed(wide(name, 1), 80) if "0a" in line)
    assert "a…b" in shown and len(shown) == 80


def test_columns_of_keys_are_in_every_part():
    table = Table(keys=2)
    for name in ("recipe", "network"):
        table.add_column(name)
    for number in range(5):
        table.add_column(f"figure-{number}", justify="right")
    table.add_row("w4", "torch", *"12345")
    text = "\n".join(printed(table, 50))
    assert text.count("torch") == text.count("w4") == text.count("network") > 1


def test_a_line_is_drawn_between_sections():
    table = Table()
    table.add_column("name")
    table.add_row("a")
    table.add_section()
    table.add_row("b")
    assert [line[0] for line in printed(table, 40)] == list("┏┃┡│├│└")
