"""The contract of a figure: what it shows as a table, for the browser, and as a PNG picture.

To add one, write one file in `figures/` with a subclass. What all figures have in common in a
browser is in page.js, so that a page with a hundred of them stays small.
"""

import json
from abc import abstractmethod
from html import escape
from pathlib import Path
from typing import Any

from subbyte.errors import ContractError, NumericsError
from subbyte.pages.canvas import save
from subbyte.pages.parts import Shown
from subbyte.pages.writer import Writer

Spec = dict[str, Any]
"""`data` and `layout` as plotly.js takes them, and `legend`, of which the page makes buttons; for
one of several items of a figure also its `name` and a `note` below it. Colours are names that
page.js replaces by those of its theme, light or dark: '@0' ... '@7' of the palette, '@ink',
'@paper', '@grid', '@low' and '@high' for heat maps, '@rest' between them; '@0/0.3' has an opacity.
Texts are escaped, as plotly reads a part of HTML in them.
"""


class Figure(Shown):
    """A frozen dataclass that says what is to be seen.

    title: above it; about: a sentence below the title.
    """

    title: str
    about: str

    @abstractmethod
    def items(self) -> list[Spec]:
        """The specs for the browser: one drawing, or several of which one is shown at a time."""

    @abstractmethod
    def draw(self) -> Any:
        """Draw a picture: a figure of matplotlib. Raises SubbyteError when that is missing."""

    def controls(self) -> tuple[str, str]:
        """HTML above and below the drawing, by which one of several items is chosen."""
        return "", ""

    def picture(self, path: Path) -> list[Path]:
        """Draw it into a PNG file. The same figure gives the same bytes."""
        save(self.draw(), path)
        return [path]

    def html(self, page: Writer) -> str:
        """A frame that page.js draws in, from the JSON in it.

        Raises NumericsError, naming the figure, where an item holds NaN or Inf, and ContractError
        where it holds what JSON has no word for.
        """
        specs, (above, below) = self.items(), self.controls()
        alt = escape(f"{self.title}. {self.about}".strip())
        text = f"<p>{escape(self.about)}</p>" if self.about else ""
        return (
            f'<figure class="plot" id="figure-{page.number()}">\n'
            f"<figcaption>{escape(self.title)}</figcaption>\n"
            f'{text}{above}<div class="legend" role="group" aria-label="Curves"></div>\n'
            f'<div class="canvas" tabindex="0" role="img" aria-label="{alt}" '
            f'style="min-height:{specs[0]["layout"]["height"]}px"></div>\n'
            f'<p class="note"></p>{below}<details class="numbers"><summary>Numbers</summary>'
            f'</details>\n<script type="application/json">{self._json(specs)}</script>\n'
            "</figure>"
        )

    def _json(self, specs: list[Spec]) -> str:
        """JSON inside HTML: nothing in it can end the element."""
        value = {"items": specs}
        try:
            text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        except ValueError as error:
            raise NumericsError(
                f"figure {self.title!r} holds NaN or Inf, which can't be drawn; give None for a gap"
            ) from error
        except TypeError as error:
            raise ContractError(
                f"figure {self.title!r}: an item is not made of plain values: {error}"
            ) from error
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
