"""Settings beside results: the same ones go on, others are refused, and some may grow."""

import json

import pytest

from subbyte.errors import RecipeError
from subbyte.io.settings import kept_settings, same_settings

FIRST = {"epochs": 2, "lr": 0.1, "bits": [2, 3]}


def settle(out, grows=None, **changed):
    return same_settings(out, FIRST | changed, "run", results=["result"], grows=grows)


def test_a_folder_without_a_result_is_as_good_as_empty(tmp_path):
    out = tmp_path / "out"
    assert settle(out) == kept_settings(out) == FIRST
    (out / ".settings.json.1.partial.json").write_text("{")  # of a killed process
    assert settle(out, lr=0.01) == kept_settings(out) == FIRST | {"lr": 0.01}
    (out / "result").touch()
    with pytest.raises(RecipeError, match=r"was made with lr = 0\.01, now it is 0\.1"):
        settle(out)


@pytest.mark.parametrize("text", ['{"editor": 1}', "[]", "{", "\xff"])
def test_settings_of_other_programs_stay(text, tmp_path):
    (tmp_path / "settings.json").write_text(text, "latin-1")
    with pytest.raises(RecipeError, match="choose another"):
        settle(tmp_path)
    assert (tmp_path / "settings.json").read_text("latin-1") == text


def test_what_may_differ_is_kept_with_what_it_was(tmp_path):
    def settle_with(**changed):
        return same_settings(
            tmp_path, FIRST | changed, "run", results=["result"], differs=["threads"]
        )

    settle(tmp_path)  # by an earlier version
    (tmp_path / "result").touch()
    for threads, before in ((1, []), (1, []), (2, [1]), (2, [1]), (1, [1, 2])):
        found = settle_with(threads=threads)
        assert (found["threads"], found.get("threads_before", [])) == (threads, before)
        assert found == kept_settings(tmp_path)


def test_what_may_grow_grows(tmp_path):
    grows = {"epochs": True, "bits": True}
    settle(tmp_path)
    (tmp_path / "result").touch()
    with pytest.raises(RecipeError, match="made with epochs = 2, now it is 4"):
        settle(tmp_path, epochs=4)
    for _ in range(2):
        found = settle(tmp_path, grows, epochs=4, bits=[3, 1])
        assert found == FIRST | {"epochs": 4, "epochs_before": [2], "bits": [2, 3, 1]}
    assert settle(tmp_path, grows, epochs=5, bits=[2])["epochs_before"] == [2, 4]
    assert json.loads((tmp_path / "settings.json").read_text())["bits"] == [2, 3, 1]
    with pytest.raises(RecipeError, match="made with epochs = 5, now it is 3"):
        settle(tmp_path, grows, epochs=3)
    with pytest.raises(RecipeError, match="made with epochs = 5, now it is 6"):
        settle(tmp_path, {"epochs": False}, epochs=6, bits=[2, 3, 1])
    assert settle(tmp_path, {"epochs": False}, epochs=5, bits=[2, 3, 1])["epochs"] == 5
    with pytest.raises(RecipeError, match=r"made with lr = 0\.1, now it is 1"):
        settle(tmp_path, grows, epochs=6, lr=1)
