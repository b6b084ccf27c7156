"""subbyte: quantize trained PyTorch networks below 8 bits with a few unlabelled images, and prove
the result.
"""

from subbyte.data import draw_calibration, load_data
from subbyte.engine.quantization import quantize
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.walk import Limits
from subbyte.exporters.onnx import export_onnx
from subbyte.exporters.packed import load, save
from subbyte.exporters.parity import onnx_model
from subbyte.models import load_model
from subbyte.recipe import Plan, Recipe, load_recipe
from subbyte.tasks import evaluate

__version__ = "0.1.0"

__all__ = [
    "Limits",
    "Plan",
    "QuantizedModel",
    "Recipe",
    "__version__",
    "draw_calibration",
    "evaluate",
    "export_onnx",
    "load",
    "load_data",
    "load_model",
    "load_recipe",
    "onnx_model",
    "quantize",
    "save",
]
