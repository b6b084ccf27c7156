"""Figures of outputs in words and columns: scores by targets, and comparisons with float."""

from collections.abc import Callable, Sequence

from subbyte.records import Measured, Result, Score

Columns = dict[str, Callable[[Measured], Score | None]]
"""The figure of a network that each column shows, by its title."""
_PERCENT = "%"
_BELOW_1 = 0.999999


def label(score: Score, heads: Sequence[str], more: str = "") -> str:
    """Such as 'top-1 %'; of one of several outputs 'output.mask: mean IoU %'.

    more: words behind the name.
    """
    text = " ".join(filter(None, (score.name, more, score.unit)))
    return f"{heads[score.head]}: {text}" if len(heads) > 1 else text


def number(score: Score | None) -> str:
    """The value: percentages with two decimals, others with five digits; '' for none."""
    if score is None or score.value is None:
        return ""
    if score.unit == _PERCENT:
        return f"{score.value:.2f}"
    text = f"{score.value:.5g}"
    # a cosine is 1 only where it is 1
    return f"{min(score.value, _BELOW_1):.6g}" if text == "1" and score.value < 1 else text


def said(score: Score) -> str:
    """Such as '90.81 % top-1' or '0.0123 relative error'."""
    return " ".join(filter(None, (number(score) or "no", score.unit, score.name)))


def change(after: Score, before: Score) -> str:
    """The distance of a score from the float network's, in words."""
    difference = after.above(before)
    digits = 2 if after.unit == _PERCENT else 4
    if round(difference, digits) == 0:
        return "the same as float"
    unit = "points" if after.unit == _PERCENT else after.unit
    return (
        " ".join(filter(None, (f"{abs(difference):.{digits}f}", unit)))
        + f" {'above' if difference > 0 else 'below'} float"
    )


SIZES = ("weight bytes", "file bytes", "ratio")
"""Columns of `sizes`."""


def sizes(held: int, file: int) -> tuple[str, str, str]:
    """Bytes of the numbers that a file has to hold, those of the file, and how many times more they
    are; blank where one is 0, which is not known.
    """
    ratio = f"{file / held:.3f}" if held and file else ""
    return f"{held:,}" if held else "", f"{file:,}" if file else "", ratio


def find(scores: Sequence[Score], like: Score) -> Score | None:
    """The figure of the same kind and output."""
    return next((one for one in scores if one.is_of(like)), None)


def columns(results: Sequence[Result], *, first: bool = False) -> tuple[Columns, Columns]:
    """Scores, and comparisons with float, of all results, in order. first: only the first of each
    output.
    """
    pick = first_of_each if first else list
    scores: Columns = {}
    compared: Columns = {}
    for one in results:
        for score in pick(one.quantized.scores):
            scores.setdefault(label(score, one.heads), _finder(score, lambda m: m.scores))
        for score in pick(one.quantized.comparison):
            title = label(score, one.heads, "with float")
            compared.setdefault(title, _finder(score, lambda m: m.comparison))
    return scores, compared


def first_of_each(scores: Sequence[Score]) -> list[Score]:
    """The first figure of every output."""
    return list({score.head: score for score in reversed(scores)}.values())[::-1]


def _finder(
    like: Score, scores: Callable[[Measured], Sequence[Score]]
) -> Callable[[Measured], Score | None]:
    return lambda measured: find(scores(measured), like)
