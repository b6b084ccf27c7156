"""subbyte look: a data set as pictures and figures, before anything is made with it."""

from pathlib import Path
from typing import Annotated

import typer

from subbyte.analyses.look import PICTURES
from subbyte.analyses.look import look as look_at
from subbyte.cli.answers import Answer, command
from subbyte.cli.common import (
    CropOption,
    DataOption,
    ForceOption,
    InterpolationOption,
    NormalizeOption,
    PageOption,
    Pixels,
    ResizeOption,
    SeedOption,
    write_page,
)
from subbyte.cli.numbers import numeric
from subbyte.cli.progress import progress, stage
from subbyte.cli.tables import plain_table
from subbyte.cli.terminal import console
from subbyte.io.folders import folder
from subbyte.io.numbers import Whole
from subbyte.pages.look import statistics_table
from subbyte.pages.write import PAGE
from subbyte.records import write_document
from subbyte.records.look import LOOK, Look


@command
def look(
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    samples: Annotated[int, numeric(Whole(1, PICTURES), "Pictures of each class.")] = 6,
    images: Annotated[
        int, numeric(Whole(1), "Images of a split whose values are read, at most, spread evenly.")
    ] = 2000,
    seed: SeedOption = 0,
    normalize: NormalizeOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    force: ForceOption = False,
    page: PageOption = True,
) -> Answer[Look]:
    """Look at a data set: samples by class, class sizes, statistics of channels; a page of them."""
    with folder(out, owns=(LOOK, PAGE), force=force) as temporary:
        with stage("read"):
            loaded = Pixels(normalize, resize, crop, interpolation).load(data)
        with progress() as report:
            found = look_at(loaded, samples, images, seed, report)
        write_document(temporary / LOOK, found, short=True)
    console.print(plain_table(statistics_table(found)))
    return Answer(found, write_page(page, out))
