"""subbyte aciq, from end to end."""

import csv

import pytest

from tests.workplace import complaint, names_in

FILES = {"alphas.csv", "mse.csv", "report.html"}


@pytest.fixture(scope="module")
def written(subbyte, tmp_path_factory):
    out = tmp_path_factory.mktemp("aciq") / "out"
    done = subbyte("aciq", "--bits", "2,4", "--out", out, "--samples", 10_000, "--seed", 3)
    assert done.code == 0, done.err
    return out, done


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_tables_are_printed(subbyte):
    done = subbyte("aciq")
    assert done.code == 0 and not done.err
    assert done.out.count("Laplace") == done.out.count("Gauss") == 2
    for number in (
        "2.4144",
        "2.8307",
        "2.3067",
        "3.9437e-01",
        "4.3136e-01",
        "3.9260e-01",
        "11.1555",
        "1.2240",
    ):
        assert number in done.out


def test_a_folder_of_tables_and_a_page(written):
    out, done = written
    assert names_in(out) == FILES
    assert [(r["prior"], r["one_sided"], r["bits"]) for r in rows(out / "alphas.csv")] == [
        (prior, side, bits)
        for prior in ("laplace", "gauss")
        for side in ("False", "True")
        for bits in ("2", "4")
    ]
    text = (out / "report.html").read_text()
    assert text.count('<figure class="plot"') == 8 and "10,000 values drawn with seed 3" in text
    assert f"to look at: {out / 'report.html'}" in done.out


def test_simulated_errors_are_the_expected_ones(written):
    points = rows(written[0] / "mse.csv")
    assert len(points) == 8 * 60
    ratios = [
        float(p["simulated"]) / float(p["expected"]) for p in points if float(p["expected"]) > 1e-2
    ]
    assert len(ratios) > 200 and all(0.85 < ratio < 1.15 for ratio in ratios)
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.02)


def test_the_place_to_clip_goes_along_with_the_spread(written, subbyte, tmp_path):
    out, _ = written
    done = subbyte("report", out, "--csv", tmp_path / "csv", "--out", tmp_path / "page.html")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "csv").glob("gauss-signed*clipping-point-against-sigma*.csv")
    (four,) = (
        row
        for row in rows(out / "alphas.csv")
        if (row["prior"], row["one_sided"], row["bits"]) == ("gauss", "False", "4")
    )
    drawn = [row for row in rows(path) if row["line"].startswith("4 bits")]
    found = [(float(row["sigma of the values"]), float(row["alpha"])) for row in drawn]
    expected = [
        (k / 4, k / 4 * float(four[column])) for column in ("alpha", "alpha_best") for k in range(9)
    ]
    assert found == [(x, pytest.approx(y, rel=1e-4)) for x, y in expected]


def test_the_same_seed_gives_the_same_files_and_old_results_are_kept(written, subbyte, tmp_path):
    out, _ = written
    again = tmp_path / "again"
    assert (
        subbyte("aciq", "--bits", "2,4", "--out", again, "--samples", 10_000, "--seed", 3).code == 0
    )
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in FILES)
    done = subbyte("aciq", "--bits", "1", "--out", again, "--samples", 10)
    assert done.code == 1 and "--force" in done.err
    assert len(rows(again / "alphas.csv")) == 8
    assert subbyte("aciq", "--bits", "1", "--out", again, "--samples", 10, "--force").code == 0
    assert len(rows(again / "alphas.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "0-3"], "--bits must be widths from 1 to 8"),
        (["--bits", "9"], "--bits must be widths from 1 to 8"),
        (["--bits", ""], "--bits must be widths from 1 to 8"),
        (["--bits", "4-2"], "--bits must be widths from 1 to 8"),
        (["--bits", "2,x"], "--bits must be widths from 1 to 8"),
        (["--samples", "0"], "'--samples': must be a whole number, at least 1"),
    ],
)
def test_bad_options_are_one_line(subbyte, arguments, message):
    done = subbyte("aciq", *arguments)
    assert message in complaint(done.code, done.out, done.err)
