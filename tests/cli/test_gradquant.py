"""subbyte gradquant, from end to end."""

from subbyte.records.clips import read_search
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
