"""What the walk collects: second moments of layers, histograms of taps."""

from subbyte.stats.histogram import Histogram, histogram
from subbyte.stats.moments import LayerStats, MomentCollector
from subbyte.stats.patches import column_order, output_positions, patches

__all__ = ["Histogram", "LayerStats", "MomentCollector", "column_order", "histogram", "output_positions", "patches"]
