"""The schema of every file of results: what commands write, pages read; nobody else reads those
files another way.
"""

from subbyte.records.about import About, Colours, Preprocessing
from subbyte.records.base import Document, Record, read_document, write_document
from subbyte.records.card import CARD, HEAD, model_card
from subbyte.records.certificate import Certificate
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
    Effect,
    Exported,
    LedgerEntry,
    Option,
    Result,
    Sizes,
    Skipped,
    Target,
    read_plan,
    read_result,
)
from subbyte.records.scores import Measured, Score
from subbyte.records.speed import (
    BENCH,
    Bench,
    Cost,
    FileSpeed,
    Finding,
    Kernels,
    NodeTime,
    Ratio,
    Resident,
    Timing,
    read_bench,
)
from subbyte.records.trials import Trial, Trials
from subbyte.records.tuning import Judged, Tuning

__all__ = [
    "BENCH",
    "CARD",
    "FIGURES",
    "HEAD",
    "PLAN",
    "RESULT",
    "About",
    "Bench",
    "Cell",
    "Certificate",
    "Changed",
    "Colours",
    "Cost",
    "Distribution",
    "Document",
    "Effect",
    "Evidence",
    "Exported",
    "FileSpeed",
    "Finding",
    "Judged",
    "Kernels",
    "LedgerEntry",
    "Measured",
    "NodeTime",
    "Option",
    "OutputParity",
    "Parity",
    "Predictions",
    "Preprocessing",
    "Ratio",
    "Record",
    "Resident",
    "Result",
    "Score",
    "Sizes",
    "Skipped",
    "Target",
    "Timing",
    "Trial",
    "Trials",
    "Tuning",
    "model_card",
    "read_bench",
    "read_document",
    "read_evidence",
    "read_plan",
    "read_result",
    "write_document",
]
