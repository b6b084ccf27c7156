"""Whether an ONNX file is built as a target takes it: operations and sizes. Nothing is run."""

from pathlib import Path

import onnx_ir as ir

from subbyte.recipe import Target


def misses(target: Target, path: Path) -> list[str]:
    """The parts of a file that a target does not take, in words; none where all is well."""
    graph = ir.load(path).graph
    found = []
    if target.operators:
        kinds = dict.fromkeys(node.op_type for node in graph.all_nodes())
        strange = [kind for kind in kinds if kind not in target.operators]
        found += [f"operations that it has not: {', '.join(strange)}"] if strange else []
    foreign = sorted({node.domain for node in graph.all_nodes() if node.domain})
    if foreign:
        found.append(f"operations outside the standard: of {', '.join(foreign)}")
    if target.batch == "fixed":
        free = {
            str(size.value)
            for value in graph.inputs
            if value.shape is not None
            for size in value.shape
            if isinstance(size, ir.SymbolicDim)
        }
        found += [f"free sizes: {', '.join(sorted(free))}; it takes fixed ones"] if free else []
    return found
