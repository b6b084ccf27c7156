"""A network as it begins to be trained with low-bit weights: each layer's weight on the grid with
the least square error, activation ranges by a walk on some of the training images.
"""

import logging
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from subbyte.core import Grid, GridSpec
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import carry_out
from subbyte.engine.stages import Report, Stages, silent
from subbyte.engine.trainable import Trainable, alive
from subbyte.errors import RecipeError
from subbyte.graph import Network, Samples, prepare
from subbyte.learn.optimizers.grid import starting_scale
from subbyte.methods import Estimator, WeightQuantizer
from subbyte.recipe import Plan, Recipe

log = logging.getLogger("subbyte")

_FEW = 32  # samples of a walk that chooses no activation range


def recipe_of(qat: WeightQuantizer, exempt: tuple[str, ...]) -> Recipe:
    """The recipe of what a network is quantized to. exempt: patterns of layers that stay float."""
    weights = {"bits": qat.bits, "rounding": "nearest", "correction": "none"}
    layers = {pattern: {"skip": True} for pattern in exempt}
    asked = {"weights": weights, "activations": {"bits": qat.activation_bits}, "layers": layers}
    recipe: Recipe = Recipe.model_validate({"name": "qat", **asked})
    return recipe


def begun(
    model: nn.Module,
    samples: Samples,
    qat: WeightQuantizer,
    exempt: tuple[str, ...],
    estimator: Estimator,
    limits: Limits,
    report: Report = silent,
) -> tuple[Trainable, Network]:
    """The network in trainable form, and the float one as captured; `model` stays as it is.

    samples: of which activation ranges are chosen. Raises RecipeError for a pattern that matches
    nothing, and where no layer is left; CaptureError and ModelError as `graph.prepare` does.
    """
    if any(isinstance(module, _DropoutNd) and module.p for module in model.modules()):
        log.warning("qat: dropout does nothing in a network that learns on grids")
    network = prepare(model, samples[:2])
    if qat.activation_bits is None:
        samples = samples[:_FEW]
    quantized = carry_out(
        lambda: network,
        recipe_of(qat, exempt),
        samples,
        accept=_check_some,
        limits=limits,
        stages=Stages(report),
    ).model
    trained = alive(quantized, network, model, partial(fitted, qat.widening), estimator)
    for kind in qat.kept:
        for parameter in trained.kinds[kind]:
            parameter.requires_grad_(False)
    return trained, network


def _check_some(plan: Plan) -> None:
    if all(layer.spec is None for layer in plan.layers):
        raise RecipeError("there is no layer to put on a grid: all are exempt")


def fitted(widening: float, weight: Tensor, spec: GridSpec) -> Grid:
    """The grid with the scale that fits best, times a factor."""
    scale = starting_scale(weight, spec) * widening
    return Grid.of(spec, spec.share.shaped(scale, len(weight)))
