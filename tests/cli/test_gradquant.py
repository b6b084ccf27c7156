"""subbyte gradquant, from end to end."""

import csv
import json

import pytest

from subbyte.ranges import Clip
from subbyte.recipe import Plan
from subbyte.records import read_result
from subbyte.records.clips import read_clips, read_search
from tests.workplace import names_in

OPTIONS = ("--bits", 3, "--resolution", 3, "--metrics", "mse:2,kl", "--evaluate", 20)


def test_a_search_ends_with_tables_and_a_page(subbyte, given, tmp_path):
    out = tmp_path / "out"
    done = subbyte("gradquant", *given, *OPTIONS, "--out", out, "--no-report")
    assert done.code == 0 and "report" not in done.out, done.err
    assert "Test top-1 % @ clip chosen,\none for all layers" in done.out
    tables = {"scan.csv", "choices.csv", "correlation.csv", "settings.json"}
    assert names_in(out) == tables
    before = {name: (out / name).read_bytes() for name in tables}
    done = subbyte("gradquant", *given, *OPTIONS, "--out", out)
    assert done.code == 0 and f"to look at: {out / 'report.html'}" in done.out, done.err
    assert before == {name: (out / name).read_bytes() for name in tables}
    text = (out / "report.html").read_text()
    best = max(read_search(out).choices, key=lambda choice: choice.test)
    assert f"{best.metric} at 3 bits, one clip a network, {best.test:.2f} % top-1" in text
    done = subbyte("report", out, "--window", 0, "--metrics", "kl", "--out", tmp_path / "kl.html")
    assert done.code == 0 and '"name":"mse:2"' not in (tmp_path / "kl.html").read_text()


def test_network_and_data_are_asked_for(subbyte, tmp_path):
    done = subbyte("gradquant", "--out", tmp_path / "out")
    assert done.code == 2 and "--model" in done.err and names_in(tmp_path) == set()


def test_a_part_of_a_scan_is_drawn_without_network_and_data(subbyte, given, tmp_path):
    out, png = tmp_path / "out", tmp_path / "png"
    options = ("--bits", "2-4", "--resolution", 3, "--metrics", "mse:2", "--evaluate", 20)
    assert subbyte("gradquant", *given, *options, "--out", out, "--no-report").code == 0
    before = {name: (out / name).read_bytes() for name in names_in(out)}

    def drawn(*asked):
        done = subbyte("gradquant", "--plot-only", "--out", out, *asked)
        assert done.code == 0 and f"to look at: {out / 'report.html'}" in done.out, done.err
        return (out / "report.html").read_text()

    whole, some = drawn(), drawn("--bits", "3,4", "--show", "loss")
    assert all(f"{bits} bits: one clip" in whole for bits in (2, 3, 4))
    assert "2 bits: one clip" not in some and "3 bits: one clip" in some and "4 bits" in some
    assert '"name":"mse:2"' in whole and '"name":"mse:2"' not in some
    assert '"name":"true loss"' in whole and '"name":"true loss"' in some
    assert before.items() <= {name: (out / name).read_bytes() for name in names_in(out)}.items()
    tables = ("--csv", tmp_path / "csv", "--out", png / "page.html")
    png.mkdir()
    done = subbyte("report", out, "--bits", 4, *tables)
    assert done.code == 0 and "3 bits" not in (png / "page.html").read_text(), done.err
    for asked, message in (
        (("--bits", 7), "has no width of bits 7; it has 2, 3, 4"),
        (("--show", "kl"), "has no metric kl; it has mse:2, loss"),
        (("--bits", "9"), "--bits must be widths from 1 to 8"),
    ):
        done = subbyte("gradquant", "--plot-only", "--out", out, *asked)
        assert done.code == 1 and message in done.err


def test_the_loss_is_drawn_only_where_it_was_measured(subbyte, given, tmp_path):
    options = ("--bits", 3, "--resolution", 3, "--metrics", "mse:2", "--out", tmp_path / "out")
    assert subbyte("gradquant", *given, *options, "--no-report").code == 0
    done = subbyte("gradquant", "--plot-only", "--out", tmp_path / "out", "--show", "loss")
    assert done.code == 1 and "has no metric loss; it has mse:2" in done.err
    done = subbyte("gradquant", "--plot-only", "--out", tmp_path / "nowhere")
    assert done.code == 1 and "nowhere" in done.err and not (tmp_path / "nowhere").exists()


def test_numbers_in_tables_have_no_noise_of_binary_fractions(subbyte, given, tmp_path):
    options = ("--bits", "2", "--clip", "0.5:1", "--resolution", 100, "--metrics", "mse:2")
    done = subbyte("gradquant", *given, *options, "--out", tmp_path / "out", "--no-report")
    assert done.code == 0, done.err
    rows = (tmp_path / "out" / "scan.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [str((500 + 5 * k) / 1000) for k in range(1, 101)]
    assert all(len(cell) <= 17 for row in rows for cell in row.split(","))


PLAIN = ("--recipe", "w3", "--export", "none", "--no-report", "--set", "weights.rounding=nearest")
PLAIN += ("--set", "weights.correction=none")


@pytest.mark.slow
def test_the_clips_that_were_chosen_are_ranges(subbyte, given, tmp_path):
    out, made = tmp_path / "out", tmp_path / "made"
    search = ("--bits", 2, "--resolution", 7, "--metrics", "mse:2", "--granularity", "channel")
    search += ("--ends", "apart", "--asymmetric")
    assert subbyte("gradquant", *given, *search, "--out", out, "--no-report").code == 0
    asked = ("--clips", out, "--clips-by", "mse", "--set", "weights.bits=2")
    done = subbyte("quantize", *given, *PLAIN, *asked, "--out", made)
    assert done.code == 0, done.err
    (chosen,) = (one for one in read_search(out).choices if one.metric == "mse:2")
    assert read_result(made).quantized.scores[0].value == pytest.approx(chosen.test, abs=1e-9)
    first = Plan.read(made / "plan.yaml").layers[0]
    with (out / "clips_2_channel_mse-2.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["layer"] == first.name]
    ends = (tuple(float(row[side]) for row in rows) for side in ("lower", "upper"))
    assert first.range == Clip(*ends) and len(rows) == first.rows
    again = ("--recipe", made / "plan.yaml", "--export", "none", "--no-report")
    assert subbyte("quantize", *given, *again, "--out", tmp_path / "again").code == 0
    files = [folder / "model.safetensors" for folder in (made, tmp_path / "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_clips_that_do_not_fit_are_refused_before_the_walk(subbyte, given, place, tmp_path):
    out, made = tmp_path / "out", tmp_path / "made"
    granularity = ("--granularity", "network,layer")
    assert subbyte("gradquant", *given, *OPTIONS, *granularity, "--out", out).code == 0
    clips = ("--clips", out, "--clips-by", "mse:2")
    tensor = ("--set", "weights.granularity=tensor", "--set", "weights.symmetric=true")
    other = [f"{place / 'net.py'}:net", *given[4:]]
    for asked, message in (
        ((*given, *PLAIN, *clips[:2]), "give --clips-by one of minmax, loss, mse:2, kl"),
        ((*given, *PLAIN, *clips[:3], "fisher"), "fisher chose nothing"),
        ((*given, *PLAIN, *clips), "(3 bits, granularity channel): they were scanned at 3 bits"),
        ((*given, *PLAIN, *tensor, *clips, "--set", "weights.bits=4"), "(4 bits, granularity ten"),
        ((*given, *PLAIN, *tensor, *clips, "--budget", "3bits"), "a budget chooses widths"),
        (("--model", *other, *PLAIN, *tensor, *clips), "another network or other weights"),
        ((*given, *clips, "--recipe", "best", "--bits", 3), "leave out the clips"),
        ((*given, *PLAIN, *tensor, "--clips", tmp_path), "scan.csv"),
        ((*given, *PLAIN, *tensor, "--clips-by", "loss"), "it goes with --clips"),
    ):
        done = subbyte("quantize", *asked, "--out", made)
        assert done.code and message in done.err and not made.exists(), (asked, done.err)
    done = subbyte("quantize", *given, *PLAIN, *tensor, *clips, "--dry-run", "--json")
    planned = json.loads(done.out)["result"]["layers"][0]
    (chosen,) = (
        one
        for one in read_search(out).choices
        if (one.granularity, one.metric) == ("layer", "mse:2")
    )
    ends = read_clips(out, chosen)[planned["name"]]
    assert planned["range"] == {
        "name": "clip",
        "lower": list(ends.lower),
        "upper": list(ends.upper),
    }
