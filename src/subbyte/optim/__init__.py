"""Optimizers by name."""

from subbyte.optim.plain import SGD, Adam, AdamW

OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
