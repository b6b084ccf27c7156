"""The card of a result."""

from subbyte.records import Result, model_card
from tests.pages.results import RESULT


def test_the_card_has_figures_and_files_and_nothing_of_the_machine():
    result = Result.model_validate(RESULT | {"model": "/home/me/nets/mine.py:net"})
    card = model_card(result)
    assert card.startswith("---\nlibrary_name: subbyte\n") and "# mine.py:net, " in card
    assert "/home" not in card
    (row,) = [line for line in card.splitlines() if line.startswith("| top-1 %")]
    assert row.startswith("| top-1 % | 91.73 | 90.81 |")
    near = [line for line in card.splitlines() if " with float | " in line]
    assert len(near) == len(result.quantized.comparison)
    assert all(line.startswith("|") and line.split("|")[2] == "  " for line in near)
    for file in result.exports:
        assert f"* `{file.file}` ({file.bytes:,} bytes): {file.name}" in card
    for kept in result.skipped:
        assert f"* `{kept.name}` stays float: {kept.reason}" in card
