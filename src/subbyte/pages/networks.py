"""Several quantized networks side by side: a table, accuracy against size, and where each loses its
signal.
"""

from collections.abc import Sequence
from pathlib import Path

from subbyte.pages.deployment import told as files_told
from subbyte.pages.effects import costliest
from subbyte.pages.figures import Cloud, Dots, Points, Rows, front
from subbyte.pages.network import BARS, SIZE, Network, against_size, sections
from subbyte.pages.parts import Part, Section, Story, Table, Text
from subbyte.pages.scores import change, label, number, said
from subbyte.pages.scores import columns as figures_of
from subbyte.pages.subject import Subject, View
from subbyte.pages.wording import (
    bits_of,
    chance,
    signed,
    size,
    summary,
    weakest,
)
from subbyte.records import RESULT, Result, Score

_COMPARED = 8  # networks whose layers are drawn beside each other


class Networks(Subject[Network]):
    """Folders of `subbyte quantize`: one network in full, or several compared, each in full behind
    its name.
    """

    title = "Quantized networks"
    holds = f"a quantized network ({RESULT})"
    files = (RESULT,)

    def read(self, name: str, folder: Path) -> Network:
        """See `subject.Subject`."""
        return Network.read(name, folder)

    def tell(self, found: Sequence[Network], view: View) -> Story:
        """See `subject.Subject`."""
        if len(found) == 1:
            (network,) = found
            told = (*_lead(network), files_told(network.result), _costliest(network.result))
            title = f"{network.result.model}, {network.result.recipe}"
            return Story(tuple(filter(None, told)), tuple(sections(network)), title)
        whole = (Section("Comparison", tuple(_comparison(found))), *_each(found))
        return Story(_words(found), whole, f"{len(found)} quantized networks")


def _lead(network: Network) -> tuple[str, str]:
    return summary(network.result), chance(network.result, network.evidence)


def _costliest(result: Result) -> str:
    """The layer that costs most: by its own effect, or where that was not measured by the noise in
    its output.
    """
    return costliest(result.effects) or weakest(result.layers, "layers")


def _words(networks: Sequence[Network]) -> tuple[str, ...]:
    told = [text for mine in _alike(networks).values() for text in _ends(mine)]
    data = {(one.result.model, one.result.data, one.result.images) for one in networks}
    if len(data) > 1:
        told.append(
            "They are not all of one network and one set of images, so accuracies compare only "
            "within each."
        )
    return tuple(told)


def _ends(networks: Sequence[Network]) -> list[str]:
    """The best and the smallest of networks that are judged alike."""
    by_merit = [(one.result.quantized.headline.merit, -one.result.bytes.packed) for one in networks]
    best = networks[by_merit.index(max(by_merit))]
    least = min(networks, key=lambda one: (one.result.bytes.packed, -_merit(one)))
    ends = [("The most accurate is ", best), ("The smallest is ", least)]
    if best is least:
        ends = (
            [("The most accurate and the smallest is ", best)]
            if len(networks) > 1
            else [("", best)]
        )
    return [
        f"{what}{one.name}: {bits_of(one.result)}, {_reached(one.result)} in "
        f"{size(one.result.bytes.packed)} instead of {size(one.result.bytes.float)}."
        for what, one in ends
    ]


def _reached(result: Result) -> str:
    after, before = result.quantized, result.float
    if not before.scores:
        return f"{said(after.headline)} with float"
    return f"{said(after.headline)} ({change(after.headline, before.headline)})"


def _merit(network: Network) -> float:
    return network.result.quantized.headline.merit


def _alike(networks: Sequence[Network]) -> dict[str, list[Network]]:
    """Networks by the title of the figure that stands for them."""
    groups: dict[str, list[Network]] = {}
    for one in networks:
        groups.setdefault(headline(one.result), []).append(one)
    return groups


def headline(result: Result) -> str:
    """The title of the figure that stands for a network."""
    more = "" if result.quantized.scores else "with float"
    return label(result.quantized.headline, result.heads, more)


def _each(networks: Sequence[Network]) -> list[Section]:
    return [
        Section(one.name, (*map(Text, _lead(one)), *sections(one)), folded=True) for one in networks
    ]


def _comparison(networks: Sequence[Network]) -> list[Part]:
    parts: list[Part] = [_table(networks), *map(pareto, _alike(networks).values())]
    names = [tuple(row.name for row in network.result.layers) for network in networks]
    if len(set(names)) == 1 and len(networks) <= _COMPARED:
        parts.append(_signals(networks))
    return parts


def _table(networks: Sequence[Network]) -> Table:
    results = [network.result for network in networks]
    exporters = list(dict.fromkeys(file.name for one in results for file in one.exports))
    columns = {
        "folder": [network.name for network in networks],
        "network": [one.model for one in results],
        "data": [one.data for one in results],
        "recipe": [one.recipe for one in results],
        "bits a weight": [f"{one.bits_per_weight:.2f}" for one in results],
        "packed bytes": [f"{one.bytes.packed:,}" for one in results],
        "file bytes": [f"{one.bytes.file:,}" for one in results],
    }
    scores, compared = figures_of(results)
    before_all, after_all = [one.float for one in results], [one.quantized for one in results]
    for name, find in scores.items():
        before, after = ([find(m) for m in side] for side in (before_all, after_all))
        columns[f"float {name}"] = list(map(number, before))
        columns[f"quantized {name}"] = list(map(number, after))
        columns[f"difference of {name}"] = list(map(_difference, after, before))
    for name, find in compared.items():
        columns[name] = [number(find(one.quantized)) for one in results]
    for name in exporters:
        files = [{file.name: file for file in one.exports}.get(name) for one in results]
        columns[f"{name} bytes"] = ["" if one is None else f"{one.bytes:,}" for one in files]
        nearest = [None if one is None else one.comparison[0] for one in files]
        kinds = dict.fromkeys(label(one, ()) for one in nearest if one is not None)
        for kind in kinds:
            columns[f"{name}: {kind} with torch"] = [
                number(one) if one is not None and label(one, ()) == kind else "" for one in nearest
            ]
    columns["walk, s"] = [f"{one.seconds.get('walk', 0):.1f}" for one in results]
    return Table("Networks", tuple(columns), tuple(zip(*columns.values(), strict=True)))


def pareto(networks: Sequence[Network]) -> Points:
    """The figure that stands for networks, which is one for all, against packed bytes: a colour for
    each network and data; stairs along the best of each size.
    """
    groups: dict[tuple[str, str], list[Network]] = {}
    for one in networks:
        groups.setdefault((one.result.model, one.result.data), []).append(one)
    clouds, floats = [], []
    for (network, data), mine in groups.items():
        clouds.append(_cloud(f"{network} on {data}" if len(groups) > 1 else "quantized", mine))
        known = {
            (one.result.bytes.float, one.result.float.headline.value): one.result.float.headline
            for one in mine
            if one.result.float.scores and one.result.float.headline.value is not None
        }
        name = f"float {network}" if len(groups) > 1 else "float"
        floats += [(name, spot, known[spot]) for spot in sorted(known)]
    if floats:
        clouds.append(
            Cloud(
                "float",
                [count for _, (count, _), _ in floats],
                [value for _, (_, value), _ in floats],
                [name for name, *_ in floats],
                [f"{name}: {said(one)}, {count:,} bytes" for name, (count, _), one in floats],
            )
        )
    steps = _stairs(networks) if len(groups) == 1 else ((), ())
    about = f"{BARS} Dashed: the best that so many bytes buy." if steps[0] else BARS
    title = headline(networks[0].result)
    return Points(
        against_size(title), about, SIZE, title, tuple(clouds), True, steps, "Pareto front"
    )


def _stairs(networks: Sequence[Network]) -> tuple[Sequence[float], Sequence[float]]:
    x, y = front([(m.result.bytes.packed, _merit(m)) for m in networks])
    higher = networks[0].result.quantized.headline.higher
    return x, y if higher else [-value for value in y]


def _cloud(name: str, networks: Sequence[Network]) -> Cloud:
    known = [one for one in networks if one.result.quantized.headline.value is not None]
    scores = [one.result.quantized.headline for one in known]
    return Cloud(
        name,
        [one.result.bytes.packed for one in known],
        [one.value or 0.0 for one in scores],
        [one.name for one in known],
        [
            f"{one.name}: {said(score)}, {one.result.bytes.packed:,} bytes"
            for one, score in zip(known, scores, strict=True)
        ],
        [one.error or 0.0 for one in scores],
        networks[0].result.quantized.headline.within,
    )


def _difference(after: Score | None, before: Score | None) -> str:
    """Points with two decimals, other units with four."""
    if after is None or before is None or not number(after):
        return ""
    return signed(after.above(before), 2 if after.unit == "%" else 4)


def _signals(networks: Sequence[Network]) -> Rows:
    names = tuple(row.name for row in networks[0].result.layers)
    marks = tuple(
        Dots(
            one.name,
            [row.sqnr_db for row in one.result.layers],
            [
                f"{one.name}, "
                f"{row.name}: " + ("exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB")
                for row in one.result.layers
            ],
        )
        for one in networks
    )
    about = (
        "Of each layer's output against the float network, on the calibration images. 6 dB "
        "more are one bit more."
    )
    return Rows("Signal-to-noise ratio by layer", about, "dB", names, marks)
