"""LiteRT's file format (.tflite, a flatbuffer): names and facts put into a file, and what lies in
it read back.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError
from subbyte.exporters.facts import DIGEST
from subbyte.io.digests import digest
from subbyte.io.texts import parse_mapping
from subbyte.methods import Contents, Seal, Stored
from subbyte.records.speed import Kernels

_ABOUT = "subbyte"
"""The name of a text in the file by which it is known to be ours."""
_UNKNOWN = 64 * "0"  # stands for a digest until it is known
_IDENTIFIER = b"TFL3"
_SHOWN = 64  # bytes of a tensor that is worth a row
_FLOATS = {"FLOAT32", "FLOAT16", "FLOAT64"}
_CONVERTS = {"QUANTIZE", "DEQUANTIZE"}
_LAYERS = {
    "CONV_2D": lambda weight, made: prod(weight[1:]) * prod(made[1:]),
    "DEPTHWISE_CONV_2D": lambda weight, made: prod(weight[1:3]) * prod(made[1:]),
    "FULLY_CONNECTED": lambda weight, made: weight[-1] * prod(made[1:]),
}
"""Multiplications for one sample, from the shapes of the weight and of what is made."""


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def _names_of(kind: type[Any]) -> dict[int, str]:
    return {number: name for name, number in vars(kind).items() if isinstance(number, int)}


def stated(content: bytes, facts: Mapping[str, Any], names: Sequence[Sequence[str]]) -> bytes:
    """A file with facts and a digest, its inputs and outputs under these names."""
    import flatbuffers

    schema = _schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    (signature,) = model.signatureDefs
    for places, maps, own in zip(
        (graph.inputs, graph.outputs), (signature.inputs, signature.outputs), names, strict=True
    ):
        order = dict(zip(places, own, strict=True))
        for each in maps:
            each.name = order[each.tensorIndex].encode()
        for index, name in order.items():
            graph.tensors[index].name = name.encode()
    text = schema.BufferT()
    text.data = list(json.dumps(dict(facts) | {DIGEST: _UNKNOWN}).encode())
    model.buffers.append(text)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _ABOUT, len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    packed = bytes(builder.Output())
    return packed.replace(_UNKNOWN.encode(), digest([packed]).encode(), 1)


class File:
    """A file as it lies in memory. Raises FormatError where it is none of LiteRT's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = path.read_bytes()
            if self.content[4:8] != _IDENTIFIER:
                raise ValueError("it does not begin as one")
            self.model = _schema().ModelT.InitFromPackedBuf(self.content, 0)
            self.graph = self.model.subgraphs[0]
            self.about = self._about()
        except Exception as error:  # the reader raises what damage makes it stumble over
            reason = " ".join(str(error).split())[:200]
            raise FormatError(f"{path}: no file that LiteRT can load: {reason}") from error

    def _about(self) -> Mapping[str, Any]:
        texts = [
            bytes(self.model.buffers[entry.buffer].data)
            for entry in self.model.metadata or ()
            if entry.name.decode() == _ABOUT
        ]
        return parse_mapping(texts[0]) if texts else {}

    @property
    def seal(self) -> Seal:
        """The digest is that of the file with zeros in its place."""
        own = str(self.about.get(DIGEST, ""))
        blank = self.content.replace(own.encode() or b"0", _UNKNOWN.encode(), 1)
        return Seal(own, digest([blank]))

    @property
    def contents(self) -> Contents:
        """Tensors, operations and facts. Raises FormatError where the file is not ours."""
        if not self.about:
            raise FormatError(f"{self.path}: a file of LiteRT's, but subbyte did not write it")
        types = _names_of(_schema().TensorType)
        held = [
            Stored(tensor.name.decode(), types[tensor.type].lower(), _sizes(tensor), size)
            for tensor in self.graph.tensors
            if (size := self._bytes(tensor)) >= _SHOWN
        ]
        told = {key: value for key, value in self.about.items() if isinstance(value, str)}
        kinds = Counter(self._kinds)
        return Contents(f"version {self.model.version}", held, dict(kinds.most_common()), told)

    @property
    def _kinds(self) -> list[str]:
        names = _names_of(_schema().BuiltinOperator)
        codes = [
            names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            for code in self.model.operatorCodes
        ]
        return [codes[operator.opcodeIndex] for operator in self.graph.operators]

    def _bytes(self, tensor: Any) -> int:
        data = self.model.buffers[tensor.buffer].data
        return 0 if data is None else len(data)

    @property
    def kernels(self) -> Kernels:
        """The operations of the file: LiteRT computes each as its types say."""
        types = _names_of(_schema().TensorType)
        counts, multiplied = Counter[str](), Counter[str]()
        for kind, operator in zip(self._kinds, self.graph.operators, strict=True):
            made, first = (self.graph.tensors[n[0]] for n in (operator.outputs, operator.inputs))
            floats = {types[made.type], types[first.type]} & _FLOATS
            place = "conversions" if kind in _CONVERTS else "floats" if floats else "integers"
            counts[place] += 1
            if kind in _LAYERS:
                weight = self.graph.tensors[operator.inputs[1]]
                multiplied[place] += _LAYERS[kind](_sizes(weight), _sizes(made))
        weights = sum(map(self._bytes, self.graph.tensors))
        return Kernels(
            integers=counts["integers"],
            floats=counts["floats"],
            conversions=counts["conversions"],
            multiplications=sum(multiplied.values()),
            integer_multiplications=multiplied["integers"],
            weights=weights,
            loaded=weights,
            activations=self._peak(),
        )

    def _peak(self) -> int:
        """The most bytes of values that are alive at a time."""
        last = {
            index: step
            for step, operator in enumerate(self.graph.operators)
            for index in (*operator.inputs, *operator.outputs)
            if index >= 0
        }
        last |= {index: len(self.graph.operators) for index in self.graph.outputs}
        alive = set(map(int, self.graph.inputs))
        peak = sum(map(self._size, alive))
        for step, operator in enumerate(self.graph.operators):
            alive |= set(map(int, operator.outputs))
            peak = max(peak, sum(map(self._size, alive)))
            alive = {index for index in alive if last[index] > step}
        return peak

    def _size(self, index: int) -> int:
        tensor = self.graph.tensors[index]
        name = _names_of(_schema().TensorType)[tensor.type]
        bits = int("".join(filter(str.isdigit, name)) or 8)
        return prod(_sizes(tensor)) * bits // 8


def _sizes(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(map(int, tensor.shape))
