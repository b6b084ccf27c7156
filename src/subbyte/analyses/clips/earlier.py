"""Measurements of an earlier search of the same network: the true loss of a clip does not depend on
the metrics that are compared with it, so that a search with others need not measure it again.
"""

from collections.abc import Mapping
from pathlib import Path

from subbyte.errors import RecipeError
from subbyte.io.settings import SETTINGS, kept_settings
from subbyte.records.clips import JUDGED, SCAN, SCAN_KEY, read_table

_FREE = {
    *("bits", "clip", "resolution", "metrics", "granularities", "apart"),
    *("labels", "grad_batches", "batch_size"),
}
"""Settings that loss, divergence and accuracy of a network-wide clip do not depend on."""
Known = Mapping[tuple[str, ...], dict[str, float]]
"""Loss, divergence and accuracy by bits and clip, both as the tables have them."""


def known_from(base: Path, settings: Mapping[str, object]) -> Known:
    """The figures that the search in the folder `base` measured on images to evaluate on.

    settings: of the search that takes it over, as settings.json holds them. Raises RecipeError
    where the other's differ in what the figures depend on, or where it measured none; FormatError
    where it is damaged.
    """
    if not (base / SCAN).is_file() or not (base / SETTINGS).is_file():
        raise RecipeError(f"--base {base} holds no clip search; give a folder of gradquant")
    theirs = kept_settings(base)
    for name in [*settings, *(name for name in theirs if name not in settings)]:
        ours = list(one) if isinstance(one := settings.get(name), tuple) else one
        if name not in _FREE and not name.endswith("_before") and ours != theirs.get(name):
            raise RecipeError(
                f"--base {base} was made with {name} = {theirs.get(name)}, here it is {ours}: what "
                f"it measured is of something else"
            )
    rows = read_table(base / SCAN)
    if not set(JUDGED) <= rows[0].keys():
        raise RecipeError(f"--base {base} measured no true loss; do without it")
    return {
        tuple(row[name] for name in SCAN_KEY): {name: float(row[name]) for name in JUDGED}
        for row in rows
    }
