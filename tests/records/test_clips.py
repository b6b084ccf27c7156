"""Files of a clip search are read whole, or the file and the place of the damage are named."""

import pytest

from subbyte.errors import FormatError
from subbyte.records.clips import read_search
from tests.pages.results import make_scan


def test_what_was_written_is_read(tmp_path):
    found = read_search(make_scan(tmp_path / "s"))
    assert found.metrics == ["mse:2"] and found.settings["bits"] == [3] and len(found.scan) == 10
    assert (found.scan[4].clip, found.scan[4].metrics) == (0.5, {"mse:2": 0.5})
    assert (found.scan[4].judged.loss, found.choices[1].judged.accuracy) == (1, 70)
    assert [(one.metric, one.test) for one in found.choices] == [("minmax", 61.25), ("mse:2", 72.5)]


def test_without_images_to_evaluate_on_nothing_is_judged(tmp_path):
    folder = make_scan(tmp_path / "s")
    (folder / "scan.csv").write_text("bits,clip,kl\n3,0.5,1.5\n")
    (folder / "settings.json").unlink()
    found = read_search(folder)
    assert found.scan[0].judged is None and not found.settings and not found.correlations


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("scan.csv", None, "No such file"),
        ("scan.csv", "bits,clip,kl\n", "has no rows"),
        ("scan.csv", "bits,clip,kl\n3,0.5\n", "row 1 is cut short"),
        ("scan.csv", "bits,clip,kl\n3,abc,1\n", "row 1: clip is 'abc'"),
        ("choices.csv", "bits,granularity,metric\n3,network,kl\n", "row 1: lower: is missing"),
        ("correlation.csv", "bits,metric,loss\nx,kl,\n", "row 1: bits is 'x'"),
        ("settings.json", "[1]", "must be a mapping"),
    ],
)
def test_damage_is_named(file, content, message, tmp_path):
    path = make_scan(tmp_path / "s") / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_search(tmp_path / "s")
    assert str(path) in str(caught.value)
