"""The certificate of an exported file: its outputs beside those of the torch model."""

from subbyte.records.base import Count, Percent, Record

FLOAT32, EIGHT_BITS = 2.0**-20, 2.0**-6
"""The relative rounding of numbers that is taken for a runtime's: in sums of float32, and where it
rounds inputs of layers to 8 bits.
"""


class OutputParity(Record):
    """One output of an exported file beside the same output of the torch model.

    name: of the output; scale: the unit of its distances, the median size of its values that are
    not 0; 1 for integers, whose distance is the share of values that differ. largest: difference of
    a value; steps: the same in steps of the quantizer that the output comes from, None where it
    comes from none; mean: distance of a row; noise: the same between the torch model and itself
    with its numbers moved. rows: compared; ties: those that differ as values on the border of two
    codes make them; ratio: the largest distance by its bound, at most 1. classes: percent of equal
    classes, None where the output names none.
    """

    name: str
    scale: float
    largest: float
    steps: float | None = None
    mean: float
    noise: float
    rows: Count
    ties: Count
    ratio: float
    classes: Percent | None = None

    @property
    def summary(self) -> str:
        """The distances in one line, in units of the output's scale."""
        steps = "" if self.steps is None else f" ({self.steps:.3g} steps of its quantizer)"
        told = [
            f"{self.name} differs by {self.mean:.2g} on average (by rounding alone up to "
            f"{self.noise:.2g}), by {self.largest:.2g} at most{steps}"
        ]
        if self.ties:
            told.append(f"{self.ties:,} of {self.rows:,} rows are near ties")
        if self.classes is not None:
            told.append(f"classes agree on {self.classes:.2f} %")
        return ", ".join(told)


class Parity(Record):
    """The certificate of a file, outputs in order.

    samples: how many were compared; rounding: the relative rounding of numbers that explains the
    distances, FLOAT32 or EIGHT_BITS; saturating: layers whose sums may leave int16 in kernels of
    x86 processors without integer dot products, where the certificate does not hold.
    """

    samples: Count
    rounding: float
    outputs: tuple[OutputParity, ...]
    saturating: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The largest distance by its bound, at most 1."""
        return max(output.ratio for output in self.outputs)

    @property
    def classes(self) -> float | None:
        """Percent of equal classes, of the output where they are fewest; None where no output names
        classes.
        """
        named = [one.classes for one in self.outputs if one.classes is not None]
        return min(named, default=None)

    @property
    def summary(self) -> str:
        """The certificate in one line."""
        told = [output.summary for output in self.outputs]
        if self.rounding > FLOAT32:
            told.append("the runtime rounds inputs of some layers to 8 bits")
        if self.saturating:
            told.append(
                f"holds on processors with integer dot products (VNNI, ARM): on older x86 sums of "
                f"{len(self.saturating)} layers may saturate; exact there are files of 7-bit "
                f"weights (--target ort-x86-avx2) or --optimize exact, and this one where ONNX "
                f"Runtime's session sets session.x64quantprecision"
            )
        return "; ".join(told)
