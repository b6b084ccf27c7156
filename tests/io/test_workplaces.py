"""Workplaces: nothing is left of them, and nothing is lost in them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from subbyte.errors import FormatError, ResourceError
from subbyte.io import workplaces
from subbyte.io.files import written, written_together
from subbyte.io.folders import folder
from subbyte.io.workplaces import delete, scratch
from tests.workplace import names_in

resource = pytest.importorskip("resource", reason="limits of descriptors are Unix's")


@contextmanager
def descriptors(more: int) -> Iterator[None]:
    """See that so many files more can be opened at once."""
    free = [os.dup(0) for _ in range(more + 1)]
    for handle in free:
        os.close(handle)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_nothing_is_left_where_no_file_can_be_opened(tmp_path):
    with pytest.raises(OSError, match="Too many"), descriptors(0), written(tmp_path / "a.txt"):
        raise AssertionError
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("more", [1, 2, 3])
def test_nothing_is_left_where_hardly_any_file_can_be_opened(more, tmp_path):
    out = tmp_path / "out"
    (out / "a/b").mkdir(parents=True)
    (out / "a/b/part.csv").write_text("earlier")
    with ExitStack() as until_it_is_over, folder(out, owns=("*/*/part.csv",), force=True) as new:
        (new / "result.json").write_text("new")
        until_it_is_over.enter_context(descriptors(more))
    assert names_in(tmp_path) == {"out", "out/result.json"}


@pytest.mark.parametrize("verb", ["mkdir", "rmdir", "unlink"])
@pytest.mark.parametrize("number", [1, 2])
def test_nothing_is_left_where_ctrl_c_comes_as_a_workplace_comes_or_goes(
    verb, number, tmp_path, monkeypatch
):
    done, calls = getattr(Path, verb), 0

    def interrupted(path, *arguments, **named):
        nonlocal calls
        done(path, *arguments, **named)
        calls += ".partial" in str(path)
        if calls == number:
            calls += 1
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, verb, interrupted)
    with pytest.raises(KeyboardInterrupt), written(tmp_path / "a.txt") as temporary:
        for name in ("a.txt", "b.txt", "c.txt"):
            (temporary.parent / name).write_text("some")
    assert names_in(tmp_path) <= {"a.txt"}


def test_links_are_deleted_and_not_what_they_lead_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("precious")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/folder").symlink_to(tmp_path / "mine")
    (tmp_path / "old/file").symlink_to(tmp_path / "mine/a.txt")
    (tmp_path / "old/nowhere").symlink_to(tmp_path / "nowhere")
    delete(tmp_path / "old")
    assert names_in(tmp_path) == {"mine", "mine/a.txt"}


def failing(patch: pytest.MonkeyPatch, verb: str, *places: str) -> None:
    """Let a method of paths fail for those whose folders and names end so."""
    done = getattr(Path, verb)

    def fail(path, *arguments, **named):
        if str(path).endswith(places):
            raise OSError(28, "No space left on device", str(path))
        return done(path, *arguments, **named)

    patch.setattr(Path, verb, fail)


def test_a_line_says_what_can_not_be_deleted(tmp_path, monkeypatch, caplog):
    failing(monkeypatch, "unlink", "/b.txt")
    with scratch() as place:
        for name in ("a.txt", "b.txt", "c.txt"):
            (place / name).write_text("some")
    (told,) = caplog.messages
    assert names_in(place) == {"b.txt"} and str(place) in told and "/b.txt" in told
    monkeypatch.undo()
    delete(place)
    assert not place.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space"), FormatError("can't be loaded")])
def test_a_full_temporary_folder_is_named_whatever_a_library_says(error, monkeypatch):
    with pytest.raises(type(error)) as plain, scratch():
        raise error
    assert plain.value is error
    monkeypatch.setattr(workplaces, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(ResourceError, match=r"4,096 bytes free.*TMPDIR") as told, scratch():
        raise error
    assert str(error) in str(told.value)


def test_what_was_there_stays_where_a_part_of_it_can_not_be_moved(tmp_path, monkeypatch):
    paths = [tmp_path / "net.xml", tmp_path / "net.bin"]
    for path in paths:
        path.write_text("earlier")
    failing(monkeypatch, "rename", f"{tmp_path}/net.bin")
    with pytest.raises(OSError, match="No space"), written_together(paths) as temporary:
        for path in temporary:
            path.write_text("new")
    assert names_in(tmp_path) == {"net.xml", "net.bin"}
    assert [path.read_text() for path in paths] == ["earlier", "earlier"]


def test_what_was_there_is_kept_where_it_can_not_be_put_back(tmp_path, monkeypatch, caplog):
    paths = [tmp_path / "net.xml", tmp_path / "net.bin"]
    for path in paths:
        path.write_text("earlier")
    failing(monkeypatch, "replace", "/ready/net.xml", "/earlier/net.xml")
    with pytest.raises(OSError, match="No space"), written_together(paths) as temporary:
        for path in temporary:
            path.write_text("new")
    assert not paths[0].exists() and "puts it back" in caplog.text
    monkeypatch.undo()
    with pytest.raises(RuntimeError), written(paths[0]):
        raise RuntimeError
    assert names_in(tmp_path) == {"net.xml", "net.bin"}
    assert [path.read_text() for path in paths] == ["earlier", "earlier"]
