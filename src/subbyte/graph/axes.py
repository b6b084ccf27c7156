"""Axes of images whose sizes may differ from call to call, and what a graph asks of them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from subbyte.errors import ModelError

_SIZE = re.compile(r"\.size\(\)\[")


class Axis(Enum):
    """An axis of images [n, channels, height, width], counted from the last."""

    HEIGHT = -2
    WIDTH = -1

    @property
    def text(self) -> str:
        """Its name in settings, files and messages."""
        return self.name.lower()

    @classmethod
    def read(cls, names: Iterable[str]) -> "tuple[Axis, ...]":
        """The axes of these names, each once. Raises ModelError for others."""
        known, wanted = {axis.text: axis for axis in cls}, set(names)
        if unknown := sorted(wanted - set(known)):
            raise ModelError(f"dynamic: unknown axis {unknown[0]!r}; known: {', '.join(known)}")
        return tuple(axis for name, axis in known.items() if name in wanted)


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions on sizes under which a captured graph is the network; guards: torch.export's, a
    function of the leaves of a call that raises AssertionError where they do not hold.
    """

    guards: Callable[..., Any]

    def unmet(self, leaves: Iterable[Any]) -> list[str]:
        """The first condition that leaves of two samples do not meet, in a list that is empty where
        they meet all.
        """
        try:
            self.guards(*leaves)
        except AssertionError as error:
            return [_SIZE.sub(".shape[", str(error).removeprefix("Guard failed: "))]
        return []


def _none(*leaves: Any) -> None:
    """Ask nothing."""


UNCONDITIONAL = Conditions(_none)
"""Conditions of a graph whose sizes are fixed: there are none."""
