"""Tables that the commands print."""

from typing import Any

from rich.table import Table

from subbyte.pages import Table as PageTable
from subbyte.recipe import LayerPlan, Plan


def summary_table(results: list[dict[str, Any]], title: str) -> Table:
    """Float, torch and ONNX Runtime side by side, one block a result."""
    table = Table(title=title, title_justify="left")
    table.add_column("recipe")
    table.add_column("network")
    for name in ("top-1 %", "agrees with float %", "bits/weight", "bytes"):
        table.add_column(name, justify="right")
    for number, result in enumerate(results):
        if number == 0:
            table.add_row(
                "float",
                "torch",
                f"{result['float']['top1']:.2f}",
                "",
                "32.00",
                f"{result['bytes']['float']:,}",
            )
        table.add_section()
        bits, sizes = f"{result['bits_per_weight']:.2f}", result["bytes"]
        quantized, onnx = result["quantized"], result["onnx"]
        table.add_row(
            result["recipe"],
            "torch, packed",
            f"{quantized['top1']:.2f}",
            f"{quantized['agreement']:.2f}",
            bits,
            f"{sizes['packed']:,}",
        )
        table.add_row(
            "",
            f"ONNX Runtime, {onnx['container']}",
            f"{onnx['top1']:.2f}",
            "",
            "",
            f"{sizes['onnx']:,}",
        )
    return table


def ledger_table(rows: list[dict[str, Any]], title: str) -> Table:
    """One row a layer or tap."""
    table = Table(title=title, title_justify="left")
    table.add_column("name", overflow="fold")
    sparse = any(row.get("zeros") is not None for row in rows)
    for name in ("asked", "bits", "bytes", "SNR dB", *(["zeros %"] if sparse else [])):
        table.add_column(name, justify="right")
    table.add_column("reason, and how ONNX holds it", overflow="fold")
    for row in rows:
        sqnr = "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        notes = "; ".join(filter(None, (row["reason"], row.get("onnx", ""))))
        zeros = [] if not sparse else ["" if row["zeros"] is None else f"{row['zeros']:.1f}"]
        table.add_row(
            row["name"], row["asked"], row["bits"], f"{row['bytes']:,}", sqnr, *zeros, notes
        )
    return table


def options_table(options: list[dict[str, Any]]) -> Table:
    """Divergence of every width of every layer, in thousandths; * at the width that was chosen."""
    table = Table(
        title="1000 x relative square error of the output with one layer quantized, * chosen",
        title_justify="left",
    )
    table.add_column("layer", overflow="fold")
    widths = list(dict.fromkeys(option["width"] for option in options))
    for width in widths:
        table.add_column(width, justify="right")
    for layer in dict.fromkeys(option["layer"] for option in options):
        cells = {option["width"]: option for option in options if option["layer"] == layer}
        shown = [
            f"{'*' * cell['chosen']}{1000 * cell['divergence']:.3g}"
            if (cell := cells.get(w))
            else ""
            for w in widths
        ]
        table.add_row(layer, *shown)
    return table


def plain_table(table: PageTable) -> Table:
    """A table of a report, on the terminal."""
    shown = Table(title=table.title, title_justify="left")
    for number, name in enumerate(table.header):
        shown.add_column(name, justify="left" if number == 0 else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown


def plan_table(plan: Plan) -> Table:
    """What will be done, before any data is seen."""
    tuned = "" if plan.tune is None else f", tune: {type(plan.tune).__name__.lower()}"
    table = Table(title=f"plan: {plan.recipe}{tuned}", title_justify="left")
    for name in ("name", "what", "bits", "range", "rounding", "correction", "note"):
        table.add_column(name, overflow="fold")
    for layer in plan.layers:
        bits = layer.spec.label if layer.spec else "float"
        shape = "x".join(map(str, layer.shape))
        methods = [
            type(m).__name__.lower() for m in (layer.range, layer.rounding, layer.correction)
        ]
        table.add_row(
            layer.name,
            f"{layer.kind} {shape}",
            bits,
            *(methods if layer.spec else ["", "", ""]),
            _notes(layer),
        )
    table.add_section()
    for tap in plan.taps:
        feeds = f"feeds {', '.join(tap.feeds)}" if tap.feeds else ""
        table.add_row(
            tap.name,
            f"tap ({tap.role})",
            tap.spec.label,
            type(tap.range).__name__.lower(),
            "",
            "",
            feeds,
        )
    return table


def _notes(layer: LayerPlan) -> str:
    scaled = f"scales x {layer.scalar:g}" if layer.spec and layer.scalar != 1 else ""
    prepared = (
        f"precondition: {type(layer.precondition).__name__.lower()}"
        if layer.spec and layer.precondition
        else ""
    )
    return "; ".join(filter(None, (layer.reason, scaled, prepared)))
