"""Several quantized networks side by side: a table, accuracy against size, and where each loses its
signal.
"""

from collections.abc import Sequence

from subbyte.pages.charts import Table
from subbyte.pages.figures import Cloud, Marks, Points, Rows
from subbyte.pages.model import TOP1, Model, sections
from subbyte.pages.parts import Part, Section, Story
from subbyte.pages.words import (
    bits_of,
    chance,
    points,
    signed,
    size,
    standard_error,
    summary,
    weakest,
)

_COMPARED = 8  # networks whose layers are drawn beside each other


def tell(models: Sequence[Model]) -> Story:
    """One network in full, or several compared, each in full behind its name."""
    if len(models) == 1:
        (model,) = models
        told = (
            summary(model.result),
            chance(model.result, model.evidence),
            weakest(model.result.layers, "layers"),
        )
        title = f"{model.result.model}, {model.result.recipe}"
        return Story(tuple(filter(None, told)), tuple(sections(model)), title)
    whole = (Section("Comparison", tuple(_comparison(models))), *_each(models))
    return Story(_words(models), whole, f"{len(models)} quantized networks")


def _words(models: Sequence[Model]) -> tuple[str, ...]:
    best = max(models, key=lambda model: (model.result.quantized.top1, -model.result.bytes.packed))
    least = min(models, key=lambda model: (model.result.bytes.packed, -model.result.quantized.top1))
    told = []
    ends = [(best, "most accurate"), (least, "smallest")]
    if best is least:
        ends = [(best, "most accurate and the smallest")]
    for model, what in ends:
        one = model.result
        told.append(
            f"The {what} is {model.name}: {bits_of(one)}, {one.quantized.top1:.2f} % top-1 "
            f"({points(one.quantized.top1 - one.float_.top1)}) in {size(one.bytes.packed)} instead "
            f"of "
            f"{size(one.bytes.float_)}."
        )
    data = {(model.result.model, model.result.data, model.result.images) for model in models}
    if len(data) > 1:
        told.append(
            "They are not all of one network and one set of images, so accuracies compare only "
            "within each."
        )
    return tuple(told)


def _each(models: Sequence[Model]) -> list[Section]:
    found = []
    for model in models:
        lead = tuple(filter(None, (summary(model.result), chance(model.result, model.evidence))))
        found.append(Section(model.name, (*lead, *sections(model)), folded=True))
    return found


def _comparison(models: Sequence[Model]) -> list[Part]:
    parts: list[Part] = [_table(models), pareto(models)]
    names = [tuple(row.name for row in model.result.layers) for model in models]
    if len(set(names)) == 1 and len(models) <= _COMPARED:
        parts.append(_signals(models))
    return parts


def _table(models: Sequence[Model]) -> Table:
    rows = []
    for model in models:
        one = model.result
        rows.append(
            (
                model.name,
                one.model,
                one.data,
                one.recipe,
                f"{one.bits_per_weight:.2f}",
                f"{one.bytes.packed:,}",
                f"{one.bytes.onnx:,}",
                f"{one.float_.top1:.2f}",
                f"{one.quantized.top1:.2f}",
                signed(one.quantized.top1 - one.float_.top1),
                "" if one.quantized.agreement is None else f"{one.quantized.agreement:.2f}",
                f"{one.onnx.agreement:.2f}",
                f"{one.seconds.get('walk', 0):.1f}",
            )
        )
    header = (
        "folder",
        "network",
        "data",
        "recipe",
        "bits a weight",
        "packed bytes",
        "ONNX bytes",
        "float top-1 %",
        "quantized top-1 %",
        "difference",
        "agrees with float %",
        "ONNX agrees %",
        "walk, s",
    )
    return Table("Networks", header, tuple(rows))


def pareto(models: Sequence[Model]) -> Points:
    """Accuracy against packed bytes, a colour for each network and data; stairs along the best of
    each size.
    """
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        groups.setdefault((model.result.model, model.result.data), []).append(model)
    clouds, floats = [], []
    for (network, data), mine in groups.items():
        clouds.append(_cloud(f"{network} on {data}" if len(groups) > 1 else "quantized", mine))
        known = sorted({(model.result.bytes.float_, model.result.float_.top1) for model in mine})
        floats += [(f"float {network}" if len(groups) > 1 else "float", *one) for one in known]
    clouds.append(
        Cloud(
            "float",
            [count for _, count, _ in floats],
            [top1 for _, _, top1 in floats],
            [name for name, *_ in floats],
            [f"{name}: {top1:.2f} %, {count:,} bytes" for name, count, top1 in floats],
        )
    )
    steps = (
        front([(m.result.bytes.packed, m.result.quantized.top1) for m in models])
        if len(groups) == 1
        else ((), ())
    )
    about = "Bars reach one standard error up and down."
    if steps[0]:
        about = f"{about} Dashed: the best accuracy that so many bytes buy."
    return Points(
        "Accuracy against size",
        about,
        "bytes, packed",
        TOP1,
        tuple(clouds),
        True,
        steps,
        "Pareto front",
    )


def _cloud(name: str, models: Sequence[Model]) -> Cloud:
    results = [model.result for model in models]
    return Cloud(
        name,
        [one.bytes.packed for one in results],
        [one.quantized.top1 for one in results],
        [model.name for model in models],
        [
            f"{model.name}: {model.result.quantized.top1:.2f} %, {model.result.bytes.packed:,} "
            f"bytes"
            for model in models
        ],
        [standard_error(one.quantized.top1, one.images) for one in results],
    )


def front(places: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Places (size, accuracy) that no other beats: none as small is as accurate, by rising size."""
    x: list[float] = []
    y: list[float] = []
    for size_, accuracy in sorted(places, key=lambda place: (place[0], -place[1])):
        if not y or accuracy > y[-1]:
            x.append(size_)
            y.append(accuracy)
    return x, y


def _signals(models: Sequence[Model]) -> Rows:
    names = tuple(row.name for row in models[0].result.layers)
    marks = tuple(
        Marks(
            model.name,
            [row.sqnr_db for row in model.result.layers],
            "dot",
            notes=[
                f"{model.name}, "
                f"{row.name}: " + ("exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB")
                for row in model.result.layers
            ],
        )
        for model in models
    )
    about = (
        "Of each layer's output against the float network, on the calibration images. 6 dB "
        "more are one bit more."
    )
    return Rows("Signal-to-noise ratio by layer", about, "dB", names, marks)
