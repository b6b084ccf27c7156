"""The header of a packed file, checked once where it comes in: whoever reads a file behind this
door finds values of the right types that go together.
"""

from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo

from subbyte.engine.quantized import Findings
from subbyte.errors import FormatError
from subbyte.io.complaints import first_complaint
from subbyte.io.registry import ANYWHERE
from subbyte.io.texts import Plain
from subbyte.io.user_file import UserFiles
from subbyte.recipe import Plan
from subbyte.recipe.plan import Spec

_MOST_WEIGHTS = 2**40
"""Weights of a layer; no tensor of torch's is larger by far."""


def _plan(entry: Any, info: ValidationInfo) -> Plan:
    return Plan.from_dict(entry, info.context or ANYWHERE)


def _read_findings(entry: Any) -> Findings:
    found = _Findings.model_validate(entry)
    sqnr = {name: float("inf") if v is None else v for name, v in found.sqnr_db.items()}
    return Findings(sqnr, found.agreement, found.fold_error)


class _Findings(BaseModel):
    """sqnr_db: None where the quantized value is exact."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sqnr_db: dict[str, float | None]
    agreement: float | None
    fold_error: float


class Header(BaseModel):
    """The description of a packed file's tensors; see docs/format.md.

    grids: of layers, by name; inputs: as `Signature.from_dict` reads them; values: names of the
    tensors that can be quantized, in the order in which they are computed; about: where the network
    came from.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True
    )

    plan: Annotated[Plan, PlainValidator(_plan)]
    grids: dict[str, Spec]
    inputs: Plain
    values: list[str]
    findings: Annotated[Findings, PlainValidator(_read_findings)]
    about: Plain = Field(default_factory=dict)

    @classmethod
    def read(cls, entry: Plain, path: Path) -> "Header":
        """The header of the file at `path`; files of users that its plan names are not run.

        Raises FormatError, naming the place, for what is missing, unknown, of another type or does
        not go with the rest.
        """
        try:
            header = cls.model_validate(entry, context=UserFiles(path.parent, run=False))
        except ValidationError as error:
            place, why = first_complaint(error)
            where = ".".join(map(str, place))
            raise FormatError(f"{path}: {where}: {why}; {ADVICE}") from error
        if why := header._contradiction():
            raise FormatError(f"{path}: {why}; {ADVICE}")
        return header

    def _contradiction(self) -> str:
        """The first thing that does not go with the rest of the header; "" for none."""
        layers = [layer.name for layer in self.plan.layers]
        taps = [tap.name for tap in self.plan.taps]
        for kind, names in (("layers", layers), ("activations", taps), ("values", self.values)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                return f"{kind}: {twice[0]!r} is there twice"
        for layer in self.plan.layers:
            if prod(layer.shape) % layer.rows or prod(layer.shape) > _MOST_WEIGHTS:
                return f"plan.layers.{layer.name}: shape {layer.shape} in {layer.rows} rows"
        planned = {layer.name for layer in self.plan.layers if layer.spec is not None}
        unknown = sorted(self.grids.keys() - planned)
        return f"grids: the plan quantizes no layer {unknown[0]!r}" if unknown else ""


ADVICE = "the file is damaged or was altered; quantize the network again"
