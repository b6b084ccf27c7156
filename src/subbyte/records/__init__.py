"""The schema of every file of results: what commands write, pages read; nobody else reads those
files another way.
"""

from subbyte.records.base import Document, Record, read_document, write_document
from subbyte.records.figures import (
    FIGURES,
    Cell,
    Changed,
    Distribution,
    Evidence,
    Predictions,
    read_evidence,
)
from subbyte.records.parity import OutputParity, Parity
from subbyte.records.result import (
    PLAN,
    RESULT,
    Exported,
    LedgerEntry,
    Measured,
    Option,
    Result,
    Score,
    Sizes,
    Skipped,
    Target,
    read_plan,
    read_result,
)

__all__ = [
    "FIGURES",
    "PLAN",
    "RESULT",
    "Cell",
    "Changed",
    "Distribution",
    "Document",
    "Evidence",
    "Exported",
    "LedgerEntry",
    "Measured",
    "Option",
    "OutputParity",
    "Parity",
    "Predictions",
    "Record",
    "Result",
    "Score",
    "Sizes",
    "Skipped",
    "Target",
    "read_document",
    "read_evidence",
    "read_plan",
    "read_result",
    "write_document",
]
