"""Statistics that the walk collects: second moments of layers' inputs, histograms of activations,
gradients and curvature.
"""

from subbyte.stats.curvature import Trace, gauss_newton, hessian_blocks, hutch_plus_plus, hutchinson
from subbyte.stats.gradients import GradientCollector, GradientStats, position_weights
from subbyte.stats.histogram import Histogram, channel_histograms, histogram
from subbyte.stats.moments import LayerStats, MomentCollector
from subbyte.stats.patches import column_order, patches

__all__ = [
    "GradientCollector",
    "GradientStats",
    "Histogram",
    "LayerStats",
    "MomentCollector",
    "Trace",
    "channel_histograms",
    "column_order",
    "gauss_newton",
    "hessian_blocks",
    "histogram",
    "hutch_plus_plus",
    "hutchinson",
    "patches",
    "position_weights",
]
