"""How fast exported files are, how much memory they take, and what their runtime made of them."""

from collections.abc import Sequence

from subbyte.pages.figures import Bars, Dots, Rows
from subbyte.pages.parts import Part, Section, Table, Text
from subbyte.pages.wording import size
from subbyte.records import Bench, Exported, FileSpeed, Kernels, Result
from subbyte.records.speed import FLOAT

_TITLE = "Speed and memory"
_MIB = 2**20
_MANY = 20  # nodes that are drawn


def said_speed(one: Exported) -> str:
    """How fast a file is against the float network, with the reason where it is slower. It must
    have been timed.
    """
    assert one.speed is not None and one.timing is not None
    ratio, timing = one.speed, one.timing
    slower, faster = ratio.low > 1, ratio.high < 1
    head = "slower than" if slower else "faster than" if faster else "as fast as"
    many = "" if timing.threads == 1 else "s"
    told = (
        f"{one.name} is {head} float: {1 / ratio.median:.2f} x its speed ({1 / ratio.high:.2f} to "
        f"{1 / ratio.low:.2f}; batch {timing.batch}, {timing.threads} thread{many}, "
        f"{1000 * timing.seconds:.3g} ms)"
    )
    return f"warning: {told}; {_why(one.kernels)}" if slower else told


def _why(kernels: Kernels | None) -> str:
    """The likeliest reason why a file is slow."""
    if kernels is None:
        return "its runtime does not tell what it made of the file"
    if not kernels.quantizes:
        return "only weights are quantized, so that it computes in float"
    if kernels.findings:
        return f"what may be to blame: {kernels.findings[0].summary}"
    return "nothing in its graph explains it; `subbyte bench` has the time of each node"


def speed_sections(result: Result, measured: Bench | None) -> list[Section]:
    """The section about speed; none where nothing is known."""
    parts: list[Part] = [*_words(result)]
    read = [(one.name, one.kernels) for one in result.exports if one.kernels is not None]
    if measured is not None:
        parts += _measured(measured)
        read = [(one.name, one.kernels) for one in measured.files if one.kernels is not None]
    if read:
        parts += [_kernels(read), *_findings(read)]
    if measured is not None:
        parts += _nodes(measured.files)
    return [Section(_TITLE, tuple(parts))] if parts else []


def _words(result: Result) -> list[Part]:
    told = [f"{said_speed(one)}." for one in result.exports if one.speed is not None]
    if result.not_timed:
        told.append(f"Speed was not measured: {result.not_timed}.")
    return [Text(text[0].upper() + text[1:]) for text in told]


def _measured(found: Bench) -> list[Part]:
    parts: list[Part] = [_faster(found), _times(found)]
    if any(one.resident is not None for one in found.files):
        parts += [_memory(found), _memory_table(found)]
    if found.notes:
        parts.append(Text(f"{'. '.join(note[0].upper() + note[1:] for note in found.notes)}."))
    return parts


def _faster(found: Bench) -> Rows:
    """How many times as fast as the reference each file is, a sign a batch size."""
    names = tuple(one.name for one in found.files)
    marks = []
    for batch in found.batches:
        values, notes = zip(
            *(_speed(one, batch, found.reference) for one in found.files), strict=True
        )
        marks.append(Dots(f"batch {batch}", values, notes))
    about = (
        "Files took turns; the median of the ratios of all turns. Point at a sign for its 95 % "
        "interval."
    )
    title = f"How many times as fast as {found.reference}"
    return Rows(title, about, "times as fast", names, tuple(marks))


def _speed(one: FileSpeed, batch: int, reference: str) -> tuple[float | None, str]:
    """How many times as fast as the reference a file is, and a note that says so."""
    head = f"{one.name}, batch {batch}"
    timing = next((timing for timing in one.timings if timing.batch == batch), None)
    if timing is None:
        return None, f"{head}: not measured"
    ratio = timing.against.get(reference)
    return (1.0, f"{head}: 1 x") if ratio is None else (1 / ratio.median, f"{head}: {ratio.faster}")


def _times(found: Bench) -> Table:
    others = found.compared
    rows = []
    for one in found.files:
        for timing in one.timings:
            ratios = [timing.against.get(name) for name in others]
            low, high = timing.quartiles
            rows.append(
                (
                    one.name,
                    str(timing.batch),
                    f"{1000 * timing.seconds:.4g}",
                    f"{1000 * low:.4g}",
                    f"{1000 * high:.4g}",
                    f"{timing.batch / timing.seconds:,.0f}",
                    *("" if ratio is None else ratio.faster for ratio in ratios),
                )
            )
    columns = tuple(f"times as fast as {name} (95 %)" for name in others)
    header = ("file", "batch", "ms a run", "first quartile", "third", "images a second", *columns)
    many = "" if found.threads == 1 else "s"
    processor = found.versions.get("processor", "")
    where = f" on {processor}" if processor else ""
    return Table(f"Times with {found.threads} thread{many}{where}", header, tuple(rows))


def _memory(found: Bench) -> Rows:
    names = tuple(one.name for one in found.files)
    loaded = [None if one.resident is None else one.resident.loaded / _MIB for one in found.files]
    peak = [None if one.resident is None else one.resident.peak / _MIB for one in found.files]
    about = (
        "What loading the file adds to a fresh process, and the most that it adds until one batch "
        "is through."
    )
    marks = (Bars("loaded", loaded), Dots("peak", peak))
    return Rows("Resident memory", about, "MiB", names, marks)


def _memory_table(found: Bench) -> Table:
    rows = []
    for one in found.files:
        if one.resident is not None:
            own, kernels = one.resident, one.kernels
            counted = ("", "") if kernels is None else _counted(kernels)
            rows.append(
                (
                    one.name,
                    f"{one.bytes:,}",
                    f"{own.load:.3f}",
                    f"{own.load_cpu:.3f}",
                    f"{own.loaded / _MIB:.1f}",
                    f"{own.peak / _MIB:.1f}",
                    *counted,
                )
            )
    header = (
        "file",
        "bytes",
        "seconds to load",
        "CPU seconds",
        "resident MiB",
        "peak MiB",
        "counted: weights as loaded, MiB",
        "counted: values alive, batch 1, MiB",
    )
    return Table("Memory, measured and counted", header, tuple(rows))


def _counted(kernels: Kernels) -> tuple[str, str]:
    return f"{kernels.loaded / _MIB:.2f}", f"{kernels.activations / _MIB:.2f}"


def _kernels(read: Sequence[tuple[str, Kernels]]) -> Table:
    """The runtime's graphs in numbers."""
    rows = tuple(
        (
            name,
            str(one.integers),
            str(one.floats),
            str(one.conversions),
            f"{one.integer_percent:.1f}",
            f"{one.multiplications:,}",
            f"{one.multiplied_percent:.1f}",
            size(one.weights),
            size(one.loaded),
            size(one.activations),
        )
        for name, one in read
    )
    header = (
        "file",
        "integer nodes",
        "float nodes",
        "conversions",
        "integer nodes %",
        "multiplications",
        "of integers %",
        "weights in the file",
        "as loaded",
        "values alive",
    )
    return Table("The runtime's graph, for one sample", header, rows)


def _findings(read: Sequence[tuple[str, Kernels]]) -> list[Part]:
    rows = tuple(
        (file, one.cost.value, one.name, one.operation, one.reason, one.advice, one.node)
        for file, kernels in read
        for one in kernels.findings
    )
    header = ("file", "cost", "where", "operation", "reason", "what to change", "node")
    return [Table("What costs time in it", header, rows)] if rows else []


def _nodes(files: Sequence[FileSpeed]) -> list[Part]:
    """The slowest nodes of every file but those that were only made to compare with."""
    found: list[Part] = []
    for one in files:
        if one.nodes and one.name != FLOAT:
            names = tuple(node.node for node in one.nodes[:_MANY])
            shares = [node.percent for node in one.nodes[:_MANY]]
            notes = [
                f"{node.node} ({node.operation}): {1e6 * node.seconds:.0f} microseconds, "
                f"{node.percent:.1f} %"
                for node in one.nodes[:_MANY]
            ]
            title, about = f"Slowest nodes of {one.name}", "Share of the time of all nodes."
            figure = Rows(title, about, "% of the time", names, (Bars("time", shares, notes),))
            found.append(Section(title, (figure,), folded=True))
    return found
