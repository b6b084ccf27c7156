"""Files of users are named from the folder of the file that names them."""

from pathlib import Path

import pytest

from subbyte.io.user_file import MACHINE, UserFiles


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("runs/x/mine.py", "mine.py"),
        ("runs/x/below/mine.py", "below/mine.py"),
        ("runs/mine.py", "../mine.py"),
        ("mine.py", "../../mine.py"),
        ("runs/y/mine.py", "../y/mine.py"),
    ],
)
def test_a_file_below_or_beside_a_folder_is_found_by_its_name(file, name, tmp_path):
    folder, path = tmp_path / "runs" / "x", tmp_path / file
    for made in (folder, path.parent):
        made.mkdir(parents=True, exist_ok=True)
    path.touch()
    files = UserFiles(folder)
    assert files.name(path) == Path(name)
    assert files.find(files.name(path)).resolve() == path.resolve()
    assert MACHINE.name(path) == path.resolve()


def test_files_with_nothing_but_the_root_in_common_keep_their_paths():
    assert UserFiles(Path("/nowhere/runs")).name(Path("/else/mine.py")) == Path("/else/mine.py")
