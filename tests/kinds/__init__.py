"""Small networks, each of a structural kind of its own: `KINDS` by name."""

from tests.kinds.constants import CONSTANTS
from tests.kinds.kind import Kind
from tests.kinds.modules import MODULES
from tests.kinds.products import PRODUCTS
from tests.kinds.trees import TREES

__all__ = ["KINDS", "Kind"]

KINDS: dict[str, Kind] = CONSTANTS | PRODUCTS | TREES | MODULES
