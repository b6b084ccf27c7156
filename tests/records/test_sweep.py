"""Files of a sweep are read whole, or the file and the place of the damage are named."""

import csv
from math import log2

import pytest

from subbyte.errors import FormatError
from subbyte.records.sweep import Sweep, place
from tests.pages.results import make_sweep


@pytest.fixture
def folder(tmp_path):
    return make_sweep(tmp_path / "bits")


@pytest.mark.parametrize(
    "text, at",
    [
        ("3", 3),
        ("0.05", 0.05),
        ("1e-3", 1e-3),
        ("ternary", log2(3)),
        ("2.5bits", 2.5),
        ("100KB", 1e5),
        ("2 MB", 2e6),
        ("", None),
        ("gpfq", None),
        ("1.2.3", None),
        ("[1, 2]", None),
        ("nan", None),
    ],
)
def test_values_have_their_place(text, at):
    assert place(text) == at


def test_axes_of_words_and_numbers_in_their_order(tmp_path):
    sweep = Sweep.read(
        "x",
        make_sweep(tmp_path / "x", grid={"weights.bits": [8, "ternary", 2], "weights.scalar": 1.0}),
    )
    assert sweep.values("weights.bits") == ("ternary", "2", "8") and not sweep.numeric(
        "weights.scalar"
    )


@pytest.mark.parametrize("file", ["results.csv", "summary.csv", "sweep.json"])
def test_damage_is_said(folder, file):
    (folder / file).write_text("run,status\n1\n")
    with pytest.raises(FormatError, match=rf"{file} is damaged"):
        Sweep.read("x", folder)


def test_cells_that_are_no_numbers_are_said(folder):
    with (folder / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[1]["packed_bytes"] = "inf"
    with (folder / "summary.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(FormatError, match=r"row 2: packed_bytes is .inf"):
        Sweep.read("x", folder)


def test_results_of_another_version_are_refused(folder):
    (folder / "sweep.json").write_text('{"version": 2}')
    with pytest.raises(FormatError, match=r"is of version 2; this subbyte reads version 1"):
        Sweep.read("x", folder)


def test_a_summary_that_was_cut_is_said(folder):
    text = (folder / "summary.csv").read_text()
    (folder / "summary.csv").write_text(text[:200])
    with pytest.raises(FormatError, match=r"summary.csv is damaged"):
        Sweep.read("x", folder)


def test_axes_of_one_name_are_told_apart(tmp_path):
    pairs = [{"weights.bits": [2, 3], "activations.bits": [8, 4]}]
    names = [
        one.name
        for one in Sweep.read("x", make_sweep(tmp_path / "x", grid={}, pairs=pairs)).settings
    ]
    assert names == ["bits 2, activations bits 8", "bits 3, activations bits 4"]
