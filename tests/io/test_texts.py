"""JSON and YAML become plain values, or one line with the file, the place and the reason."""

import json
import time

import pytest
import yaml

from subbyte.errors import DataError, FormatError, RecipeError
from subbyte.io.texts import (
    DEEPEST,
    parse_json,
    parse_mapping,
    parse_yaml,
    read_settings,
    read_text,
)

VALUES = {"a": [1, -2.5, None, True, "é", {"b": []}], "c": 2**63 - 1, "": {}}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def laughs(line: str, levels: int = 12) -> str:
    """A small text whose aliases stand for 9 ** levels values."""
    lines = [f"b{k}: &b{k} {line.format(', '.join([f'*b{k - 1}'] * 9))}" for k in range(1, levels)]
    return "\n".join(["b0: &b0 {x: 1}", *lines])


def test_plain_values_are_read_as_they_are():
    assert parse_json(json.dumps(VALUES)) == VALUES == parse_mapping(json.dumps(VALUES).encode())
    assert parse_yaml(yaml.safe_dump(VALUES)) == VALUES
    assert parse_json(nested(DEEPEST + 1)) == parse_yaml(nested(DEEPEST + 1))


def test_aliases_and_merges_are_read():
    text = "a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: *x"
    assert parse_yaml(text) == {"a": {"b": 1}, "c": {"b": 2}, "d": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xff\xfe", "utf-8"),
        ("", "no JSON"),
        ('{"a": 1', "no JSON"),
        ('{"x": {"b": 1, "a": 2, "b": 3}}', "b is there twice"),
        (nested(DEEPEST + 2), f"nested deeper than {DEEPEST}"),
        (nested(100_000), f"nested deeper than {DEEPEST}"),
        ('{"a": [0, NaN]}', r"a\.1: must be a finite number, got nan"),
        ('{"a": -Infinity}', "a: must be a finite number, got -inf"),
        ("[1e999]", "0: must be a finite number"),
        (f'{{"a": {2**63}}}', "a: a whole number of more than 64 bits"),
        ("9" * 5000, "no JSON"),
        ('{"a": "\\ud800"}', "a: holds half a character"),
        ('{"\\ud800": 1}', "half a character"),
    ],
)
def test_json_that_is_refused(text, why):
    with pytest.raises(DataError, match=rf"^x\.json: (.|\n)*{why}") as caught:
        parse_json(text, "x.json", DataError)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "not YAML"),
        ("a: 1\nb: 2\na: 3", "a is there twice, line 3"),
        (nested(DEEPEST + 2), f"nested deeper than {DEEPEST}"),
        (nested(2000), f"nested deeper than {DEEPEST}"),
        ("a: {b: [.nan]}", r"a\.b\.0: must be a finite number"),
        ("a: .inf", "a: must be a finite number"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: 2024-02-01", "a: a date is neither text nor a number; put it in quotes"),
        ("a: 2024-99-99", "not YAML"),
        ("a: !!set {x}", "a: a set is neither"),
        ("&a [1, *a]", "holds itself"),
        ("a: !!python/object/apply:os.system [x]", "not YAML"),
        (laughs("[{}]"), "more than 100,000 values"),
        (laughs("{{<<: [{}]}}"), "more than 100,000 values"),
        ("? [1]\n: 2", "not YAML"),
    ],
)
def test_yaml_that_is_refused(text, why):
    started = time.process_time()
    with pytest.raises(RecipeError, match=rf"^x\.yaml: .*{why}") as caught:
        parse_yaml(text, "x.yaml")
    assert "\n" not in str(caught.value) and time.process_time() - started < 5


def test_settings_are_one_mapping(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: é", encoding="utf-8")
    assert read_settings(path, "recipe x") == {"a": "é"}
    for content, why in ((b"[1]", "expected a mapping"), (b"\xe9", "recipe x can't be read")):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=why):
            read_settings(path, "recipe x")
    with pytest.raises(FormatError, match="must be a mapping, got list"):
        parse_mapping("[]", "x")


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(FormatError, match=r"none can't be read: No such file"):
        read_text(tmp_path / "none")
    (tmp_path / "x").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match=r"x can't be read: not text in UTF-8 \(.* at byte 2\)"):
        read_text(tmp_path / "x", error=DataError)
