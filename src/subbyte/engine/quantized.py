"""The quantized network: integer codes, grids and float leftovers, running as a torch module."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from subbyte.core import Grid, QTensor
from subbyte.engine.biases import bias_step, fits, on_grid, words
from subbyte.graph import (
    Instrumented,
    Layer,
    Layered,
    Network,
    Product,
    Samples,
    Skipped,
    Structure,
    instrument,
    moved,
    set_tensor,
    tensor_at,
    tensors_read,
)
from subbyte.recipe import LayerPlan, Plan, TapPlan

_OPERANDS = 2  # of a product


@dataclass(frozen=True)
class LedgerRow:
    """The outcome for one layer's weight (kind 'layer'), one product of two values ('product'), one
    activation tensor ('activation'), or a parameter that is no layer's ('rest').

    asked, bits: 'float', 'ternary' or a number, of products that of each operand; reason: why they
    differ or what else to know; bytes: stored bytes of codes, scales and zero points, or of the
    float tensor; sqnr_db: of the output or the value against the float network on the calibration
    images, None where it was not measured or there is no difference; zeros: percent of a layer's
    weights that are exactly 0; multiplications: for one sample; integer: whether both factors of
    them are on grids.
    """

    name: str
    kind: Literal["layer", "product", "activation", "rest"]
    asked: str
    bits: str
    reason: str
    bytes: int
    sqnr_db: float | None
    zeros: float | None = None
    multiplications: int = 0
    integer: bool = False


@dataclass(frozen=True)
class Findings:
    """Measurements of the walk: sqnr_db by name of layer and activation quantizer; agreement of
    float and quantized top-1 on the calibration images, percent; fold_error: see `graph.Network`.
    """

    sqnr_db: dict[str, float] = field(default_factory=dict)
    agreement: float | None = None
    fold_error: float = 0.0


class QuantizedModel(Layered, nn.Module):
    """A network whose weights are codes on grids and whose activations are rounded by their
    quantizers, as `quantize` and `load` return it.

    Calling it as the original network computes with the arithmetic of the exported file, in
    float32.
    """

    def __init__(
        self,
        structure: Structure,
        instrumented: Instrumented,
        plan: Plan,
        weights: dict[str, QTensor],
        biases: dict[str, Tensor],
        grids: dict[str, Grid],
        findings: Findings | None = None,
    ) -> None:
        """instrumented: a graph of the network's with the plan's activation quantizers, which
        becomes this one's own.
        """
        super().__init__()
        self.structure, self.plan, self.findings = structure, plan, findings or Findings()
        self.weights = {
            name: QTensor(q.codes.cpu(), q.grid.to("cpu")) for name, q in weights.items()
        }
        self.layers: tuple[Layer, ...] = structure.layers
        self.values = tuple(point.name for point in structure.taps)
        self.products: tuple[Product, ...] = structure.products
        self.skipped, self.signature, self.float_bytes = (
            structure.skipped,
            structure.signature,
            structure.float_bytes,
        )
        self.multiplications, self.output_names = structure.multiplications, structure.output_names
        self.instrumented: Instrumented = instrumented
        self.graph_module = self.instrumented.graph_module
        self.notes: dict[str, str] = {}
        self.floating: set[str] = set()
        for tap in plan.taps:
            if tap.dynamic:
                self.instrumented.tap(tap.name).set_dynamic(tap.spec, tap.fit)
            else:
                self.instrumented.tap(tap.name).set_grid(grids[tap.name].to("cpu"))
        for layer in self.layers:
            if layer.name in weights:
                matrix = self.weights[layer.name].dequantize()
                set_tensor(self.graph_module, layer.weight, layer.geometry.to_weight(matrix))
                set_tensor(
                    self.graph_module,
                    layer.bias,
                    self._bias(layer, biases[layer.name].detach().cpu()),
                )
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def of(
        cls,
        network: Network,
        plan: Plan,
        weights: dict[str, QTensor],
        biases: dict[str, Tensor],
        grids: dict[str, Grid],
        findings: Findings | None = None,
    ) -> "QuantizedModel":
        """A network with a plan and the numbers that it led to; `network` stays as it is."""
        instrumented = instrument(network, [tap.place for tap in plan.taps])
        return cls(network.structure, instrumented, plan, weights, biases, grids, findings)

    def with_numbers(
        self,
        weights: dict[str, QTensor],
        biases: dict[str, Tensor],
        grids: dict[str, Grid],
        floats: Mapping[str, Tensor],
        findings: Findings | None = None,
    ) -> "QuantizedModel":
        """The same network with other numbers; floats: of tensors that stay float, by dotted
        name.
        """
        instrumented = self.instrumented.copied()
        for name, value in floats.items():
            set_tensor(instrumented.graph_module, name, value)
        return QuantizedModel(
            self.structure, instrumented, self.plan, weights, biases, grids, findings
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's output for arguments as the original takes them, whatever the number of
        samples. Raises DataError for others.
        """
        args, kwargs = self.signature.checked(args, kwargs)
        return self.graph_module(*args, **kwargs)

    def outputs(self, samples: Samples) -> tuple[Tensor, ...]:
        """The tensors of the output, in order."""
        call = samples.call
        leaves = pytree.tree_leaves(self(*call.args, **call.kwargs))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    def input_tap(self, layer: Layer) -> str | None:
        """The activation quantizer on whose grid a layer's input lies, by name; None where the
        input is float.
        """
        return self.instrumented.input_tap(layer.name) if layer.geometry.observed else None

    def moved(self, share: float, seed: int, sign: int) -> AbstractContextManager[None]:
        """Within, weights, biases and activations are moved by relative random numbers up to
        `share`, by their opposites with the other `sign`: rounding that a runtime may make.
        """
        tensors = {name for layer in self.layers for name in (layer.weight, layer.bias) if name}
        return moved(self.instrumented, tensors, share, seed, sign)

    @property
    def output_steps(self) -> list[float | None]:
        """The step of the grid that each output lies on, the widest of its channels; None where it
        is float or every batch has its own grid.
        """
        names = self.instrumented.output_taps
        grids = [None if name is None else self.instrumented.tap(name).grid for name in names]
        return [None if grid is None else float(grid.step.max()) for grid in grids]

    def input_grid(self, layer: Layer) -> Grid | None:
        """The grid of the tensor that a layer reads; None when it is float or every batch has its
        own.
        """
        return self.instrumented.input_grid(layer)

    def bias_scale(self, layer: Layer) -> Tensor | None:
        """Step of the layer's int32 bias, float32 [rows]: input scale times weight scales; None for
        a float bias.
        """
        weight = self.weights.get(layer.name)
        if weight is None or layer.name in self.floating:
            return None
        return bias_step(weight, self.input_grid(layer))

    def _bias(self, layer: Layer, bias: Tensor) -> Tensor:
        """The bias on the int32 grid that integer kernels add it on."""
        step = self.bias_scale(layer)
        if step is None:
            return bias
        if not fits(bias, step):
            self.floating.add(layer.name)
            self.notes[layer.name] = "its bias does not fit int32 at these scales and stays float"
            return bias
        if note := words(bias, step, layer.geometry.columns):
            self.notes[layer.name] = note
        return on_grid(bias, step)

    @property
    def ledger(self) -> list[LedgerRow]:
        """One row a layer and an activation quantizer: nothing is silent."""
        rows = [self._layer_row(plan) for plan in self.plan.layers]
        rows += [self._product_row(product) for product in self.products]
        rows += [self._tap_row(tap) for tap in self.plan.taps]
        return rows + [self._rest_row(place) for place in self.skipped]

    def _product_row(self, product: Product) -> LedgerRow:
        """The operands of a product of values: the bits they lie on, float where they do not."""
        node = self.instrumented.products[product.name]
        taps = [self.instrumented.tap_at(node, edge.argument) for edge in product.values]
        asked = {tap.name: str(tap.asked) for tap in self.plan.taps}
        bits = ["float" if tap is None else self._label(tap) for tap in taps]
        integer = len(taps) == _OPERANDS and None not in taps
        reasons = [] if self.plan.taps else ["no activations are quantized"]
        if len(taps) < _OPERANDS:
            reasons.append(self._constant_operand(product))
        elif self.plan.taps and not integer:
            reasons.append("an operand has no quantizer by the recipe")
        return LedgerRow(
            product.name,
            "product",
            " x ".join("float" if tap is None else asked[tap] for tap in taps),
            " x ".join(bits),
            "; ".join(reasons),
            0,
            _finite(self.findings.sqnr_db.get(product.name)),
            multiplications=self.multiplications[product.name],
            integer=integer,
        )

    def _constant_operand(self, product: Product) -> str:
        """Describe the operand of a product that depends on no input."""
        owners = [layer.name for layer in self.layers if layer.weight in product.constants]
        if owners:
            return f"one operand is computed from the codes of {owners[0]}"
        return f"one operand is a constant ({', '.join(product.constants)}) and stays float"

    def _label(self, tap: str) -> str:
        module = self.instrumented.tap(tap)
        assert module.spec is not None
        return module.spec.label if module.grid is None else module.grid.label

    def _rest_row(self, place: Skipped) -> LedgerRow:
        return LedgerRow(place.name, "rest", "float", "float", place.reason, 4 * place.size, None)

    def _tap_row(self, tap: TapPlan) -> LedgerRow:
        grid = self.instrumented.tap(tap.name).grid
        how = ["a scale a channel"] if tap.place.axis is not None else []
        how += ["range of every batch"] if grid is None else []
        bits, size = (tap.spec.label, 0) if grid is None else (grid.label, grid.nbytes)
        sqnr = _finite(self.findings.sqnr_db.get(tap.name))
        return LedgerRow(
            tap.name,
            "activation",
            str(tap.asked),
            bits,
            "; ".join(filter(None, (tap.reason, *how))),
            size,
            sqnr,
        )

    def _layer_row(self, plan: LayerPlan) -> LedgerRow:
        sqnr = _finite(self.findings.sqnr_db.get(plan.name))
        note = self.notes.get(plan.name, "")
        layer = self.layer(plan.name)
        if not layer.owns_weight:
            weights = self.weights
            bits = weights[layer.owner].grid.label if layer.owner in weights else "float"
            row = LedgerRow(plan.name, "layer", plan.wanted, bits, plan.reason, 0, sqnr)
            return self._counted(row, layer)
        if plan.name not in self.weights:
            size = 4 * layer.geometry.rows * layer.geometry.columns
            row = LedgerRow(plan.name, "layer", plan.wanted, "float", plan.reason, size, sqnr)
            return self._counted(row, layer)
        weight = self.weights[plan.name]
        spec = weight.grid.spec
        changed = f"{spec.alphabet.count} levels of its rounding's own" if spec != plan.spec else ""
        reason = "; ".join(filter(None, (plan.reason, changed, note)))
        row = LedgerRow(
            plan.name,
            "layer",
            plan.wanted,
            weight.grid.label,
            reason,
            weight.nbytes,
            sqnr,
            weight.zeros,
        )
        return self._counted(row, layer)

    def _counted(self, row: LedgerRow, layer: Layer) -> LedgerRow:
        """A layer's row with its multiplications."""
        integer = layer.owner in self.weights and self.input_tap(layer) is not None
        count = self.multiplications[layer.name]
        return replace(row, multiplications=count, integer=integer)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per weight over all layers and other parameters of two axes or more, scales
        and zero points included; those that are float count 32.
        """
        layers = sum(layer.geometry.rows * layer.geometry.columns for layer in self.owners)
        count = layers + sum(place.size for place in self.skipped)
        rows = [*map(self._layer_row, self.plan.layers), *map(self._rest_row, self.skipped)]
        return 8 * sum(row.bytes for row in rows) / count

    @property
    def zeros(self) -> float:
        """Share of the quantized weights that are exactly 0, percent: the sparsity reached."""
        sizes = [q.codes.numel() for q in self.weights.values()]
        total = sum(q.zeros * size for q, size in zip(self.weights.values(), sizes, strict=True))
        return total / max(1, sum(sizes))

    @property
    def leftovers(self) -> dict[str, Tensor]:
        """The tensors that stay float: biases, batch-norms left alone, float layers; by dotted
        name.
        """
        quantized = {layer.weight for layer in self.layers if layer.name in self.weights}
        left = tensors_read(self.graph_module) - quantized
        return {name: tensor_at(self.graph_module, name) for name in sorted(left)}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that its graph reads, by dotted name: weights as real numbers."""
        return {
            name: tensor_at(self.graph_module, name) for name in tensors_read(self.graph_module)
        }

    @property
    def packed_bytes(self) -> int:
        """Bytes of everything the network needs: packed weights, grids of activation quantizers and
        float leftovers.
        """
        rest = sum(t.numel() * t.element_size() for t in self.leftovers.values())
        taps = sum(self._tap_row(tap).bytes for tap in self.plan.taps)
        return sum(q.nbytes for q in self.weights.values()) + taps + rest


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
