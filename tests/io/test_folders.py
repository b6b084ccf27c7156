"""Folders: all or nothing, and only what is the caller's own is ever replaced."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from subbyte.errors import SubbyteError
from subbyte.io.folders import folder, growing, owned
from subbyte.io.locks import claimed
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
    for name in ("out", ".out.1-00000000.partial/new/out", ".out.2-00000000.partial/earlier"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.onnx").write_text("half")
    with folder(tmp_path / "out", owns=OWNS, force=True) as temporary:
        assert list(temporary.iterdir()) == []
    assert names_in(tmp_path) == {"out"}


def test_a_run_that_was_killed_between_two_names_is_finished_by_the_next(tmp_path):
    work = tmp_path / ".out.1-00000000.partial"
    for place, text in (("ready", "new"), ("earlier", "old")):
        (work / place / "out").mkdir(parents=True)
        (work / place / "out" / "result.json").write_text(text)
    with (
        pytest.raises(RuntimeError),
        folder(tmp_path / "out", owns=OWNS, force=True),
    ):
        assert (tmp_path / "out" / "result.json").read_text() == "new"
        raise RuntimeError
    assert names_in(tmp_path) == {"out", "out/result.json"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_earlier_result_comes_back_when_the_exchange_fails(error, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/result.json").write_text("earlier")
    replace = Path.replace

    def fail(path, target):
        if path.parent.name == "ready":
            raise error
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with (
        pytest.raises(error),
        folder(tmp_path / "out", owns=OWNS, force=True) as temporary,
    ):
        (temporary / "result.json").write_text("new")
    assert names_in(tmp_path) == {"out", "out/result.json"}
    assert (tmp_path / "out/result.json").read_text() == "earlier"


@pytest.mark.parametrize("at_work", [partial(folder, owns=OWNS, force=True), owned])
def test_a_second_writer_is_refused_before_the_work_and_told_who_is_there(at_work, tmp_path):
    out, refused = tmp_path / "a" / "out", []

    def second():
        with pytest.raises(SubbyteError) as error, at_work(tmp_path / "a" / ".." / "a" / "out"):
            raise AssertionError
        refused.append(str(error.value))

    with at_work(out):
        thread = Thread(target=second)
        thread.start()
        thread.join()
        with owned(out):  # its own work may be in parts
            pass
    assert len(refused) == 1 and f"another process ({os.getpid()}) writes" in refused[0]
    with at_work(out):
        pass
    assert not [name for name in names_in(tmp_path) if "." in name]


def test_a_lock_dies_with_its_process(tmp_path):
    script = (
        "import os; from pathlib import Path; from subbyte.io.folders import folder\n"
        f"with folder(Path({str(tmp_path / 'out')!r}), owns=(), force=False): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert len(names_in(tmp_path)) > 1
    with folder(tmp_path / "out", owns=OWNS, force=False):
        pass
    assert names_in(tmp_path) == {"out"}


@pytest.mark.parametrize("force", [False, True])
def test_what_appeared_meanwhile_stays(force, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SubbyteError, match="out"), folder(out, owns=OWNS, force=force):
        out.mkdir()
        (out / "notes.txt").write_text("precious")
    assert names_in(tmp_path) == {"out", "out/notes.txt"}


@pytest.mark.parametrize("name", ["x" * 255, "ä[b] \n$x", "x" * 210 + ".onnx"])
def test_any_name_will_do(name, tmp_path):
    with folder(tmp_path / name, owns=OWNS, force=False):
        pass
    assert names_in(tmp_path) == {name}


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path):
    with (
        pytest.raises(SubbyteError, match="can't be made: File name too long"),
        folder(tmp_path / ("x" * 256), owns=OWNS, force=False),
    ):
        raise AssertionError


@pytest.mark.parametrize("there", [False, True])
def test_work_that_fails_before_its_first_result_leaves_a_growing_folder_as_it_was(there, tmp_path):
    out = tmp_path / "a" / "out"
    if there:
        out.mkdir(parents=True)
    before = names_in(tmp_path)
    with pytest.raises(ValueError), growing(out, ["result.json"]):
        out.mkdir(parents=True, exist_ok=True)
        (out / "settings.json").write_text("{}")
        raise ValueError
    assert names_in(tmp_path) == before
    with pytest.raises(ValueError), growing(out, ["result.json"]):
        out.mkdir(parents=True, exist_ok=True)
        (out / "result.json").write_text("{}")
        raise ValueError
    assert (out / "result.json").exists()


def test_growing_folders_are_swept(tmp_path):
    for place in (tmp_path / "out", tmp_path / "out" / "runs"):
        for name in ("dead", "live"):
            (place / f".{name}.1-00000000.partial").mkdir(parents=True)
        (place / ".note.partial").write_text("not ours")
    live = tmp_path / "out" / "runs" / ".live.1-00000000.partial"
    with claimed(live), growing(tmp_path / "out", [], ["runs"]):
        pass
    kept = {"out", "out/.note.partial", "out/runs", "out/runs/.note.partial"}
    assert names_in(tmp_path) == kept | {str(live.relative_to(tmp_path))}


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


def test_a_lock_is_no_way_into_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(SubbyteError, match="can't be made"), owned(tmp_path / "out"):
        raise AssertionError
    assert (tmp_path / "mine.txt").read_text() == "precious"
