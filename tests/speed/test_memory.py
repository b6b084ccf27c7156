"""Resident memory: a file of 40 MB takes at least that, a small one far less."""

import sys

import numpy as np
import pytest

from subbyte.errors import ResourceError
from subbyte.speed.memory import resident_memory
from tests.exporters.hand_made import feeds, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process's memory")
MIB = 2**20


def test_memory_grows_with_what_a_file_holds(tmp_path):
    found = []
    for width in (16, 1600):  # 1600 x 6400 float32 are 39 MiB
        array = np.ones((6, width), np.float32), np.ones((width, 4 * width), np.float32)
        nodes = [("MatMul", ["x", "a"], "h"), ("MatMul", ["h", "b"], "y")]
        constants = dict(zip("ab", array, strict=True))
        path = write(tmp_path / f"{width}.onnx", nodes, constants, ("batch", 6))
        found.append(resident_memory(path, feeds(1, 6), 1))
    small, large = found
    assert large.loaded - small.loaded > 36 * MIB
    assert large.peak >= large.loaded - MIB and large.load > 0 and large.load_cpu > 0
    assert small.peak < 60 * MIB


def test_a_process_that_fails_is_an_error(tmp_path):
    path = write(tmp_path / "net.onnx", [("Erf", ["x"], "y")], {}, ("batch", 3))
    with pytest.raises(ResourceError, match=r"net.onnx: loading it .* failed: "):
        resident_memory(path, feeds(1, 5), 1)
