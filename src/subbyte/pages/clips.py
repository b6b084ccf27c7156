"""What a clip search found, to look at: curves of the proxies beside the true loss, and the
accuracy at each choice.
"""

import csv
from collections.abc import Sequence
from math import nan
from pathlib import Path

from subbyte.errors import FormatError
from subbyte.io.files import write_text
from subbyte.pages.charts import Chart, Line, Table, write_html, write_png

LOSS, MINMAX = "loss", "minmax"
JUDGED = (LOSS, "divergence", "accuracy")
"""Columns of scan.csv that are measured on the network, not read off its weights."""

Row = dict[str, str]


def draw(out: Path, window: float = 0.15, show: Sequence[str] = ()) -> list[Path]:
    """Draw what the CSV files in `out` hold: clips_BITS.png, clips.html, accuracy.csv; returns
    their paths.

    window: clips this near the best by the true loss are shown, and curves normalised over them; 0:
    all, as where no loss was measured. show: metrics to show, in this order; none: all.
    Raises FormatError when there is no scan, or a metric to show is not in it.
    """
    charts = charts_of(out, window, show)
    paths = [out / f"clips_{bits}.png" for bits in charts]
    for chart, path in zip(charts.values(), paths, strict=True):
        write_png(chart, path)
    choices = accuracy_table(out)
    write_html("Clips by metric", [*charts.values(), *summaries(out), choices], out / "clips.html")
    write_text(
        out / "accuracy.csv",
        "\n".join(",".join(cells) for cells in (choices.header, *choices.rows)) + "\n",
    )
    return [*paths, out / "clips.html", out / "accuracy.csv"]


def charts_of(out: Path, window: float, show: Sequence[str] = ()) -> dict[str, Chart]:
    """A chart for each bit width. Raises FormatError as `draw`."""
    scan = read_rows(out / "scan.csv")
    names = [name for name in scan[0] if name not in ("bits", "clip", *JUDGED)]
    missing = [name for name in show if name not in names]
    if missing:
        raise FormatError(
            f"{out / 'scan.csv'} has no metric {', '.join(missing)}; it has {', '.join(names)}"
        )
    return {
        bits: clip_chart(bits, [row for row in scan if row["bits"] == bits], show or names, window)
        for bits in dict.fromkeys(row["bits"] for row in scan)
    }


def clip_chart(bits: str, rows: Sequence[Row], names: Sequence[str], window: float) -> Chart:
    """Curves of one bit width, each brought to 0 ... 1 over the clips shown; the true loss is black
    and dashed.
    """
    rows = sorted(rows, key=lambda row: float(row["clip"]))
    judged = LOSS in rows[0]
    if window and judged:
        centre = float(min(rows, key=lambda row: float(row[LOSS]))["clip"])
        rows = [row for row in rows if abs(float(row["clip"]) - centre) <= window + 1e-9]
    clips = [float(row["clip"]) for row in rows]
    lines = [Line(name, clips, _normalised([float(row[name]) for row in rows])) for name in names]
    if judged:
        loss = _normalised([float(row[LOSS]) for row in rows])
        lines.append(Line("true loss", clips, loss, dashed=True, strong=True))
    title = f"{_bits(bits)}: one clip for all layers, by metric and by true loss"
    return Chart(
        title,
        "clip: fraction of each layer's range",
        "normalised over the clips shown",
        tuple(lines),
    )


def accuracy_table(out: Path) -> Table:
    """Choices, the best on the test split first within each bit width and granularity."""
    rows = read_rows(out / "choices.csv")
    judged = [name for name in JUDGED if name in rows[0]]
    places = list(dict.fromkeys((row["bits"], row["granularity"]) for row in rows))
    rows.sort(
        key=lambda row: (places.index((row["bits"], row["granularity"])), -float(row["test"]))
    )
    header = (
        "metric",
        "bits",
        "granularity",
        "clip",
        *(_HEADERS[name] for name in judged),
        "test top-1 %",
    )
    cells = [
        (
            row["metric"],
            row["bits"],
            row["granularity"],
            _clip(row),
            *(_number(row, name) for name in judged),
            _number(row, "test"),
        )
        for row in rows
    ]
    return Table("All choices", header, tuple(cells))


def summaries(out: Path) -> list[Table]:
    """A row a metric, a column a bit width: test accuracy at the clip chosen, a table for each
    granularity; then rank correlations with the true loss, if it was measured.
    """
    choices = read_rows(out / "choices.csv")
    tables = []
    for granularity in dict.fromkeys(row["granularity"] for row in choices):
        rows = [row for row in choices if row["granularity"] == granularity]
        cells = {
            (row["metric"], row["bits"]): f"{_number(row, 'test')} @ {_clip(row)}" for row in rows
        }
        tables.append(_by_bits(f"Test top-1 % @ clip chosen, {_SHARED[granularity]}", cells))
    path = out / "correlation.csv"
    if path.exists():
        found = {
            (row["metric"], row["bits"]): _number(row, LOSS) if row[LOSS] else ""
            for row in read_rows(path)
        }
        tables.append(
            _by_bits("Rank correlation with the true loss over the clips of the scan", found)
        )
    return tables


def _by_bits(title: str, cells: dict[tuple[str, str], str]) -> Table:
    metrics, widths = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    rows = tuple(
        (metric, *(cells.get((metric, bits), "") for bits in widths)) for metric in metrics
    )
    return Table(title, ("metric", *map(_bits, widths)), rows)


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file of a clip search. Raises FormatError when there are none, or damaged
    ones.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FormatError(
            f"{path} can't be read: {reason}; is this the --out of a clip search?"
        ) from error
    if not rows:
        raise FormatError(f"{path} has no rows; delete it")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values() or not all(map(_sound, row.items())):
            raise FormatError(
                f"{path}: row {number} is damaged; delete the row, and the same command makes it "
                f"again"
            )
    return rows


_WORDS = ("granularity", "metric", "layer")


def _sound(cell: tuple[str, str]) -> bool:
    """Columns that are not words hold numbers; rank correlations may be empty."""
    column, text = cell
    if column in _WORDS or not text:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


_SHARED = {
    "network": "one for all layers",
    "layer": "one for each layer",
    "channel": "one for each channel (its mean)",
}
_HEADERS = {LOSS: "loss", "divergence": "KL to float", "accuracy": "top-1 %"}


def _number(row: Row, name: str) -> str:
    return f"{float(row[name]):.{2 if name in ('accuracy', 'test') else 4}f}"


def _bits(width: str) -> str:
    return f"{width} bit" if width == "1" else f"{width} bits"


def _clip(row: Row) -> str:
    lower, upper = float(row["lower"]), float(row["upper"])
    return f"{lower:.3g}" if lower == upper else f"{lower:.3g}/{upper:.3g}"


def _normalised(values: Sequence[float]) -> list[float]:
    """To 0 ... 1; a constant curve to 0."""
    low, high = min(values, default=nan), max(values, default=nan)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]
