"""auto-round, as far as it takes convolutions."""

from auto_round.utils import SUPPORTED_LAYER_TYPES
from torch import nn

from benchmarks.peers.contract import CannotError, Job, Made

NOTE = '`AutoRound(model, tokenizer, scheme="W4A16")`: language models alone'


def quantize(job: Job) -> Made:
    """Nothing, unless it knows the network's layers."""
    kinds = {type(one) for one in job.model.modules() if isinstance(one, nn.Conv2d | nn.Linear)}
    unknown = sorted(kind.__name__ for kind in kinds if not issubclass(kind, SUPPORTED_LAYER_TYPES))
    if unknown:
        known = ", ".join(sorted(kind.__name__ for kind in SUPPORTED_LAYER_TYPES))
        raise CannotError(f"takes {known}, not {', '.join(unknown)}")
    raise CannotError("calibrates on the tokens of a language model, through its tokenizer")
