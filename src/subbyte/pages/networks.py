"""Several quantized networks side by side: a table, accuracy against size, and where each loses its
signal.
"""

from collections.abc import Sequence
from pathlib import Path

from subbyte.pages.figures import Cloud, Dots, Points, Rows, front
from subbyte.pages.network import SIZE, TOP1, Network, sections
from subbyte.pages.parts import Part, Section, Story, Table, Text
from subbyte.pages.subject import Subject, View
from subbyte.pages.wording import (
    bits_of,
    chance,
    points,
    signed,
    size,
    standard_error,
    summary,
    two_digits,
    weakest,
)
from subbyte.records import RESULT

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
            told = (*_lead(network), weakest(network.result.layers, "layers"))
            title = f"{network.result.model}, {network.result.recipe}"
            return Story(tuple(filter(None, told)), tuple(sections(network)), title)
        whole = (Section("Comparison", tuple(_comparison(found))), *_each(found))
        return Story(_words(found), whole, f"{len(found)} quantized networks")


def _lead(network: Network) -> tuple[str, str]:
    return summary(network.result), chance(network.result, network.evidence)


def _words(networks: Sequence[Network]) -> tuple[str, ...]:
    best = max(networks, key=lambda one: (one.result.quantized.top1, -one.result.bytes.packed))
    least = min(networks, key=lambda one: (one.result.bytes.packed, -one.result.quantized.top1))
    told = []
    ends = [(best, "most accurate"), (least, "smallest")]
    if best is least:
        ends = [(best, "most accurate and the smallest")]
    for network, what in ends:
        one = network.result
        told.append(
            f"The {what} is {network.name}: {bits_of(one)}, {one.quantized.top1:.2f} % top-1 "
            f"({points(-one.lost)}) in {size(one.bytes.packed)} instead of {size(one.bytes.float)}."
        )
    data = {(one.result.model, one.result.data, one.result.images) for one in networks}
    if len(data) > 1:
        told.append(
            "They are not all of one network and one set of images, so accuracies compare only "
            "within each."
        )
    return tuple(told)


def _each(networks: Sequence[Network]) -> list[Section]:
    return [
        Section(one.name, (*map(Text, _lead(one)), *sections(one)), folded=True) for one in networks
    ]


def _comparison(networks: Sequence[Network]) -> list[Part]:
    parts: list[Part] = [_table(networks), pareto(networks)]
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
        "float top-1 %": [f"{one.float.top1:.2f}" for one in results],
        "quantized top-1 %": [f"{one.quantized.top1:.2f}" for one in results],
        "difference": [signed(-one.lost) for one in results],
        "agrees with float %": [two_digits(one.quantized.agreement) for one in results],
    }
    for name in exporters:
        files = [{file.name: file for file in one.exports}.get(name) for one in results]
        columns[f"{name} bytes"] = ["" if one is None else f"{one.bytes:,}" for one in files]
        agreements = [None if one is None else one.agreement for one in files]
        columns[f"{name} agrees %"] = list(map(two_digits, agreements))
    columns["walk, s"] = [f"{one.seconds.get('walk', 0):.1f}" for one in results]
    return Table("Networks", tuple(columns), tuple(zip(*columns.values(), strict=True)))


def pareto(networks: Sequence[Network]) -> Points:
    """Accuracy against packed bytes, a colour for each network and data; stairs along the best of
    each size.
    """
    groups: dict[tuple[str, str], list[Network]] = {}
    for one in networks:
        groups.setdefault((one.result.model, one.result.data), []).append(one)
    clouds, floats = [], []
    for (network, data), mine in groups.items():
        clouds.append(_cloud(f"{network} on {data}" if len(groups) > 1 else "quantized", mine))
        known = sorted({(one.result.bytes.float, one.result.float.top1) for one in mine})
        floats += [(f"float {network}" if len(groups) > 1 else "float", *spot) for spot in known]
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
        front([(m.result.bytes.packed, m.result.quantized.top1) for m in networks])
        if len(groups) == 1
        else ((), ())
    )
    about = "Bars reach one standard error up and down."
    if steps[0]:
        about = f"{about} Dashed: the best accuracy that so many bytes buy."
    return Points(
        "Accuracy against size",
        about,
        SIZE,
        TOP1,
        tuple(clouds),
        True,
        steps,
        "Pareto front",
    )


def _cloud(name: str, networks: Sequence[Network]) -> Cloud:
    results = [one.result for one in networks]
    return Cloud(
        name,
        [one.bytes.packed for one in results],
        [one.quantized.top1 for one in results],
        [one.name for one in networks],
        [
            f"{one.name}: {one.result.quantized.top1:.2f} %, {one.result.bytes.packed:,} bytes"
            for one in networks
        ],
        [standard_error(one.quantized.top1, one.images) for one in results],
    )


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
