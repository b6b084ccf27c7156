"""Measures of the code's form, per 1,000 lines: `python -m tests.house [FOLDER]` prints them."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Form:
    """Counts over all Python files of a folder.

    words: comparisons with string literals (==, in, match, startswith, endswith, dictionaries of
    literals that are looked into on the spot); lookups: calls of getattr and hasattr; mappings:
    `dict[str, Any]`; kinds: calls of isinstance.
    """

    files: int
    lines: int
    words: int
    lookups: int
    mappings: int
    kinds: int

    def per_thousand(self, count: int) -> float:
        """A count per 1,000 lines."""
        return 1000 * count / self.lines


def measure(folder: Path) -> Form:
    """The form of all Python files below a folder."""
    texts = [file.read_text() for file in sorted(folder.rglob("*.py"))]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    calls = [node.func.id for node in nodes if _calls_a_name(node)]
    return Form(
        files=len(texts),
        lines=sum(text.count("\n") for text in texts),
        words=sum(1 for node in nodes for _ in _words(node)),
        lookups=sum(name in ("getattr", "hasattr") for name in calls),
        mappings=sum(text.count("dict[str, Any]") for text in texts),
        kinds=calls.count("isinstance"),
    )


def _calls_a_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def _words(node: ast.AST) -> Iterator[ast.AST]:
    """The node, once for each comparison with literal text that it makes."""
    if isinstance(node, ast.Compare) and any(map(_text, [node.left, *node.comparators])):
        yield node
    elif isinstance(node, ast.match_case):
        values = [part.value for part in ast.walk(node.pattern) if isinstance(part, ast.MatchValue)]
        yield from (value for value in values if _text(value))
    elif isinstance(node, ast.Subscript) and _by_kind(node.value):
        yield node
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name, owner = node.func.attr, node.func.value
        ends = name in ("startswith", "endswith") and bool(node.args) and _text(node.args[0])
        if ends or (name == "get" and _by_kind(owner)):
            yield node


def _text(node: ast.AST) -> bool:
    """A string literal, or a collection of them."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) and all(map(_text, node.elts))
    return _by_kind(node) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _by_kind(node: ast.AST) -> bool:
    """A dictionary that is written out, with literal text as its keys."""
    return (
        isinstance(node, ast.Dict)
        and bool(node.keys)
        and all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in node.keys)
    )


def main() -> None:
    """Print the measures of a folder, by default of the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "src"
    form = measure(folder)
    for name in ("words", "lookups", "mappings", "kinds"):
        count = getattr(form, name)
        print(f"{name:<9} {count:5}  {form.per_thousand(count):6.2f} per 1,000 lines")
    print(f"lines     {form.lines:5}  in {form.files} files")


if __name__ == "__main__":
    main()
