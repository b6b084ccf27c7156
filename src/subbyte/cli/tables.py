"""Tables that the commands print."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from subbyte.cli.fitting import Table
from subbyte.pages.parts import Table as PageTable
from subbyte.pages.scores import SIZES, columns, find, label, number, sizes
from subbyte.pages.speed import said_speed
from subbyte.pages.trials import trials_table as rows_of_trials
from subbyte.recipe import LayerPlan, Plan
from subbyte.records import Kernels, LedgerEntry, Measured, Option, Result, Score, Trials

_SHOWN = 3  # findings of a file that are printed


def summary_table(results: Sequence[Result], title: str) -> Table:
    """Float, torch and exported files side by side, one block a result; the first score and the
    first comparison, of the first output.
    """
    scores, compared = columns(results, first=True)
    shown = dict([*list(scores.items())[:1], *list(compared.items())[:1]])
    table = Table(title=title, keys=2)
    table.add_column("recipe")
    table.add_column("network")
    for name in (*shown, "bits/weight", *SIZES):
        table.add_column(name, justify="right")

    def row(recipe: str, name: str, measured: Measured, bits: str, held: int, file: int) -> None:
        cells = [number(figure(measured)) for figure in shown.values()]
        table.add_row(recipe, name, *cells, bits, *sizes(held, file))

    for position, result in enumerate(results):
        if position == 0:
            row("float", "torch", result.float, "32.00", result.bytes.float, 0)
        table.add_section()
        bits = f"{result.bits_per_weight:.2f}"
        held, file = result.bytes.packed, result.bytes.file
        row(result.recipe, "torch, packed", result.quantized, bits, held, file)
        for one in result.exports:
            # files are compared with the torch model, of which the column does not tell
            row("", one.name, Measured(scores=one.scores), "", one.holds, one.bytes)
    return table


def scores_table(
    networks: Mapping[str, Measured], heads: Sequence[str], title: str | None = None
) -> Table:
    """All figures of networks, by name: a row a figure."""
    several = len(heads) > 1
    table = Table(title=title, keys=1 + several)
    for name in (*(["output"] if several else []), "figure"):
        table.add_column(name)
    for name in networks:
        table.add_column(name, justify="right")
    kinds: tuple[Callable[[Measured], Sequence[Score]], ...] = (
        lambda one: one.scores,
        lambda one: one.comparison,
    )
    for more, scores in zip(("", "with float"), kinds, strict=True):
        for like in dict.fromkeys(_keys(scores, networks)):
            found = [find(scores(one), like) for one in networks.values()]
            head = [heads[like.head]] if several else []
            table.add_row(*head, label(like, (), more), *map(number, found))
    return table


def _keys(
    scores: Callable[[Measured], Sequence[Score]], networks: Mapping[str, Measured]
) -> Iterator[Score]:
    """Figures without their values, of all networks."""
    for one in networks.values():
        for score in scores(one):
            yield score.model_copy(update={"value": None, "error": None})


def ledger_table(rows: Sequence[LedgerEntry], title: str) -> Table:
    """One row a layer or activation tensor."""
    table = Table(title=title)
    table.add_column("name")
    sparse = any(row.zeros is not None for row in rows)
    for name in ("asked", "bits", "bytes", "SNR dB", *(["zeros %"] if sparse else [])):
        table.add_column(name, justify="right")
    table.add_column("reason, and how files hold it")
    for row in rows:
        sqnr = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
        zeros = [] if not sparse else ["" if row.zeros is None else f"{row.zeros:.1f}"]
        table.add_row(row.name, row.asked, row.bits, f"{row.bytes:,}", sqnr, *zeros, row.notes)
    return table


def speed_lines(result: Result) -> list[str]:
    """How fast each file is against the float network, and what its runtime made of it."""
    lines = [f"speed was not measured: {result.not_timed}"] if result.not_timed else []
    for one in result.exports:
        if one.speed is not None:
            lines.append(said_speed(one))
        if one.kernels is not None and one.kernels.quantizes:
            lines.append(f"{one.name} in its runtime: {one.kernels.summary}")
            lines += finding_lines(one.kernels, _SHOWN)
    return lines


def finding_lines(kernels: Kernels, most: int) -> list[str]:
    """The costliest findings of a file, those of one reason together; no more than `most`."""
    lines = []
    for alike in kernels.alike[:most]:
        first, more = alike[0], len(alike) - 1
        others = f", and {more} more" if more else ""
        lines.append(f"  {first.name}{others} ({first.operation}): {first.reason}; {first.advice}")
    left = sum(map(len, kernels.alike[most:]))
    return [*lines, f"  and {left} more in the report"] if left else lines


def options_table(options: Sequence[Option]) -> Table:
    """Divergence of every width of every layer, in thousandths; * at the width that was chosen."""
    table = Table(
        title="1000 x relative square error of the output with one layer quantized, * chosen",
    )
    table.add_column("layer")
    widths = list(dict.fromkeys(option.width for option in options))
    for width in widths:
        table.add_column(width, justify="right")
    for layer in dict.fromkeys(option.layer for option in options):
        cells = {option.width: option for option in options if option.layer == layer}
        shown = [
            f"{'*' * cell.chosen}{1000 * cell.divergence:.3g}" if (cell := cells.get(w)) else ""
            for w in widths
        ]
        table.add_row(layer, *shown)
    return table


def trials_table(trials: Trials) -> Table:
    """Every network that was tried in a search, as the report shows them."""
    return plain_table(rows_of_trials(trials))


def plain_table(table: PageTable) -> Table:
    """A table of a report, on the terminal."""
    shown = Table(title=table.title)
    for place, name in enumerate(table.header):
        shown.add_column(name, justify="left" if place == 0 else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown


def plan_table(plan: Plan) -> Table:
    """The plan as a table: what will be done, before any data is seen."""
    tuned = "" if plan.tune is None else f", tune: {type(plan.tune).__name__.lower()}"
    table = Table(title=f"plan: {plan.recipe}{tuned}")
    for name in ("name", "what", "bits", "range", "rounding", "correction", "note"):
        table.add_column(name)
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
            f"activation ({tap.role})",
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
