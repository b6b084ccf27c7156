"""The quantized network in trainable form: latent weights behind their codes, learned scales and
ranges.
"""

from subbyte.engine.trainable.alive import Fitting, alive
from subbyte.engine.trainable.network import Trainable, freeze, trainable

__all__ = ["Fitting", "Trainable", "alive", "freeze", "trainable"]
