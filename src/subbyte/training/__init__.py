"""Training: from labelled images to a checkpoint, or to a network whose weights lie on a low-bit grid."""

from subbyte.training.finish import PACKED, pack
from subbyte.training.loop import train
from subbyte.training.settings import TrainSettings

__all__ = ["PACKED", "TrainSettings", "pack", "train"]
