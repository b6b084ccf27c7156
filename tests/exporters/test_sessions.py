"""ONNX Runtime's sessions: what a file takes, made-up inputs, errors in one line."""

import numpy as np
import pytest

from subbyte.errors import DataError, FormatError
from subbyte.exporters.sessions import (
    call_of,
    fixed_batch,
    inputs_of,
    made_up,
    open_session,
    profile,
)
from tests.exporters.hand_made import feeds, write

ERF = [("Erf", ["x"], "y")]


def taken(tmp_path, sizes):
    path = write(tmp_path / "net.onnx", ERF, {}, sizes)
    return inputs_of(open_session(path), path)


def test_inputs_are_made_up_in_the_sizes_that_are_free(tmp_path):
    takes = taken(tmp_path, ("batch", 3, "height", 5))
    made = made_up(takes, 4, {"height": 7})
    assert made["x"].shape == (4, 3, 7, 5) and made["x"].dtype == np.float32
    assert (made_up(takes, 4, {"height": 7})["x"] == made["x"]).all()
    assert (made_up(takes, 4, {"height": 7}, 1)["x"] != made["x"]).any()
    with pytest.raises(DataError, match=r"free size 'height'; say .* --size height=224"):
        made_up(takes, 4, {})


def test_a_fixed_batch_is_known(tmp_path):
    assert fixed_batch(taken(tmp_path, ("batch", 3))) is None
    assert fixed_batch(taken(tmp_path, (8, 3))) == 8


def test_what_does_not_load_or_run_is_said(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(FormatError, match=r"bad.onnx: ONNX Runtime can't load it"):
        open_session(tmp_path / "bad.onnx")
    path = write(tmp_path / "net.onnx", ERF, {}, ("batch", 3))
    for run in (lambda f: call_of(path, f, 1), lambda f: profile(path, f)):
        with pytest.raises(FormatError, match=r"net.onnx: ONNX Runtime can't run it"):
            run(feeds(2, 5))


def test_a_profile_has_every_run(tmp_path):
    path = write(tmp_path / "net.onnx", [*ERF, ("Sin", ["y"], "z")], {}, ("batch", 3))
    runs = profile(path, feeds(2, 3), 3)
    assert [[event.operation for event in run] for run in runs] == [["Erf", "Sin"]] * 3
    assert all(event.outputs == (("float", (2, 3)),) for run in runs for event in run)
