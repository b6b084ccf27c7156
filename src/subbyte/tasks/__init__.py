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

__all__ = [
    "Accuracy",
    "ClassAccuracy",
    "Evaluation",
    "agreement",
    "check_labels",
    "class_accuracy",
    "evaluate",
]
