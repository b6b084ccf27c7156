"""The quantized network in trainable form: latent weights behind their codes, learned scales and
ranges.
"""

from subbyte.engine.trainable.network import Trainable, freeze, trainable

__all__ = ["Trainable", "freeze", "trainable"]
