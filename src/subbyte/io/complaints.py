"""The words for what pydantic does not accept."""

from pydantic import ValidationError

_TYPES = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of settings",
    "model_type": "must be a mapping of settings",
    "dataclass_type": "must be a mapping of settings",
    "dataclass_exact_type": "must be a mapping of settings",
    "invalid_key": "is no name; names are text",
    "extra_forbidden": "unknown setting",
    "unexpected_keyword_argument": "unknown setting",
}
"""By pydantic's names of its errors; others say it well themselves."""
_UNSEEN = ("missing", "invalid_key", "extra_forbidden", "unexpected_keyword_argument")
"""Errors whose value says nothing, because the place is what is wrong."""
_LONGEST = 100  # letters of a value that are shown
_KEY = "[key]"  # pydantic's mark of a mapping's key, which is no setting


def first_complaint(error: ValidationError) -> tuple[list[int | str], str]:
    """The first thing that is not accepted: the path to it, and why."""
    first = error.errors()[0]
    path, kind = [part for part in first["loc"] if part != _KEY], first["type"]
    if _KEY in first["loc"]:
        return path, _TYPES["invalid_key"]
    if kind == "value_error":
        return path, str(first["msg"]).removeprefix("Value error, ")
    why = _TYPES.get(kind) or str(first["msg"]).replace("Input should be", "must be")
    return path, why if kind in _UNSEEN else f"{why}, got {short(first['input'])}"


def short(value: object) -> str:
    """A value as messages show it: in one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
