"""Files of results are read whole, or the file and the place of the damage are named."""

import json

import pytest

from subbyte.errors import FormatError
from subbyte.records import Result, read_evidence, read_plan, read_result, write_document
from tests.pages.results import EVIDENCE, RESULT, make_result


def test_what_was_written_is_read(tmp_path):
    folder = make_result(tmp_path / "a", unknown_key=1)
    found = read_result(folder)
    before, after = found.float.scores, found.quantized
    assert (after.scores[0].value, before[1].value, found.bytes.float) == (90.81, 99.5, 1076136)
    assert after.headline.is_of(before[0]) and round(found.gained, 2) == -0.92
    assert [row.sqnr_db for row in found.layers] == [30.5, 18.25, None]
    assert read_evidence(folder) == EVIDENCE and read_plan(folder).startswith("recipe")
    write_document(folder / "result.json", found)
    assert read_result(folder) == found == Result.model_validate(found.model_dump())


def test_what_may_be_missing(tmp_path):
    folder = make_result(tmp_path / "a", figures=False, plan=False)
    assert read_evidence(folder) is None and read_plan(folder) is None
    old = {
        key: RESULT[key]
        for key in RESULT
        if key not in ("options", "zeros_percent", "about", "versions", "seconds", "exports")
    }
    (folder / "result.json").write_text(json.dumps(old))
    assert read_result(folder).options == [] == read_result(folder).exports


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"value": 91.73', '"value": "much"', "float.scores.0.value"),
        ('"value": 91.73', '"value": NaN', "float.scores.0.value"),
        ('"value": 91.73', '"val": 91.73', "float.scores.0.value"),
        ('"agreement", "unit": "%", "value": 95.87', '"agreement"', "quantized.comparison.0.value"),
        ('"bytes": 2345', '"bytes": null', "layers.1.bytes"),
        ('"bits": "', '"bits": "", "was": "', ".0.bits"),
        ('{"version"', '{"version', "no JSON"),
    ],
)
def test_damage_is_named(old, new, where, tmp_path):
    path = make_result(tmp_path / "a") / "result.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FormatError, match=r"result\.json is damaged") as caught:
        read_result(tmp_path / "a")
    assert (
        str(path) in str(caught.value)
        and where in str(caught.value)
        and "\n" not in str(caught.value)
    )


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.pop("version"), "no version"),
        (lambda d: d.update(version=1), "of version 1; this subbyte reads version 2"),
        (lambda d: d["layers"]["fc"].update(width=0), "layers.fc.width"),
        (lambda d: d["layers"]["fc"].update(taken=[1]), "1 counts for 16 levels"),
        (lambda d: d["layers"]["fc"].update(rounded=[1]), "1 counts for"),
        (lambda d: d["layers"]["fc"].update(levels=[1.0, 0.0], taken=[1, 1]), "rise"),
        (lambda d: d["layers"]["fc"].update(counts=[-1]), "layers.fc.counts.0"),
        (lambda d: d["layers"]["fc"].update(unit="inches"), "layers.fc.unit"),
        (lambda d: d["predictions"].update(classes=["cat", "dog"]), "class 2 has no name"),
        (lambda d: d["predictions"]["float_cells"].append([0, 7, 1]), "class 7 has no name"),
        (
            lambda d: d["predictions"]["changed"][0].update(picture="javascript:alert(1)"),
            "changed.0.picture",
        ),
        (
            lambda d: d["predictions"]["changed"][0].update(
                picture='data:image/png;base64,AA"onload='
            ),
            "picture",
        ),
        (
            lambda d: d["predictions"]["changed"][0].update(picture="data:image/png;base64,AA==\n"),
            "picture",
        ),
    ],
)
def test_damaged_figures_are_named(change, where, tmp_path):
    path = make_result(tmp_path / "a") / "figures.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError) as caught:
        read_evidence(tmp_path / "a")
    assert str(path) in str(caught.value) and where in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    folder = make_result(tmp_path / "a")
    (folder / "result.json").unlink()
    with pytest.raises(FormatError, match=r"result.json can't be read: No such file"):
        read_result(folder)
    (folder / "plan.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match=r"plan.yaml can't be read"):
        read_plan(folder)
