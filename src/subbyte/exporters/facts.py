"""Facts that an exported file states about itself, as texts by name: so every format can hold them.

recipe          its name
preprocessing   JSON: resize, crop, interpolation, mean, std, colours
classes         JSON: the names, in order
input, batch    uint8 where the file takes pixels; the number of samples of every call where
that is fixed
proof           the certificate in short
digest          sha256 of all that the file holds but this
"""

import json
from collections.abc import Mapping

from pydantic import ValidationError

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError
from subbyte.io.texts import parse_json
from subbyte.methods import Form, InputType
from subbyte.records import About, Parity, Preprocessing

PREFIX = "subbyte."
"""The beginning of names where a format has entries of other programs, too."""
RECIPE, PROOF, DIGEST = "recipe", "proof", "digest"
_PREPROCESSING, _CLASSES, _INPUT, _BATCH = "preprocessing", "classes", "input", "batch"


def facts_of(model: QuantizedModel, form: Form) -> dict[str, str]:
    """The facts that are known before a file is proven."""
    found, about = {RECIPE: model.plan.recipe}, form.about
    if about.preprocessing is not None:
        found[_PREPROCESSING] = about.preprocessing.model_dump_json(exclude_defaults=True)
    if about.classes:
        found[_CLASSES] = json.dumps(about.classes, ensure_ascii=False, separators=(",", ":"))
    if form.input is not InputType.FLOAT:
        found[_INPUT] = form.input.value
    if form.batch is not None:
        found[_BATCH] = str(form.batch)
    return found


def proof_of(parity: Parity) -> str:
    """A certificate in a few words."""
    same = "" if parity.classes is None else f", classes agree on {parity.classes:.2f} %"
    return f"{parity.samples} samples, at most {parity.ratio:.3g} of what rounding may make{same}"


def prefixed(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts under names that tell them from other programs'."""
    return {f"{PREFIX}{name}": text for name, text in facts.items()}


def form_in(stated: Mapping[str, str]) -> Form:
    """The form of a file, from what it states, with the prefix or without. Raises FormatError for
    what can't be read.
    """
    facts = {name.removeprefix(PREFIX): text for name, text in stated.items()}
    try:
        given = facts.get(_PREPROCESSING)
        classes = tuple(map(str, parse_json(facts.get(_CLASSES, "[]"))))
        pixels = None if given is None else Preprocessing.model_validate_json(given)
        batch = int(facts[_BATCH]) if _BATCH in facts else None
        kind = InputType(facts.get(_INPUT, InputType.FLOAT))
    except (ValueError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FormatError(f"what the file says of itself can't be read ({reason})") from error
    return Form(input=kind, batch=batch, about=About(preprocessing=pixels, classes=classes))
