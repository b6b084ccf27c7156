"""Settings of a training run: what is out of range is named."""

import json
from dataclasses import fields

import pytest

from subbyte.errors import RecipeError
from subbyte.learn.qat import WEIGHT_QUANTIZERS
from subbyte.learn.training import TrainSettings
from subbyte.learn.training.augment import AUGMENTATIONS
from subbyte.learn.training.lr_schedules import LR_SCHEDULES

NAN = float("nan")
SMOOTH = {"name": "classification"}
WRONG = [
    ("epochs", 0, "epochs must be a whole number, at least 1, got 0"),
    ("evaluate_every", 0, "evaluate_every must be a whole number, at least 1, got 0"),
    ("log_every", -5, "log_every must be a whole number, at least 1, got -5"),
    ("lr", 0.0, "lr must be a number, above 0 and finite in float32, got 0.0"),
    ("lr", NAN, "lr must be a number, above 0 and finite in float32, got nan"),
    ("warmup", -0.5, "warmup must be a number, at least 0 and finite in float32, got -0.5"),
    ("warmup", 20.5, "warmup must be at most the 20 epochs, got 20.5"),
    ("warmup", NAN, "warmup must be a number, at least 0 and finite in float32, got nan"),
    (
        "tasks",
        [SMOOTH | {"label_smoothing": 1.0}],
        "label_smoothing: must be a number, at least 0 and below 1, got 1.0",
    ),
    ("tasks", ["clasification"], "task: unknown method 'clasification'; known: classification"),
    ("validation", -1, "validation must be a whole number, at least 0, got -1"),
    ("seed", -1, "seed must be a whole number, at least 0, got -1"),
    ("seed", 2**31, "seed must be a whole number, at least 0, got 2147483648"),
    ("lr_schedule", "cosinus", "unknown method 'cosinus'; known: " + ", ".join(LR_SCHEDULES)),
    ("augment", "flip", "augment: unknown method 'flip'; known: " + ", ".join(AUGMENTATIONS)),
    ("qat", "lqs", "qat: unknown method 'lqs'; known: " + ", ".join(WEIGHT_QUANTIZERS)),
    ("optimizer", {"name": "sgd", "lr": 3}, "optimizer sgd: unknown setting 'lr'; known: momentum"),
    ("float_layers", ("fc1",), "float_layers are exempt from qat"),
    ("precision", "float16", "precision: unknown 'float16'; known: float32, bfloat16"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_values_out_of_range_are_errors(name, value, message):
    with pytest.raises(RecipeError) as error:
        TrainSettings.of(**{name: value})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1),
        ("batch_size", 1),
        ("warmup", 20),
        ("seed", 2**31 - 1),
        ("lr", 1e-30),
    ],
)
def test_ends_of_ranges_are_inside(name, value):
    assert getattr(TrainSettings(**{name: value}), name) == value


def test_plain_values_name_every_setting_and_survive_json():
    settings = TrainSettings.of(
        optimizer={"name": "qsgd", "momentum": 0.5}, qat="lsq", float_layers=("a", "b*")
    )
    plain = json.loads(json.dumps(settings.plain()))
    assert list(plain) == [field.name for field in fields(TrainSettings)]
    assert TrainSettings.of(**plain | {"float_layers": tuple(plain["float_layers"])}) == settings
