"""The contracts of every kind of method, in one room: `quantizing`, `tuning`, `training`,
`judging`, `running`.

A method is a frozen dataclass of hyper-parameters, derived from the class of its kind, with one
pure verb on tensors. To add one, write one file in its package and one line in that package's
registry; or keep the class in a file of your own and name it `path/file.py:Class` in a recipe.
Recipes, `--help`, the documentation and the conformance suites (`subbyte.testing`) read the
registries. Nothing is stored on a method, arguments are never changed, and there is no hidden
randomness.

What a method needs or can't do is declared by class attributes that its kind lists with their
defaults; a public name that the kind does not list is an error when the class is defined.

Exporters and engines of sweeps are added in the same way, but touch files and processes. So are
figures of reports, whose contract needs what pages are made of: `pages.figure.Figure`, one file in
`pages/figures/`; and kinds of folders that reports are about: `pages.subject.Subject`.
"""

from subbyte.methods.judging import Measure, Outputs, Tally, Targets, Task
from subbyte.methods.quantizing import (
    Allocate,
    Correction,
    FitGrid,
    Forward,
    Loss,
    Method,
    Objective,
    Precondition,
    Range,
    Rounding,
)
from subbyte.methods.refusal import Refusal
from subbyte.methods.running import (
    Contents,
    Engine,
    Exported,
    Exporter,
    Form,
    InputType,
    Optimize,
    Runner,
    Seal,
    Stored,
)
from subbyte.methods.training import (
    ADAM_RATE,
    SGD_RATE,
    Augmentation,
    LrSchedule,
    Optimizer,
    ResolutionSchedule,
    Telemetry,
    Trained,
    UpdateRounding,
    Updates,
    WeightQuantizer,
)
from subbyte.methods.tuning import (
    Course,
    Estimator,
    Learned,
    Tune,
    TuneLayers,
    TuneNetwork,
    counted,
)

__all__ = [
    "ADAM_RATE",
    "SGD_RATE",
    "Allocate",
    "Augmentation",
    "Contents",
    "Correction",
    "Course",
    "Engine",
    "Estimator",
    "Exported",
    "Exporter",
    "FitGrid",
    "Form",
    "Forward",
    "InputType",
    "Learned",
    "Loss",
    "LrSchedule",
    "Measure",
    "Method",
    "Objective",
    "Optimize",
    "Optimizer",
    "Outputs",
    "Precondition",
    "Range",
    "Refusal",
    "ResolutionSchedule",
    "Rounding",
    "Runner",
    "Seal",
    "Stored",
    "Tally",
    "Targets",
    "Task",
    "Telemetry",
    "Trained",
    "Tune",
    "TuneLayers",
    "TuneNetwork",
    "UpdateRounding",
    "Updates",
    "WeightQuantizer",
    "counted",
]
