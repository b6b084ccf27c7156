"""Parameters' names: those in a file, brought to those that a network has for them.

Tools put something before all names, or in the middle of them, and leave things of their own beside
the weights. What is left when that is gone must be the network's names, all of them and no others.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from subbyte.models.built_in import Renames
from subbyte.models.states import State

COUNTER = "num_batches_tracked"
"""Batch-norm's; it may be missing, as in files from before torch 0.4.1, or too many."""
_EXTRAS = {"total_ops": "thop", "total_params": "thop", "n_averaged": "AveragedModel"}
"""Last parts of names that are no weights, and whose they are."""
_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
"""Parts of names where torch put a module around another, and what did."""
_PREFIXES = {"module.": "DataParallel", "model.": "Lightning and others"}
"""Prefixes of all names, and who puts them there."""


def match(state: State, expected: list[str], renames: Renames = ()) -> State | None:
    """The same weights under the names that a network expects, with notes on what was done; None
    when one is missing or too many.

    renames: what others call its parameters.
    """
    names = tidy(state, expected)
    for change in (_keep, *([_renaming(renames)] if renames else [])):
        found = _prefixed(names.renamed(change, "'{}' is read as '{}', and so on"), expected)
        if not missing(found.tensors, expected) and not unexpected(found.tensors, expected):
            return replace(state, tensors=found.tensors, notes=found.notes)
    return None


def missing(names: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Names that are expected and not there."""
    found = set(names)
    return [name for name in expected if name not in found and not name.endswith(COUNTER)]


def unexpected(names: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Names that are there and not expected."""
    return missing(expected, names)


@dataclass(frozen=True)
class Names:
    """Tensors under names on their way to a network's, and what was done to them."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]

    def renamed(self, change: Callable[[str], str], note: str) -> "Names":
        """With other names, where no two become one. note: with places for the first of them."""
        names = {name: change(name) for name in self.tensors}
        first = next((pair for pair in names.items() if pair[0] != pair[1]), None)
        if first is None or len(set(names.values())) < len(names):
            return self
        changed = {names[name]: tensor for name, tensor in self.tensors.items()}
        return Names(changed, (*self.notes, note.format(*first)))

    def without(self, gone: Mapping[str, object], note: str) -> "Names":
        """Without some of them."""
        kept = {name: tensor for name, tensor in self.tensors.items() if name not in gone}
        return Names(kept, (*self.notes, note)) if gone else self


def tidy(state: State, expected: Iterable[str]) -> Names:
    """Weights without what tools leave in and beside names, where a network has none of it."""
    names = Names(state.tensors, state.notes)
    known = {part for name in expected for part in name.split(".")}
    for wrapper, maker in _WRAPPERS.items():
        if wrapper not in known:
            names = names.renamed(_leaving_out(wrapper), f"{wrapper} of {maker} is taken out")
    extras = {name: name.rpartition(".")[2] for name in names.tensors}
    extras = {name: own for name, own in extras.items() if own in _EXTRAS and own not in known}
    makers = ", ".join(dict.fromkeys(_EXTRAS[own] for own in extras.values()))
    return names.without(extras, f"{len(extras)} of {makers} are left out")


def _prefixed(names: Names, expected: list[str]) -> Names:
    """The part that has all names that are expected behind a prefix; where several have, and one of
    them holds moving averages, that; where there is no such part all as they are.
    """
    needed = [name for name in expected if not name.endswith(COUNTER)]
    ends = [n for n in names.tensors if needed and f".{n}".endswith(f".{needed[0]}")]
    fits = [name.removesuffix(needed[0]) for name in ends]
    fits = [prefix for prefix in fits if not missing(names.tensors, map(prefix.__add__, needed))]
    averaged = [prefix for prefix in fits if "ema" in prefix]
    if "" in fits or len(averaged or fits) != 1:
        return names
    (prefix,) = averaged or fits
    own = {name: tensor for name, tensor in names.tensors.items() if name.startswith(prefix)}
    left = len(names.tensors) - len(own)
    maker = f" of {_PREFIXES[prefix]}" if prefix in _PREFIXES else ""
    note = f"{prefix!r}{maker} is taken off" + (f", {left} without it are left out" if left else "")
    return Names({n.removeprefix(prefix): t for n, t in own.items()}, (*names.notes, note))


def _keep(name: str) -> str:
    return name


def _renaming(renames: Renames) -> Callable[[str], str]:
    def change(name: str) -> str:
        for pattern, text in renames:
            name = re.sub(pattern, text, name)
        return name

    return change


def _leaving_out(part: str) -> Callable[[str], str]:
    return lambda name: name.replace(f"{part}.", "")
