"""The speed of exported files: times in turns, memory, sizes, and what the runtime made of them."""

from subbyte.speed.bench import bench
from subbyte.speed.quick import time_export

__all__ = ["bench", "time_export"]
