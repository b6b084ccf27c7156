"""Errors of methods say which method it was, and which of its verbs."""

from collections.abc import Iterator
from contextlib import contextmanager

from subbyte.errors import ContractError, SubbyteError
from subbyte.io.memory import out_of_memory
from subbyte.io.user_file import raised


def name_of(method: object, verb: str) -> str:
    """A method's verb, or what it declares, as messages call it."""
    return f"{type(method).__qualname__}.{verb}"


@contextmanager
def blaming(method: object, verb: str) -> Iterator[None]:
    """Errors say which method raised them, and in which of its verbs.

    Raises ContractError for exceptions that are none of subbyte's; running out of memory is no
    fault of a method.
    """
    try:
        yield
    except ContractError:
        raise
    except SubbyteError as error:
        raise type(error)(f"{name_of(method, verb)}: {error}") from error
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise ContractError(f"{name_of(method, verb)} {raised(type(method), error)}") from error
