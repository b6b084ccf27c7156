"""Tasks: how outputs are judged by targets, and by the float network's outputs."""

from subbyte.io.registry import Registry
from subbyte.methods import Task
from subbyte.tasks.classification import (
    LOSS,
    TOP1,
    TOP5,
    Classification,
    agreement,
    check_classes,
    places,
)
from subbyte.tasks.comparison import AGREEMENT, RELATIVE_ERROR, Comparison
from subbyte.tasks.embedding import Embedding
from subbyte.tasks.heads import Heads, choose, imitated, judged_apart, settle
from subbyte.tasks.outputs import class_rows, row_agreement
from subbyte.tasks.regression import Regression
from subbyte.tasks.segmentation import Segmentation

TASKS: Registry[Task] = Registry(
    "task",
    Task,
    {
        "classification": Classification,
        "segmentation": Segmentation,
        "regression": Regression,
        "embedding": Embedding,
        "comparison": Comparison,
    },
)


def read_tasks(text: str | None) -> tuple[Task, ...]:
    """Tasks as users name them: one for all outputs, or one for each by comma; none where nothing
    is given. Raises RecipeError for others.
    """
    return () if text is None else tuple(TASKS.build(name.strip()) for name in text.split(","))


def task_name(task: Task) -> str:
    """The name by which users call a task; of several outputs those of all, by comma."""
    if isinstance(task, Heads):
        return ", ".join(map(task_name, task.tasks))
    return TASKS.name(task)


__all__ = [
    "AGREEMENT",
    "LOSS",
    "RELATIVE_ERROR",
    "TASKS",
    "TOP1",
    "TOP5",
    "Classification",
    "Comparison",
    "Embedding",
    "Heads",
    "Regression",
    "Segmentation",
    "agreement",
    "check_classes",
    "choose",
    "class_rows",
    "imitated",
    "judged_apart",
    "places",
    "read_tasks",
    "row_agreement",
    "settle",
    "task_name",
]
