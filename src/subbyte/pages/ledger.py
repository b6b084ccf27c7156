"""The ledger of a quantized network: signal, bytes and ranges of its layers or activation tensors,
and a table of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subbyte.pages.figures import Bars, Dots, Rows, Spans
from subbyte.pages.parts import Part, Table
from subbyte.pages.wording import one_digit, said_bits
from subbyte.records import Distribution, LedgerEntry


@dataclass(frozen=True)
class Ledger:
    """Layers or activation tensors.

    what: they are called; subjects: of which a signal-to-noise ratio is measured; values: of what
    they hold; told: about their ranges; rows: in the order of the network; distributions: by name,
    none where they were not measured; stored: whether their bytes are worth a figure.
    """

    what: str
    subject: str
    values: str
    told: str
    rows: Sequence[LedgerEntry]
    distributions: Mapping[str, Distribution]
    stored: bool

    @classmethod
    def of_layers(
        cls, rows: Sequence[LedgerEntry], distributions: Mapping[str, Distribution]
    ) -> "Ledger":
        """The layers, with their weights."""
        told = (
            "Of all channels together; with a scale of its own, one of them may be clipped "
            "more than is seen here."
        )
        return cls("layers", "each output of a layer", "weights", told, rows, distributions, True)

    @classmethod
    def of_activations(
        cls, rows: Sequence[LedgerEntry], distributions: Mapping[str, Distribution]
    ) -> "Ledger":
        """The activation tensors, which are stored nowhere."""
        told = "Of the float network. A thin line that sticks out of its broad one is clipped."
        subject = "each activation tensor"
        return cls("activations", subject, "activations", told, rows, distributions, False)

    def parts(self) -> list[Part]:
        """Signal to noise, bytes, ranges, and the table of all."""
        parts: list[Part] = [self.signal()]
        if self.stored:
            parts.append(self._bytes())
        if any(row.name in self.distributions for row in self.rows):
            parts.append(self._ranges())
        parts.append(self._table())
        return parts

    def signal(self) -> Rows:
        """Signal-to-noise ratios in the order of the network."""
        notes = [
            f"{row.name}: "
            + ("exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB, {said_bits(row)}")
            for row in self.rows
        ]
        about = (
            f"Of {self.subject}, against the float network, on the calibration images. 6 dB more "
            "are one bit more. No dot: no difference, or not measured."
        )
        dots = Dots("signal-to-noise ratio", [row.sqnr_db for row in self.rows], notes)
        names = tuple(row.name for row in self.rows)
        return Rows(f"Signal-to-noise ratio of {self.what}", about, "dB", names, (dots,))

    def _bytes(self) -> Rows:
        notes = [f"{row.name}: {row.bytes:,} bytes, {said_bits(row)}" for row in self.rows]
        bars = Bars("bytes", [row.bytes for row in self.rows], notes)
        about = "Codes, scales and zero points; point at a bar for its bits."
        names = tuple(row.name for row in self.rows)
        return Rows("Bytes by layer", about, "bytes", names, (bars,))

    def _ranges(self) -> Rows:
        shown = {
            row.name: self.distributions[row.name]
            for row in self.rows
            if row.name in self.distributions
        }
        values = [one.values for one in shown.values()]
        reach = [one.reach or (None, None) for one in shown.values()]
        notes = [_said_range(name, one) for name, one in shown.items()]
        (low, high), (least, most) = zip(*reach, strict=True), zip(*values, strict=True)
        marks = (
            Spans("reach of the grid", low, notes, to=high),
            Spans("float values", least, notes, to=most, thin=True),
        )
        title = f"Ranges of {self.values}"
        return Rows(title, self.told, "value", tuple(shown), marks)

    def _table(self) -> Table:
        sparse = any(row.zeros is not None for row in self.rows)
        several = any(
            one.scales is not None and one.scales[0] < one.scales[4]
            for one in self.distributions.values()
        )
        header = ["name", "asked", "bits", "bytes", "SNR dB", *(["zeros %"] if sparse else [])]
        if self.distributions:
            scales = ["scale (median)", "scales from", "to"] if several else ["scale"]
            header += ["clipped %", *scales]
        places = (2, 0, 4) if several else (2,)
        cells = []
        for row in self.rows:
            sqnr = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
            line = [row.name, row.asked, row.bits, f"{row.bytes:,}", sqnr]
            line += [one_digit(row.zeros)] if sparse else []
            if self.distributions:
                line += _said_scales(self.distributions.get(row.name), places)
            cells.append((*line, row.notes))
        header.append("reason, and how exported files hold it")
        return Table(f"All {self.what}", tuple(header), tuple(cells))


def _said_range(name: str, one: Distribution) -> str:
    return (
        f"{name}: values {one.values[0]:.4g} to {one.values[1]:.4g}"
        + ("" if one.reach is None else f", grid {one.reach[0]:.4g} to {one.reach[1]:.4g}")
        + ("" if one.clipped_percent is None else f", {one.clipped_percent:.3g} % clipped")
    )


def _said_scales(one: Distribution | None, places: Sequence[int]) -> list[str]:
    """Cells of a table: the percentage that is clipped, and some quantiles of the scales."""
    if one is None:
        return [""] * (1 + len(places))
    clipped = "" if one.clipped_percent is None else f"{one.clipped_percent:.3g}"
    scales = ["" if one.scales is None else f"{one.scales[k]:.4g}" for k in places]
    return [clipped, *scales]
