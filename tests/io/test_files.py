"""Files are written whole or not at all."""

import json

import pytest

from subbyte.errors import FormatError, NumericsError
from subbyte.io.files import write_json, write_text, written, written_together
from subbyte.io.texts import read_text
from tests.workplace import names_in


def test_a_file_appears_when_its_block_ends(tmp_path):
    with written(tmp_path / "folder" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "folder" / "a.txt").exists() and temporary.suffix == ".txt"
    assert [(p.name, p.read_text()) for p in (tmp_path / "folder").iterdir()] == [
        ("a.txt", "whole")
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_appears_when_it_fails(error, tmp_path):
    (tmp_path / "a.txt").write_text("earlier")
    with pytest.raises(error), written(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "earlier")]


def test_text_and_json(tmp_path):
    write_text(tmp_path / "a.txt", "text")
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert (tmp_path / "a.txt").read_text() == "text"
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(value, tmp_path):
    with pytest.raises(NumericsError, match=r"a\.json: NaN or Inf"):
        write_json(tmp_path / "a.json", {"b": value})
    assert list(tmp_path.iterdir()) == []


def test_files_that_belong_together_take_their_places_together(tmp_path):
    paths = [tmp_path / "net.xml", tmp_path / "net.bin"]
    with written_together(paths) as temporary:
        for path in temporary:
            path.write_text("one")
        assert names_in(tmp_path).isdisjoint({"net.xml", "net.bin"})
    assert [path.read_text() for path in paths] == ["one", "one"]
    with pytest.raises(RuntimeError), written_together(paths) as temporary:
        temporary[0].write_text("two")
        raise RuntimeError
    with pytest.raises(OSError), written_together(paths) as temporary:
        temporary[1].write_text("three")  # the first is missing
    assert [path.read_text() for path in paths] == ["one", "one"]
    assert names_in(tmp_path) == {"net.xml", "net.bin"}


def test_files_that_belong_together_are_finished_after_a_kill_between_two_of_them(tmp_path):
    work = tmp_path / ".net.xml.1-00000000.partial"
    (work / "ready").mkdir(parents=True)
    (work / "ready" / "net.xml").write_text("two")  # its .bin is in place already
    (tmp_path / "net.bin").write_text("two")
    with pytest.raises(RuntimeError), written_together([tmp_path / "net.xml"]):
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "net.xml": "two",
        "net.bin": "two",
    }


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    write_text(tmp_path / "a.txt", "ä → \udcff")
    assert (tmp_path / "a.txt").read_bytes() == "ä → \ufffd".encode()
    write_text(tmp_path / "a.txt", "ä".encode().decode("ascii", "surrogateescape"))
    assert (tmp_path / "a.txt").read_bytes() == "ä".encode()
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(FormatError, match="UTF-8"):
        read_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes("ä → b".encode())
    assert read_text(tmp_path / "a.txt") == "ä → b"
