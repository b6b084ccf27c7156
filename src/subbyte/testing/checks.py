"""Conformance suites: what a kind of method promises, as checks of one method.

A suite is a list of functions of a method and of the cases that it is tried on; a check is one of
them with its cases filled in.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Generic, TypeVar

from subbyte.errors import ContractError, RecipeError, SubbyteError

M = TypeVar("M")
Axis = Callable[[Any], Iterable[str]]
"""Names of the cases that a method is tried on."""


@dataclass(frozen=True)
class Check:
    """One promise on one case. quick: whether it belongs to the short form of its suite."""

    name: str
    promise: Callable[[], None]
    quick: bool

    def __call__(self) -> None:
        """Raise ContractError where the promise is not kept, whatever the method raises."""
        try:
            self.promise()
        except (AssertionError, SubbyteError) as error:
            raise ContractError(f"{self.name}: {error}") from error
        except Exception as error:  # a user's method raises what it likes
            raise ContractError(f"{self.name}: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return self.name


class Suite(Generic[M]):
    """The promises of a kind. quick: cases of the short form, where the others are slow."""

    def __init__(self, quick: Iterable[str] | None = None) -> None:
        self._quick = None if quick is None else frozenset(quick)
        self._promises: list[tuple[Callable[..., None], tuple[Axis, ...]]] = []

    def over(self, *axes: Axis) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """A promise on every combination of cases, those of the first axis the slow ones."""

        def add(promise: Callable[..., None]) -> Callable[..., None]:
            self._promises.append((promise, axes))
            return promise

        return add

    def checks(self, method: M) -> Iterator[Check]:
        """All checks of a method."""
        for promise, axes in self._promises:
            for cases in product(*(axis(method) for axis in axes)):
                name = f"{promise.__name__.replace('_', ' ')} [{'; '.join(cases)}]"
                quick = self._quick is None or not cases or cases[0] in self._quick
                yield Check(name, _Bound(promise, method, cases), quick)


@dataclass(frozen=True)
class _Bound:
    """A promise of a method on some cases."""

    promise: Callable[..., None]
    method: Any
    cases: tuple[str, ...]

    def __call__(self) -> None:
        self.promise(self.method, *self.cases)


def of(*names: str) -> Axis:
    """The same cases for every method."""
    return lambda method: names


def require(condition: object, otherwise: str) -> None:
    """Raise AssertionError where a condition does not hold."""
    if not bool(condition):
        raise AssertionError(otherwise)


def raises(kind: type[SubbyteError], act: Callable[[], object], otherwise: str) -> None:
    """Raise AssertionError where an act does not raise an error of a kind."""
    try:
        act()
    except kind:
        return
    raise AssertionError(f"{otherwise}: {kind.__name__} is expected")


def configured(method: object) -> Any:
    """A method, or one of a class with its default settings. Raises RecipeError where it needs
    more.
    """
    if not isinstance(method, type):
        return method
    try:
        return method()
    except Exception as error:  # a user's class raises what it likes
        raise RecipeError(f"{method.__name__}: give an object with settings ({error})") from error
