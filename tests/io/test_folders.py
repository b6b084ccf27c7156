"""Folders: all or nothing, and only what is the caller's own is ever replaced."""

from pathlib import Path

import pytest

from subbyte.errors import SubbyteError
from subbyte.io.folders import folder
from tests.workplace import names_in

OWNS = ("result.json", "model*.onnx", "*/part.csv")


def test_a_folder_takes_its_place_when_the_block_ends(tmp_path):
    with folder(tmp_path / "a" / "out", owns=OWNS, force=False) as temporary:
        (temporary / "result.json").write_text("new")
        assert not (tmp_path / "a" / "out").exists()
    assert names_in(tmp_path) == {"a", "a/out", "a/out/result.json"}


def test_force_replaces_an_earlier_result_whole(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("result.json", "model.onnx"):
        (out / name).write_text("old")
    with folder(out, owns=OWNS, force=True) as temporary:
        (temporary / "result.json").write_text("new")
        assert (out / "result.json").read_text() == "old"
    assert (
        names_in(tmp_path) == {"out", "out/result.json"}
        and (out / "result.json").read_text() == "new"
    )


def test_force_takes_an_empty_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with folder(tmp_path / "out", owns=OWNS, force=True) as temporary:
        (temporary / "result.json").write_text("new")
    assert names_in(tmp_path) == {"out", "out/result.json"}


@pytest.mark.parametrize(
    "names",
    [["notes.txt"], ["result.json", "notes.txt"], ["photos/a.jpg"], ["photos/result.json"]],
)
def test_force_refuses_folders_with_anything_else(names, tmp_path):
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(SubbyteError, match="out"), folder(tmp_path / "out", owns=OWNS, force=True):
        pass
    assert all((tmp_path / "out" / name).read_text() == "precious" for name in names)


@pytest.mark.parametrize("force", [False, True])
def test_files_in_the_way_are_refused(force, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(SubbyteError, match="out"), folder(tmp_path / "out", owns=OWNS, force=force):
        pass
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_vanishes_when_its_block_fails(error, tmp_path):
    with pytest.raises(error), folder(tmp_path / "out", owns=OWNS, force=False) as temporary:
        (temporary / "model.onnx").write_text("half")
        raise error
    assert names_in(tmp_path) == set()


def test_leftovers_of_a_killed_run_are_swept_away(tmp_path):
    for name in ("out", ".out.partial", ".out.previous"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_text("half")
    with folder(tmp_path / "out", owns=OWNS, force=True) as temporary:
        assert list(temporary.iterdir()) == []
    assert names_in(tmp_path) == {"out"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_earlier_result_comes_back_when_the_exchange_fails(error, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("earlier")
    rename = Path.rename

    def fail(path, target):
        if path.name == ".out.partial":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with (
        pytest.raises((error, SubbyteError)),
        folder(tmp_path / "out", owns=OWNS, force=True) as temporary,
    ):
        (temporary / "result.json").write_text("new")
    assert names_in(tmp_path) == {"out", "out/result.json"}
    assert (tmp_path / "out/result.json").read_text() == "earlier"


def test_force_replaces_what_lies_deeper_where_the_caller_says_so(tmp_path):
    out = tmp_path / "out"
    for name in ("a/part.csv", "model-small.onnx"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("old")
    with folder(out, owns=OWNS, force=True):
        pass
    assert names_in(tmp_path) == {"out"}
    (out / "a" / "b").mkdir(parents=True)
    (out / "a" / "b" / "part.csv").write_text("precious")
    with pytest.raises(SubbyteError, match=r"a/b/part\.csv"), folder(out, owns=OWNS, force=True):
        pass
