"""Files for speed that are wrong on this processor, because it adds pairs of 8-bit products in
saturating int16, and their place taken by files that are exact on every processor.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from subbyte.errors import ParityError
from subbyte.methods import Exported, Form, Optimize


class SaturatedError(Exception):
    """A file is wrong on this processor, and has layers whose sums may have saturated."""


@contextmanager
def proving(saturating: Sequence[str]) -> Iterator[None]:
    """Within, a failed proof is a SaturatedError where layers may saturate."""
    try:
        yield
    except ParityError as error:
        if saturating:
            raise SaturatedError from error
        raise


def exact_if_saturated(export: Callable[[Form], Exported], form: Form) -> Exported:
    """Export in a form, or exact on every processor where sums saturate on this one."""
    try:
        return export(form)
    except SaturatedError:
        return export(replace(form, optimize=Optimize.EXACT))
