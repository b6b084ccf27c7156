"""Data sets by name, calibration images, normalization."""

from subbyte.data.amount import Amount, Images, Percent
from subbyte.data.dataset import (
    DataSet,
    Indices,
    OnDemand,
    Split,
    Target,
    draw_apart,
    draw_calibration,
    draw_labels,
    draw_samples,
    draw_targets,
)
from subbyte.data.load import KINDS, DataKind, load_data
from subbyte.data.normalize import NORMALIZATIONS, Normalization, parse_normalization
from subbyte.data.preprocess import Interpolation

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "Amount",
    "DataKind",
    "DataSet",
    "Images",
    "Indices",
    "Interpolation",
    "Normalization",
    "OnDemand",
    "Percent",
    "Split",
    "Target",
    "draw_apart",
    "draw_calibration",
    "draw_labels",
    "draw_samples",
    "draw_targets",
    "load_data",
    "parse_normalization",
]
