"""The options of `quantize --recipe best`: what is wished for."""

from collections.abc import Mapping, Sequence

from subbyte.cli.common import read_time
from subbyte.engine.trials import Wish
from subbyte.errors import RecipeError
from subbyte.tuning import Distill

BEST = "best"
APART = 5000
"""Samples that are held apart unless stated."""
_MAX_DROP = 0.5  # where no size is stated
_OPTIONS = {"weights.bits": "--bits", "budget": "--budget"}


def read_wish(
    recipe: str,
    *,
    bits: str | None,
    activation_bits: str | None,
    budget: str | None,
    max_drop: float | None,
    time: str | None,
    apart: int | None,
    settings: Sequence[str],
) -> tuple[Wish | None, list[str]]:
    """The wish, None for another recipe than `best`, and the settings that it makes.

    Raises RecipeError for what does not go together.
    """
    own: Mapping[str, object] = {
        "--bits": bits,
        "--activation-bits": activation_bits,
        "--max-drop": max_drop,
        "--time": time,
        "--apart": apart,
    }
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
    sizes = {"--bits": bits, "--budget": budget, "--max-drop": max_drop}
    stated = [name for name, value in sizes.items() if value is not None]
    if len(stated) > 1:
        raise RecipeError(
            f"{' and '.join(stated)} each say how large the network is to be; give one of them"
        )
    if apart is not None and apart < 1:
        raise RecipeError(f"--apart must be at least 1, got {apart}")
    made = {"weights.bits": bits, "activations.bits": activation_bits}
    tune = None if time is None else Distill(seconds=read_time(time))
    wish = Wish(max_drop if stated else _MAX_DROP, tune)
    return wish, [f"{path}={value}" for path, value in made.items() if value is not None]
