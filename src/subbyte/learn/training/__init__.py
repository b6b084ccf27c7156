"""Training: from images and targets to a checkpoint, or to a network whose weights lie on a low-bit
grid.
"""

from subbyte.learn.training.loop import train
from subbyte.learn.training.settings import TrainSettings
from subbyte.learn.training.subject import PACKED, Own, Quantized, Rounded, Subject

__all__ = ["PACKED", "Own", "Quantized", "Rounded", "Subject", "TrainSettings", "train"]
