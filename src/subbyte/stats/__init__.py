"""Statistics that the walk collects: second moments of layers' inputs, histograms of activations,
gradients and curvature.
"""

from subbyte.stats.curvature import Trace, gauss_newton, hessian_blocks, hutch_plus_plus, hutchinson
from subbyte.stats.gradients import (
    GradientCollector,
    GradientStats,
    gradients_by_image,
    position_weights,
)
from subbyte.stats.histogram import Histogram, channel_histograms, histogram
from subbyte.stats.layer_stats import LayerStats, Powers, Products
from subbyte.stats.moments import Collector, MomentCollector, PowerCollector
from subbyte.stats.patches import in_matrix_order, patches
from subbyte.stats.shrinkage import shrunk

__all__ = [
    "Collector",
    "GradientCollector",
    "GradientStats",
    "Histogram",
    "LayerStats",
    "MomentCollector",
    "PowerCollector",
    "Powers",
    "Products",
    "Trace",
    "channel_histograms",
    "gauss_newton",
    "gradients_by_image",
    "hessian_blocks",
    "histogram",
    "hutch_plus_plus",
    "hutchinson",
    "in_matrix_order",
    "patches",
    "position_weights",
    "shrunk",
]
