"""subbyte: quantize trained PyTorch networks below 8 bits with a few unlabelled images, and prove
the result.

The public names are imported when they are asked for first, and no module has the name of one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subbyte.data import draw_calibration, load_data
    from subbyte.engine.evaluation import evaluate
    from subbyte.engine.limits import Limits
    from subbyte.engine.quantization import quantize, tune
    from subbyte.engine.quantized import QuantizedModel
    from subbyte.engine.trainable import Trainable, freeze, trainable
    from subbyte.engine.trials import best
    from subbyte.exporters import export, runner
    from subbyte.exporters.hub import from_pretrained, push_to_hub, save_pretrained
    from subbyte.exporters.packed import load, save
    from subbyte.exporters.torch_program import plain
    from subbyte.graph import Inputs
    from subbyte.io.processes import processes
    from subbyte.jobs.reporting import report
    from subbyte.models import load_model
    from subbyte.pages.write import compare
    from subbyte.recipe import Plan, Recipe, load_recipe
    from subbyte.records import About, Preprocessing
    from subbyte.speed.bench import bench

__version__ = "0.1.0"

__all__ = [
    "About",
    "Inputs",
    "Limits",
    "Plan",
    "Preprocessing",
    "QuantizedModel",
    "Recipe",
    "Trainable",
    "__version__",
    "bench",
    "best",
    "compare",
    "draw_calibration",
    "evaluate",
    "export",
    "freeze",
    "from_pretrained",
    "load",
    "load_data",
    "load_model",
    "load_recipe",
    "plain",
    "processes",
    "push_to_hub",
    "quantize",
    "report",
    "runner",
    "save",
    "save_pretrained",
    "trainable",
    "tune",
]

_HOMES = {
    "About": "subbyte.records",
    "Inputs": "subbyte.graph",
    "Limits": "subbyte.engine.limits",
    "Plan": "subbyte.recipe",
    "Preprocessing": "subbyte.records",
    "QuantizedModel": "subbyte.engine.quantized",
    "Recipe": "subbyte.recipe",
    "Trainable": "subbyte.engine.trainable",
    "bench": "subbyte.speed.bench",
    "best": "subbyte.engine.trials",
    "compare": "subbyte.pages.write",
    "draw_calibration": "subbyte.data",
    "evaluate": "subbyte.engine.evaluation",
    "export": "subbyte.exporters",
    "freeze": "subbyte.engine.trainable",
    "from_pretrained": "subbyte.exporters.hub",
    "load": "subbyte.exporters.packed",
    "load_data": "subbyte.data",
    "load_model": "subbyte.models",
    "load_recipe": "subbyte.recipe",
    "plain": "subbyte.exporters.torch_program",
    "processes": "subbyte.io.processes",
    "push_to_hub": "subbyte.exporters.hub",
    "quantize": "subbyte.engine.quantization",
    "report": "subbyte.jobs.reporting",
    "runner": "subbyte.exporters",
    "save": "subbyte.exporters.packed",
    "save_pretrained": "subbyte.exporters.hub",
    "trainable": "subbyte.engine.trainable",
    "tune": "subbyte.engine.quantization",
}
"""The module that each public name comes from, as above."""


def __getattr__(name: str) -> Any:
    """A public name, imported now and kept. Raises AttributeError for any other."""
    if name not in _HOMES:
        raise AttributeError(f"module 'subbyte' has no attribute {name!r}")
    import_module("subbyte.io.repeatable").fix_order()
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not, beside what is there."""
    return sorted({*globals(), *_HOMES})
