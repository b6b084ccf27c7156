"""The pages of `subbyte look`: the images of a data set class by class, and its figures."""

from collections.abc import Sequence
from pathlib import Path

from subbyte.pages.figures import Dots, Rows
from subbyte.pages.parts import Gallery, Picture, Section, Story, Table
from subbyte.pages.parts import Part as PagePart
from subbyte.pages.subject import Named, Subject, View
from subbyte.records.look import LOOK, Look, Part, read_look

_DRAWN = 100  # classes up to which their sizes are drawn


class DataSets(Subject[Named[Look]]):
    """Folders of `subbyte look`."""

    title = "Data sets"
    holds = f"a look at a data set ({LOOK})"
    files = (LOOK,)

    def read(self, name: str, folder: Path) -> Named[Look]:
        """See `subject.Subject`."""
        return Named(name, read_look(folder))

    def tell(self, found: Sequence[Named[Look]], view: View) -> Story:
        """See `subject.Subject`."""
        sentences = tuple(_sentence(one.found) for one in found)
        if len(found) == 1:
            return Story(sentences, _sections(found[0].found), found[0].found.data)
        sections = [Section(one.name, _sections(one.found), folded=True) for one in found]
        return Story(sentences, tuple(sections))


def _sentence(look: Look) -> str:
    images = " and ".join(f"{part.images:,} {part.name}" for part in look.parts)
    sizes = dict.fromkeys(_size(part) for part in look.parts)
    told = f"{look.data}: {images} images of {' and '.join(sizes)}"
    classes = [f"{_span(part.counts)} {part.name}" for part in look.parts if part.counts]
    if not classes:
        return f"{told}, without class labels."
    return f"{told}, in {len(look.classes):,} classes of {' and '.join(classes)} images each."


def _span(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _size(part: Part) -> str:
    channels, height, width = part.shape
    return f"{channels} x {height} x {width}"


def _sections(look: Look) -> tuple[Section, ...]:
    figures: list[PagePart] = [statistics_table(look)]
    if any(part.counts for part in look.parts):
        if len(look.classes) <= _DRAWN:
            figures.append(_classes_drawn(look))
        figures.append(_classes_table(look))
    return (Section("Figures", tuple(figures)), *(_pictures(look, part) for part in look.parts))


def statistics_table(look: Look) -> Table:
    """A row for each channel of each split."""
    rows = tuple(
        (
            f"{part.name}, channel {place}",
            f"{part.images:,}",
            f"{part.measured:,}",
            _size(part),
            f"{one.mean:.4f}",
            f"{one.std:.4f}",
            f"{one.low:.4f}",
            f"{one.high:.4f}",
            "" if one.pixel_mean is None else f"{one.pixel_mean:.4f}",
            "" if one.pixel_std is None else f"{one.pixel_std:.4f}",
        )
        for part in look.parts
        for place, one in enumerate(part.channels)
    )
    header = ("split", "images", "measured", "size", "mean", "std", "least", "most")
    title = "Values as the network takes them, and mean and std as pixels from 0 to 1"
    return Table(title, (*header, "pixel mean", "pixel std"), rows)


def _classes_drawn(look: Look) -> Rows:
    about = "Percent of the images of a split that are of each class."
    marks = tuple(
        Dots(
            part.name,
            [100 * count / part.images for count in part.counts],
            [f"{name}: {count:,}" for name, count in zip(look.classes, part.counts, strict=True)],
        )
        for part in look.parts
        if part.counts
    )
    return Rows("Images by class", about, "% of the split", tuple(look.classes), marks)


def _classes_table(look: Look) -> Table:
    known = [part for part in look.parts if part.counts]
    columns = zip(*(part.counts for part in known), strict=True)
    rows = tuple(
        (name, *(f"{count:,}" for count in counts))
        for name, counts in zip(look.classes, columns, strict=True)
    )
    return Table("Class sizes", ("class", *(part.name for part in known)), rows)


def _pictures(look: Look, part: Part) -> Section:
    labels = dict.fromkeys(one.label for one in part.samples)
    galleries = tuple(
        Gallery(
            "Some of all images" if label is None else look.classes[label],
            tuple(
                Picture(one.picture, f"image {one.index:,}")
                for one in part.samples
                if one.label == label
            ),
        )
        for label in labels
    )
    told = f", the first {len(labels)} classes" if 1 < len(labels) < len(look.classes) else ""
    return Section(f"Pictures, {part.name}{told}", galleries)
