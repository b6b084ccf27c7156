"""The options of `quantize --recipe best`: what is wished for."""

from collections.abc import Sequence
from dataclasses import dataclass

from subbyte.cli.numbers import read_time
from subbyte.engine.trials import Wish
from subbyte.errors import RecipeError
from subbyte.io.numbers import Whole
from subbyte.io.processes import Processes
from subbyte.tuning import Distill

BEST = "best"
APART = 5000
"""Samples that are held apart unless stated."""
_MAX_DROP = 0.5  # where no size is stated
_OPTIONS = {"weights.bits": "--bits", "budget": "--budget"}


@dataclass(frozen=True)
class Given:
    """The options as they were given, None where they were not."""

    bits: str | None = None
    activation_bits: str | None = None
    budget: str | None = None
    max_drop: float | None = None
    time: str | None = None
    apart: int | None = None

    def check_dry_run(self) -> None:
        """Raise RecipeError for what is not decided without data."""
        if self.max_drop is not None or self.time is not None:
            raise RecipeError("--dry-run needs no data; --max-drop and --time do: leave them out")


def check_alone(processes: Processes) -> None:
    """Raise RecipeError where several processes would search."""
    if not processes.alone:
        raise RecipeError("--recipe best is for one process; start it without torchrun")


def read_wish(
    recipe: str, options: Given, settings: Sequence[str]
) -> tuple[Wish | None, list[str]]:
    """The wish, None for another recipe than `best`, and the settings that it makes.

    settings: given by --set. Raises RecipeError for what does not go together.
    """
    named = {f"--{name.replace('_', '-')}": value for name, value in vars(options).items()}
    own = {name: value for name, value in named.items() if name != "--budget"}
    given = [name for name, value in own.items() if value is not None]
    if recipe.lower() != BEST:
        if given:
            raise RecipeError(
                f"{given[0]} goes with --recipe best; change another recipe by --set, such as "
                f"weights.bits=4, activations.bits=8 or tune=distill"
            )
        return None, []
    for setting in settings:
        path = setting.partition("=")[0].strip()
        if path in _OPTIONS:
            raise RecipeError(f"--set {setting!r}: with --recipe best give {_OPTIONS[path]}")
    stated = [name for name in ("--bits", "--budget", "--max-drop") if named[name] is not None]
    if len(stated) > 1:
        raise RecipeError(
            f"{' and '.join(stated)} each say how large the network is to be; give one of them"
        )
    for name in ("--bits", "--activation-bits"):
        _check_bits(name, named[name])
    made = {"weights.bits": options.bits, "activations.bits": options.activation_bits}
    tune = None if options.time is None else Distill(seconds=read_time(options.time))
    wish = Wish(options.max_drop if stated else _MAX_DROP, tune)
    return wish, [f"{path}={value}" for path, value in made.items() if value is not None]


def _check_bits(option: str, text: str | None) -> None:
    """Raise RecipeError for what is neither a number of bits nor a word; the recipe knows which."""
    try:
        if text is not None and not text.isalpha():
            Whole(1, 16).read(text)
    except RecipeError as error:
        raise RecipeError(f"{option} {error}") from error
