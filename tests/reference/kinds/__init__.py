"""Small networks, each of a structural kind of its own: `KINDS` by name."""

from tests.reference.kinds.constants import CONSTANTS
from tests.reference.kinds.kind import Kind
from tests.reference.kinds.modules import MODULES
from tests.reference.kinds.products import PRODUCTS
from tests.reference.kinds.trees import TREES

__all__ = ["KINDS", "Kind"]

KINDS: dict[str, Kind] = CONSTANTS | PRODUCTS | TREES | MODULES
