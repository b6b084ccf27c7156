"""What widths cost the network's output, and the widths that a budget buys."""

from subbyte.sensitivity.meet import meet_budget
from subbyte.sensitivity.survey import Option

__all__ = ["Option", "meet_budget"]
