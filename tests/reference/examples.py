"""Hypothesis settings of all property tests: the same examples every time, and nothing left on
disk.
"""

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """Decorator: run a property test on this many examples."""
    slow = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
    same = {"database": None, "derandomize": True}
    return settings(max_examples=count, deadline=None, suppress_health_check=slow, **same)
