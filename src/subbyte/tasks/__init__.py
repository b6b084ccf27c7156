"""Measures of right outputs: accuracy, and agreement with the float network."""

from subbyte.tasks.classification import (
    Accuracy,
    ClassAccuracy,
    Evaluation,
    agreement,
    check_labels,
    class_accuracy,
    evaluate,
)
from subbyte.tasks.outputs import class_rows, row_agreement

__all__ = [
    "Accuracy",
    "ClassAccuracy",
    "Evaluation",
    "agreement",
    "check_labels",
    "class_accuracy",
    "class_rows",
    "evaluate",
    "row_agreement",
]
