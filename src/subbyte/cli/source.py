"""Quantized networks in files: which network, data and settings they came of, as their folder or
their own header tells.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from subbyte.cli.common import Pixels
from subbyte.data import DataSet, Interpolation
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import DataError, FormatError, ModelError
from subbyte.exporters.packed import load, read
from subbyte.exporters.sealed import is_sealed
from subbyte.jobs import PACKED
from subbyte.learn.training.subject import PACKED as TRAINED
from subbyte.models import new_model
from subbyte.records import RESULT, Record, Result, read_result
from subbyte.records.base import Count, first_error
from subbyte.records.training import LOG, read_run

UNSAID = Pixels()
_IMAGES = 100  # to prove a file on, where nothing says how many the network was calibrated on


class _Known(Record):
    """Entries of what a file says of itself, as `Source` has them."""

    model: str = ""
    data: str = ""
    normalize: str | None = None
    resize: Count | None = None
    crop: Count | None = None
    interpolation: Interpolation | None = None
    calibration: Count = _IMAGES
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """A packed file, and how it came about; "" where that is not known.

    model, data: as `--model` and `--data` name them; calibration, seed: of the images that it was
    calibrated on; result: of its folder, None where `quantize` did not write that.
    """

    packed: Path
    model: str
    data: str
    pixels: Pixels
    calibration: int
    seed: int
    result: Result | None = None

    def images(self) -> DataSet:
        """The data. Raises DataError where they are not known, or can't be read."""
        if not self.data:
            raise DataError(
                f"{self.packed} does not say what data it was quantized on; give --data"
            )
        try:
            return self.pixels.load(self.data)
        except DataError as error:
            raise DataError(f"{error} (the data of {self.packed}; --data names others)") from error

    def network(self, images: DataSet | None) -> QuantizedModel:
        """The quantized network. images: the data, whose classes its architecture may depend on.

        Raises ModelError where its architecture is not known.
        """
        if not self.model:
            raise ModelError(
                f"{self.packed} does not say what network it is of; give --model, as for quantize"
            )
        classes = None if images is None else len(images.classes) or None
        shape = read(self.packed).image_shape
        return load(self.packed, new_model(self.model, classes, shape))


def find_source(
    path: Path, model: str | None = None, data: str = "", pixels: Pixels = UNSAID
) -> Source:
    """The packed file at `path`, or in a folder that `quantize` or `train` wrote, and what is known
    of it; what is given counts.

    Raises FormatError where there is no packed file.
    """
    packed = _packed_in(path) if path.is_dir() else path
    about = read(packed).header.about
    folder, result = packed.parent, None
    if packed.name == PACKED and (folder / RESULT).is_file():
        result = read_result(folder)
        about = about | {"data": result.data_path}
    elif packed.name == TRAINED and (folder / LOG).is_file():
        about = read_run(folder).settings.plain()
    else:
        about = about | {"data": about.get("data_spec", "")}
    try:
        known = _Known.model_validate({name: value for name, value in about.items() if value})
    except ValidationError as error:
        raise FormatError(f"{packed}: about: {first_error(error)}; give it as an option") from error
    return Source(
        packed,
        model or known.model,
        data or known.data,
        _pixels(known, pixels),
        known.calibration,
        known.seed,
        result,
    )


def _packed_in(folder: Path) -> Path:
    for name in (TRAINED, PACKED):  # where `train` wrote, the latter has float weights
        if is_sealed(folder / name):
            return folder / name
    raise FormatError(
        f"{folder} holds neither {PACKED} (by `subbyte quantize`) nor {TRAINED} (by `subbyte train "
        f"--qat`); there is no quantized network in it"
    )


def _pixels(known: _Known, given: Pixels) -> Pixels:
    """As they were, but for what is given."""
    said = {name: value for name, value in vars(given).items() if value is not None}
    before = Pixels(known.normalize, known.resize, known.crop, known.interpolation)
    return replace(before, **said)
