"""The bytes that a file has to hold: those of the numbers alone, in the types that it has for
them.
"""

from subbyte.engine.quantized import QuantizedModel
from subbyte.exporters.arrays import folded
from subbyte.exporters.storage import BYTES, Container
from subbyte.graph import Layer


def held_bytes(model: QuantizedModel, container: Container) -> int:
    """Bytes of codes in a container's types, scales, zero points, biases, the scales of integer
    biases, and what stays float.
    """
    layers = sum(_of_layer(model, container, layer) for layer in model.owners)
    rows = [row.bytes for row in model.ledger if row.kind == "activation"]
    rest = sum(t.numel() * t.element_size() for t in model.leftovers.values())
    return layers + sum(rows) + rest


def _of_layer(model: QuantizedModel, container: Container, layer: Layer) -> int:
    if layer.name not in model.weights:
        return 0  # among the leftovers
    weight = model.weights[layer.name]
    kind = container.storage(weight.grid.spec.alphabet)
    if kind is None:
        return 4 * weight.codes.numel()
    added = kind in BYTES and model.bias_scale(layer) is not None
    scales = 4 * layer.geometry.rows if added else 0
    numbers = {n: t.numel() * t.element_size() for n, t in weight.grid.stored.items()}
    zero = folded(weight, kind)[1]
    numbers["zero_point"] = -(-zero.size * kind.bits // 8) if zero.any() else 0
    return -(-weight.codes.numel() * kind.bits // 8) + sum(numbers.values()) + scales
