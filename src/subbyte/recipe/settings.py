"""The base of all groups of settings: they are checked whenever they are made, and what is wrong is
said in one line with the path to it.
"""

from collections.abc import Mapping
from inspect import isclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic._internal._model_construction import ModelMetaclass

from subbyte.allocate import ALLOCATIONS, Budget
from subbyte.correct import CORRECTIONS
from subbyte.errors import RecipeError
from subbyte.io.complaints import first_complaint
from subbyte.io.numbers import ANY
from subbyte.io.registry import ANYWHERE, Registry
from subbyte.io.user_file import MACHINE, UserFiles
from subbyte.methods import Allocate, Correction, Precondition, Range, Rounding, Tune
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES
from subbyte.recipe.width import Width
from subbyte.rounding import ROUNDINGS
from subbyte.tuning import TUNES

T = TypeVar("T")
_UNIONS = ("int", "float", "str")  # parts of pydantic's paths that are no settings
_UNKNOWN = "extra_forbidden"


def read(registry: Registry[Any]) -> PlainValidator:
    """Reads a method of a kind; classes of users' files are looked up where the context says."""

    def build(given: Any, info: ValidationInfo) -> Any:
        return registry.build(given, info.context or ANYWHERE)

    return PlainValidator(build)


def short(registry: Registry[Any]) -> PlainSerializer:
    """Writes a method by its name alone where it can; files of users by where the context says that
    they are named.
    """

    def write(method: Any, info: SerializationInfo) -> Any:
        return registry.short(method, info.context or MACHINE)

    return PlainSerializer(write)


def whole(registry: Registry[Any]) -> PlainSerializer:
    """Writes a method with every setting; files of users as `short` does."""

    def write(method: Any, info: SerializationInfo) -> Any:
        return registry.settings(method, info.context or MACHINE)

    return PlainSerializer(write)


def _budget(given: object) -> Budget:
    return given if isinstance(given, Budget) else Budget.parse(str(given))


RangeSetting = Annotated[Range, read(RANGES), short(RANGES)]
RoundingSetting = Annotated[Rounding, read(ROUNDINGS), short(ROUNDINGS)]
CorrectionSetting = Annotated[Correction, read(CORRECTIONS), short(CORRECTIONS)]
AllocateSetting = Annotated[Allocate, read(ALLOCATIONS), short(ALLOCATIONS)]
PreconditionSetting = Annotated[Precondition, read(PRECONDITIONS), short(PRECONDITIONS)]
TuneSetting = Annotated[Tune, read(TUNES), short(TUNES)]
WidthSetting = Annotated[Width, PlainValidator(Width.parse), PlainSerializer(Width.plain)]
Scales = Literal["any", "powers-of-two"]
"""The numbers that scales may be."""
BudgetSetting = Annotated[Budget, PlainValidator(_budget), PlainSerializer(str)]


class _Checked(ModelMetaclass):
    """Makes calls of a class raise RecipeError."""

    def __call__(self, *given: Any, **settings: Any) -> Any:
        try:
            return super().__call__(*given, **settings)
        except ValidationError as error:
            raise RecipeError(f"{self.__name__}: {complaint(self, error)}") from error


class Settings(BaseModel, metaclass=_Checked):
    """A group of settings. However it is made, RecipeError names the first that is wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """Refuse NaN, infinity, and numbers that neither float32 nor int64 holds."""
        return ANY.checked(value)

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Any:
        """Check a mapping."""
        try:
            return super().model_validate(obj, **how)
        except ValidationError as error:
            raise RecipeError(f"{cls.__name__}: {complaint(cls, error)}") from error

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **how: Any) -> Any:
        """Check the text of a mapping."""
        try:
            return super().model_validate_json(json_data, **how)
        except ValidationError as error:
            raise RecipeError(f"{cls.__name__}: {complaint(cls, error)}") from error

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        self._refuse_change(name)

    def __delattr__(self, name: str) -> NoReturn:
        self._refuse_change(name)

    def _refuse_change(self, name: str) -> NoReturn:
        raise RecipeError(
            f"{type(self).__name__}: settings are not changed, so {name} stays; make new ones, or "
            f"a copy by model_copy(update={{{name!r}: ...}})"
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Any:
        """The same settings but for these, which are checked."""
        return type(self)(**(dict(self) | dict(update or {})))


def parse_settings(model: type[T], settings: object, where: str, files: UserFiles = ANYWHERE) -> T:
    """Check a mapping of settings of a class. where: for the message; files: where classes of
    users' files are.

    Raises RecipeError that names the first setting that is wrong.
    """
    try:
        return TypeAdapter(model).validate_python(settings, context=files)
    except ValidationError as error:
        raise RecipeError(f"{where}: {complaint(model, error)}") from error


def complaint(model: type[Any], error: ValidationError) -> str:
    """The first thing that is wrong: the path to it, and what it is. model: what was checked."""
    path, message = first_complaint(error)
    loc = [part for part in path if part not in _UNIONS]
    if error.errors()[0]["type"] == _UNKNOWN:
        message += f"; known here: {', '.join(_known(model, loc[:-1]))}"
    return f"{'.'.join(map(str, loc)) or '(top)'}: {message}"


def _known(model: type[BaseModel], path: list[Any]) -> list[str]:
    """Names of the settings at a path below a group of them."""
    for part in path:
        field = model.model_fields.get(part)
        if field is not None:  # else the key of a dictionary of groups
            parts = (field.annotation, *get_args(field.annotation))
            model = next(part for part in parts if isclass(part) and issubclass(part, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]
