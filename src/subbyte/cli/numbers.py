"""Options that take numbers. Each is read and checked before its command begins: what is none is an
error of usage that names the option.

    calibration: Annotated[int, numeric(Whole(1), "Images to calibrate on.")] = 500

A test finds options of numbers that are declared in another way.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from subbyte.data import Amount, Images
from subbyte.errors import RecipeError, SubbyteError
from subbyte.io.complaints import short
from subbyte.io.numbers import SEED, Real, Whole

T = TypeVar("T")
LONGEST = 10**9
"""Seconds that something may take."""
PIXELS = Whole(1, 2**16)
MOST_PIXELS = 2**26
"""Numbers in one image that `--input-shape` makes up."""
USUAL = Images(500)
"""Calibration images where no number is given."""
MOST_SEEDS = 10_000
"""Seeds in one range."""
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def numeric(span: Whole | Real, help: str, *names: str) -> Any:
    """An option that takes one number of a span; help, names: as typer's."""
    return typer.Option(
        *names, parser=usage(span.read), metavar=span.noun.upper().split()[-1], help=help
    )


def amount(help: str) -> Any:
    """An option that takes a number of images, or a share of those that there are such as 1%."""
    return typer.Option(parser=usage(Amount.read), metavar="IMAGES|%", help=help)


def usage(read: Callable[[str], T]) -> Callable[[Any], T]:
    """A reader of text whose errors name the option."""

    def parse(given: Any) -> T:
        try:
            return read(str(given))
        except SubbyteError as error:
            raise typer.BadParameter(str(error)) from error

    return parse


def read_numbers(option: str, text: str, span: Whole) -> list[int]:
    """The whole numbers in a text, by comma. Raises RecipeError that names the option."""
    try:
        return [span.read(part.strip()) for part in text.split(",")]
    except RecipeError as error:
        raise RecipeError(f"{option}: each {error}") from error


def read_seeds(text: str) -> list[int]:
    """Seeds written as 0,1,2 or 0-9. Raises RecipeError for anything else, and for a range of more
    than `MOST_SEEDS`.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = read_numbers("--seeds", f"{first},{last if dash else first}", SEED)
        if not low <= high < low + MOST_SEEDS:
            raise RecipeError(
                f"--seeds: {short(part)} is no range of 1 to {MOST_SEEDS:,} seeds, such as 0-9"
            )
        found += range(low, high + 1)
    return found


def read_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width of an image. Raises RecipeError for what is none, and for more
    numbers than `MOST_PIXELS`.
    """
    found = read_numbers("--input-shape C,H,W", text, PIXELS)
    if len(found) != 3 or found[0] * found[1] * found[2] > MOST_PIXELS:
        raise RecipeError(
            f"--input-shape must be C,H,W, of {MOST_PIXELS:,} numbers at most; got {text[:100]!r}"
        )
    return found[0], found[1], found[2]


def read_time(text: str) -> float:
    """The seconds of a time such as 5min. Raises RecipeError for another text."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*(s|min|h)\s*", text)
    try:
        if match is None:
            raise RecipeError("no unit")
        return Real(0, LONGEST, above=True).read(match[1]) * _UNITS[match[2]]
    except RecipeError as error:
        raise RecipeError(
            f"--time must be a time such as 90s, 5min or 1h, got {text[:100]!r}"
        ) from error
