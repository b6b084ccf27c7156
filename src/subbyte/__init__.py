"""subbyte: quantize trained PyTorch networks below 8 bits with a few unlabelled images, and prove the result."""

from subbyte.data import draw_calibration, load_data
from subbyte.evaluate import evaluate
from subbyte.export.onnx import export_onnx
from subbyte.export.packed import load, save
from subbyte.export.parity import onnx_model
from subbyte.models import load_model
from subbyte.pipeline import quantize
from subbyte.plan import Plan
from subbyte.quantized import QuantizedModel
from subbyte.recipe import Recipe, load_recipe
from subbyte.walk import Limits

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
