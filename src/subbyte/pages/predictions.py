"""Who was taken for whom, before and after quantization, and some of the images whose class
changed.
"""

from collections.abc import Sequence
from math import log10

from subbyte.pages.figures import Heat
from subbyte.pages.parts import Gallery, Part, Picture, Section, Table, Text
from subbyte.pages.wording import signed
from subbyte.records import Cell, Changed, Predictions

_DRAWN = 40  # classes up to which matrices are drawn
_MISTAKES = 40  # rows of the table of mistakes


def section(found: Predictions, images: int) -> Section:
    """Matrices, mistakes and pictures. images: of the test."""
    changed = found.lost + found.gained + found.moved
    told = (
        f"{changed:,} of {images:,} images are put into another class than by the float network: "
        f"{found.lost:,} right "
        f"before and wrong now, {found.gained:,} wrong before and right now, {found.moved:,} wrong "
        f"both times."
        if changed
        else "Every image is put into the same class as by the float network."
    )
    parts: list[Part] = [Text(told)]
    if len(found.classes) <= _DRAWN:
        parts += [_matrix(found), _difference(found)]
    parts.append(_by_class(found))
    parts.append(_mistakes(found))
    if found.changed:
        parts.append(_pictures(found))
    return Section("Predictions", tuple(parts))


def _filled(cells: Sequence[Cell], count: int) -> list[list[int]]:
    matrix = [[0] * count for _ in range(count)]
    for label, named, often in cells:
        matrix[label][named] = often
    return matrix


def _matrix(found: Predictions) -> Heat:
    matrix = _filled(found.quantized_cells, len(found.classes))
    names = tuple(found.classes)
    return Heat(
        "Confusion of the quantized network",
        "Images of each class by the class they are put into; colours by the "
        "logarithm of their number.",
        "put into",
        "class",
        names,
        names,
        tuple([log10(1 + v) if v else None for v in row] for row in matrix),
        tuple([f"{v}" if v else "" for v in row] for row in matrix),
        palest=0.0,
    )


def _difference(found: Predictions) -> Heat:
    before, after = (
        _filled(cells, len(found.classes)) for cells in (found.float_cells, found.quantized_cells)
    )
    values = [
        [b - a for a, b in zip(x, y, strict=True)] for x, y in zip(before, after, strict=True)
    ]
    names = tuple(found.classes)
    return Heat(
        "What quantization changed in it",
        "Images more (+) or fewer (-) in each cell than with the float network. "
        "Fewer on the diagonal and more beside it is what was lost.",
        "put into",
        "class",
        names,
        names,
        tuple([float(v) for v in row] for row in values),
        tuple([f"{v:+d}" if v else "" for v in row] for row in values),
        diverging=True,
    )


def _by_class(found: Predictions) -> Table:
    right = [
        {label: often for label, named, often in cells if label == named}
        for cells in (found.float_cells, found.quantized_cells)
    ]
    rows = []
    for label, count in enumerate(found.labels):
        if count:
            before, after = (100 * cells.get(label, 0) / count for cells in right)
            rows.append(
                (
                    found.classes[label],
                    f"{count:,}",
                    f"{before:.2f}",
                    f"{after:.2f}",
                    signed(after - before),
                )
            )
    return Table(
        "By class",
        ("class", "images", "float top-1 %", "quantized top-1 %", "difference"),
        tuple(rows),
    )


def _mistakes(found: Predictions) -> Table:
    """The most frequent mistakes of the quantized network."""
    before = {(label, named): often for label, named, often in found.float_cells}
    wrong = sorted(
        (-often, label, named) for label, named, often in found.quantized_cells if label != named
    )
    rows = tuple(
        (
            found.classes[label],
            found.classes[named],
            f"{-often:,}",
            f"{before.get((label, named), 0):,}",
        )
        for often, label, named in wrong[:_MISTAKES]
    )
    return Table("Most frequent mistakes", ("class", "taken for", "quantized", "float"), rows)


def _pictures(found: Predictions) -> Gallery:
    ordered = sorted(found.changed, key=lambda one: (_kind(one), one.index))
    total = found.lost + found.gained + found.moved
    some = (
        f"{len(ordered)} of the {total:,} images, spread evenly,"
        if total > len(ordered)
        else "Images"
    )
    pictures = tuple(Picture(one.picture, _words(one, found.classes)) for one in ordered)
    return Gallery(f"{some} whose prediction changed", pictures)


def _kind(one: Changed) -> int:
    """0: became wrong, 1: became right, 2: wrong both times."""
    return 0 if one.float_class == one.label else 1 if one.quantized_class == one.label else 2


def _words(one: Changed, classes: Sequence[str]) -> str:
    what = ("became wrong", "became right", "wrong both times")[_kind(one)]
    return (
        f"Image {one.index:,}, {classes[one.label]} ({what}): float said "
        f"{classes[one.float_class]} "
        f"({one.float_sure:.0f} %), quantized {classes[one.quantized_class]} "
        f"({one.quantized_sure:.0f} %)"
    )
