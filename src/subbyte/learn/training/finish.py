"""Turn a network that was trained on grids into packed codes that say the same."""

from pathlib import Path

from torch import Tensor, nn

from subbyte.data import Split
from subbyte.engine.judging import forward_of
from subbyte.engine.quantization import quantize
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import NumericsError
from subbyte.exporters.packed import save
from subbyte.graph import Samples
from subbyte.learn.qat import layers_of, remove_quantizers
from subbyte.recipe import Recipe

_IMAGES = 32  # to compare on; nothing is measured off them
_CLOSE = 1e-3  # of an output's largest number: what folding batch-norms in float32 may move


def pack(
    model: nn.Module, split: Split, bits: int, exempt: tuple[str, ...], path: Path
) -> QuantizedModel:
    """Find every layer's grid again, pack the codes, and write them to `path`.

    model: trained on grids of `bits`, but for the layers that patterns of `exempt` match, whose
    weights stay float; if it still has quantizers, they are taken off, and the rounded weights
    stay.
    split: images to compare the outputs of both on.
    Raises RecipeError when a weight lies on no such grid, NumericsError when the outputs differ, or
    are too large.
    """
    model = model.eval().to("cpu")
    remove_quantizers(model, rounded=True)
    weights = {
        "bits": bits,
        "symmetric": False,
        "range": "exact",
        "rounding": "nearest",
        "correction": "none",
    }
    kept = [name for name in layers_of(model) if name not in layers_of(model, exempt)]
    recipe = Recipe.model_validate(
        {"weights": weights, "layers": {name: {"skip": True} for name in kept}}
    )
    images = split.images(range(min(_IMAGES, len(split))))
    try:
        quantized = quantize(model, images, recipe)
    # the images were fine in training, and weights on a grid do not grow; biases do
    except NumericsError as reason:
        raise NumericsError(
            f"training diverged: {reason}; or lower --lr, or add --warmup"
        ) from reason
    samples = Samples.of(images)
    expected, found = (forward_of(network)(samples) for network in (model, quantized))
    for own, packed in zip(expected, found, strict=True):
        _check_alike(own, packed)
    save(quantized, path)
    return quantized


def _check_alike(expected: Tensor, found: Tensor) -> None:
    error, reach = float((expected - found).abs().max()), float(expected.abs().max())
    if error > _CLOSE * reach:
        raise NumericsError(
            f"the packed network's outputs differ by {error:.3g} from those of the trained one, "
            f"which reach {reach:.3g}"
        )
