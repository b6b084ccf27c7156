"""Multiplications are those that PyTorch counts, and where they are not it is said why."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from subbyte import Inputs
from subbyte.graph import prepare, unwrapped
from subbyte.models import MODELS
from tests import networks
from tests.graph.blocks import BLOCKS
from tests.reference.kinds import KINDS
from tests.reference.multiplications import multiplications

SAMPLES = 2
Case = tuple[nn.Module, Inputs]


def example() -> ModuleType:
    """The networks of examples/shapes.py."""
    path = Path(__file__).parents[2] / "examples" / "shapes.py"
    spec = importlib.util.spec_from_file_location("shapes", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built_in(name: str) -> Case:
    entry = MODELS[name]
    return entry.build(), Inputs(torch.randn(SAMPLES, *entry.input_shape))


def of_example(name: str) -> Case:
    return getattr(example(), name)(), Inputs(torch.randn(SAMPLES, 3, 32, 32))


def small(name: str) -> Case:
    return networks.build(name), Inputs(networks.images(name, SAMPLES))


def kind(name: str) -> Case:
    return unwrapped(KINDS[name].network()), KINDS[name].call(SAMPLES)


def block(name: str) -> Case:
    factory, shape, _, _ = BLOCKS[name]
    return factory(), Inputs(torch.randn(SAMPLES, *shape))


NETWORKS: dict[str, Callable[[], Case]] = {
    **{
        name: partial(built_in, name)
        for name in ("lenet", "cnn", "resnet20", "mobilenet_v2-cifar", "vgg11_bn-cifar", "resnet18")
    },
    **{name: partial(of_example, name) for name in ("unet", "two_heads")},
    **{name: partial(small, name) for name in ("residual", "mobile", "decoder", "tokens", "waves")},
    **{
        name: partial(kind, name)
        for name in (
            "class token and positions",
            "fused, causal",
            "grouped queries",
            "einsum",
            "encoder layer",
            "decoder layer",
            "tied embedding",
            "cells",
            "lstm",
            "gru",
            "product with a vector",
            "position network",
            "low-rank adapter",
        )
    },
    **{name: partial(block, name) for name in ("levit", "mixnet", "repvgg", "mobileone")},
}
MORE: dict[str, dict[str, int]] = {
    "product with a vector": {"PyTorch does not know aten.mv: 5 tokens of 8": 5 * 8},
    "position network": {
        "a table that depends on no input is computed once": -5 * (2 * 10 + 10 * 8) // SAMPLES
    },
    "low-rank adapter": {"a weight is computed once": -(5 * 2 * 8) // SAMPLES},
    "repvgg": {"the kernel of one place goes into that of nine": -7 * 6 * 4 * 4},
    "mobileone": {"the kernels of 9, 1 and 9 places go into that of 25": -7 * 6 * 6 * (9 + 1 + 9)},
}
"""Multiplications of a sample that are more than PyTorch's, by reason; of other networks none."""
SLOW = set(MODELS) | {"unet", "two_heads", "residual", "cells", "encoder layer", "decoder layer"}
SLOW |= {"grouped queries", "levit", "mixnet", "mobile", "gru", "tied embedding"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else []) for n in NETWORKS]
)
def test_multiplications_are_pytorchs(name):
    model, inputs = NETWORKS[name]()
    network = prepare(model.eval(), inputs)
    ours = sum(network.multiplications.values())
    assert ours - sum(MORE.get(name, {}).values()) == multiplications(model, inputs) / SAMPLES


def test_there_are_twenty_and_most_need_no_reason():
    assert len(NETWORKS) - len(MORE) >= 20 and set(MORE) <= set(NETWORKS)
