"""Arrays are read as they were written, or the file is named: also where it lies about itself."""

import io
import struct
import zipfile

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.io.arrays import read_arrays

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yz"]), "c": np.zeros((0, 4))}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_they_were_written(save, tmp_path):
    save(tmp_path / "x.npz", **ARRAYS, z=np.zeros(100_000))
    found = read_arrays(tmp_path / "x.npz")
    assert found.pop("z").shape == (100_000,)
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in ARRAYS.items()}


def test_a_folder_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS["a"])
    assert read_arrays(tmp_path)["a"].tolist() == ARRAYS["a"].tolist()


def written(path, change) -> None:
    """An archive whose parts were changed, with right checksums."""
    kept = io.BytesIO()
    np.savez(kept, **ARRAYS)
    with zipfile.ZipFile(kept) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)))


@pytest.mark.parametrize("size", [b"(2, 4)", b"(2, 2)", b"(99999999999, 3)", b"(-1, 3)", b"(2,)"])
def test_sizes_that_lie_are_found_before_they_are_believed(size, tmp_path):
    written(tmp_path / "x.npz", lambda part: part.replace(b"(2, 3)", size))
    with pytest.raises(FormatError, match=r"x\.npz: not a whole \.npz file"):
        read_arrays(tmp_path / "x.npz")


def test_a_list_of_parts_that_lost_one_is_found(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **ARRAYS)
    whole = bytearray(path.read_bytes())
    last, end = whole.rindex(b"PK\1\2"), whole.rindex(b"PK\5\6")
    whole[end + 12 : end + 20] = struct.pack("<II", end - last, last)  # the list is its last entry
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="list of arrays is damaged"):
        read_arrays(path)


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match="Object arrays"):
        read_arrays(tmp_path / "x.npz")
