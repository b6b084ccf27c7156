"""Trees of arguments as plain values for JSON, and back: tuples, lists, dictionaries and leaves.

[kind, ...]   a tuple, list or dictionary ([name, entry] each) and what it holds
number        the leaf of this place in the order of leaves
"""

from typing import Any

from torch.utils import _pytree as pytree

from subbyte.errors import FormatError


def tree_to_plain(tree: pytree.TreeSpec) -> Any:
    """The tree, or the name of a class of the user's in it, which can't be made again from a file:
    it stands as ["class", name].
    """
    return _plain(pytree.tree_unflatten(list(range(tree.num_leaves)), tree))


def tree_from_plain(plain: Any) -> pytree.TreeSpec:
    """Inverse of `tree_to_plain`. Raises FormatError when the tree holds a class of the user's."""
    return pytree.tree_structure(_tree(plain))


def _plain(value: Any) -> Any:
    if type(value) is int:
        return value
    if type(value) in (tuple, list):
        return [type(value).__name__, *map(_plain, value)]
    if type(value) is dict:
        return ["dict", *([key, _plain(entry)] for key, entry in value.items())]
    return ["class", type(value).__qualname__]


def _tree(plain: Any) -> Any:
    if isinstance(plain, int):
        return plain
    if isinstance(plain, list) and plain:
        kind, *rest = plain
        if kind in _MAKE:
            return _MAKE[kind](rest)
        if kind == "class":
            raise FormatError(
                f"the network's inputs hold a {rest[0]}, which a file can't make; give an example "
                f"of them"
            )
    raise FormatError(f"the tree of the network's inputs can't be read: {str(plain)[:60]}")


_MAKE: dict[str, Any] = {
    "tuple": lambda rest: tuple(map(_tree, rest)),
    "list": lambda rest: list(map(_tree, rest)),
    "dict": lambda rest: {key: _tree(entry) for key, entry in rest},
}
"""How a list is read that begins with this."""
