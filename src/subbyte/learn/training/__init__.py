"""Training: from images and targets to a checkpoint, or to a network whose weights lie on a low-bit
grid.
"""

from subbyte.learn.training.finish import PACKED, pack
from subbyte.learn.training.loop import train
from subbyte.learn.training.settings import TrainSettings

__all__ = ["PACKED", "TrainSettings", "pack", "train"]
