"""Safetensors files: what the library raises becomes errors of files or of ours."""

import os
import resource

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from subbyte.errors import FormatError
from subbyte.io.safe import opened


def test_tensors_and_metadata(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"b": "c"})
    with opened(tmp_path / "a.safetensors") as file:
        assert file.metadata() == {"b": "c"} and file.get_tensor("a").tolist() == [1, 1]


def test_what_is_no_such_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"damaged")
    for path, error in (
        (tmp_path / "a.safetensors", SafetensorError),
        (tmp_path / "missing", FileNotFoundError),
        (tmp_path, IsADirectoryError),
    ):
        with pytest.raises(error), opened(path):
            pass


@pytest.mark.parametrize("free", [0, 1])
def test_too_few_descriptors_are_not_taken_for_a_missing_file(free, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with opened(path):  # all that is imported late
        pass
    limits, taken = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()
    first = os.open(os.devnull, os.O_RDONLY)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (first + 50, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(free):
            os.close(taken.pop())
        with pytest.raises((OSError, FormatError), match="Too many open files"), opened(path):
            pass
    finally:
        for handle in (first, *taken):
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
