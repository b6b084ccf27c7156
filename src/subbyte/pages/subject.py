"""The contract of a kind of folder that a page can be about, and how a user wants it drawn."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from subbyte.io.numbers import Bounded, Count, Natural, NotNegative
from subbyte.pages.parts import Story

R = TypeVar("R")


@dataclass(frozen=True)
class View(Bounded):
    """The options of `subbyte report` that say how much of a folder is drawn.

    smooth: logged rows in the running mean of training loss and of moved codes, 1 for none; epochs:
    of training to draw, from the first, 0 for all; window: clips to either side of the best by the
    true loss, 0 for all; metrics: of a clip search to draw, in this order, () for all; bits: widths
    of a clip search to show, () for all.
    Raises RecipeError when a number is out of range.
    """

    smooth: Count = 1
    epochs: Natural = 0
    window: NotNegative = 0.15
    metrics: tuple[str, ...] = ()
    bits: tuple[Count, ...] = ()

    def asked(self) -> list[str]:
        """Names of the options that are not as they are by default."""
        usual = asdict(View())
        return [name for name, value in asdict(self).items() if value != usual[name]]


@dataclass(frozen=True)
class Named(Generic[R]):
    """The content of a folder, and the name that tells it from others."""

    name: str
    found: R


class Subject(ABC, Generic[R]):
    """Folders of one command. A new kind is a subclass and a line in `subjects.SUBJECTS`.

    title: of its part in a page of several kinds; holds: what such a folder holds, for errors;
    files: names, any of which says that a folder is one; options: fields of `View` that it heeds.
    """

    title: ClassVar[str]
    holds: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    options: ClassVar[tuple[str, ...]] = ()

    def owns(self, folder: Path) -> bool:
        """Whether a folder is one."""
        return any((folder / name).is_file() for name in self.files)

    @abstractmethod
    def read(self, name: str, folder: Path) -> R:
        """Read a folder; name: what tells it from the others of a page. Raises FormatError, naming
        the file, when one is missing, damaged or of another version.
        """

    @abstractmethod
    def tell(self, found: Sequence[R], view: View) -> Story:
        """The story of one or several folders. Raises FormatError when `view` asks for what they do
        not have.
        """
