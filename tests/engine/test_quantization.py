"""The central verb takes what users have, goes one way, and says what does not fit."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from subbyte.engine.quantization import carry_out, quantize
from subbyte.engine.stages import Stages
from subbyte.errors import CaptureError, DataError, ModelError, NumericsError, RecipeError
from subbyte.recipe import load_recipe, make_plan
from tests.networks import build, captured, images


def same(one, other):
    assert one.plan == other.plan and list(one.weights) == list(other.weights)
    for name, weight in one.weights.items():
        assert torch.equal(weight.codes, other.weights[name].codes)
    assert torch.equal(one(images("shared")), other(images("shared")))


def test_a_name_a_file_a_recipe_and_a_plan_give_the_same_network(tmp_path):
    model, x, recipe = build("shared"), images("shared"), load_recipe("w4a8")
    settings = "weights: {bits: 4, symmetric: false}\nactivations: {bits: 8}\n"
    (tmp_path / "w4a8.yaml").write_text(settings)
    first = quantize(model, x, "w4a8")
    for wanted in (tmp_path / "w4a8.yaml", recipe, make_plan(captured("shared"), recipe)):
        same(first, quantize(model, x, wanted))
    same(first, quantize(model, x, recipe.model_dump()))


@pytest.mark.parametrize("overrides", [(), ("budget=5bits",), ("tune=cascade", "weights.guided=2")])
def test_a_written_plan_is_run_again_with_the_same_result(tmp_path, overrides):
    model, x, file = build("shared"), images("shared"), tmp_path / "plan.yaml"
    first = quantize(model, x, load_recipe("w4a4", overrides))
    file.write_text(first.plan.to_yaml())
    same(first, quantize(model, x, file))


def test_stages_are_reported_and_timed():
    reports = []
    stages = Stages(lambda *report: reports.append(report))
    done = carry_out(
        lambda: captured("shared"),
        load_recipe("w2", ["budget=4bits"]),
        images("shared"),
        labels=lambda: pytest.fail("no plan asks for labels"),
        stages=stages,
    )
    assert list(stages.seconds) == ["capture", "plan", "walk"] and min(stages.seconds.values()) >= 0
    assert list(dict.fromkeys(report[0] for report in reports)) == list(stages.seconds)
    assert done.network is captured("shared") and any(option.chosen for option in done.options)


def test_labels_are_asked_for_where_tuning_ends_with_them():
    tune, asked = "tune={name: cascade, retrain: labels, retrain_epochs: 1}", []
    labels = torch.arange(40) % 3
    carry_out(
        lambda: captured("shared"),
        load_recipe("w3", [tune]),
        images("shared"),
        labels=lambda: (asked.append(1), labels)[1],
    )
    assert asked == [1]


def test_quantize_takes_tensors_loaders_and_batches():
    model, x = build("functional"), images("functional")
    y = torch.zeros(len(x), dtype=torch.int64)
    expected = quantize(model, x, "w4")(x)
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    for given in (
        loader,
        list(x.split(16)),
        [(part, None) for part in x.split(16)],
        iter(x.split(16)),
        x.double().requires_grad_(),
    ):
        assert torch.equal(quantize(model, given, "w4")(x), expected)


@pytest.mark.parametrize(
    "given", [[], iter([]), (x for x in ()), torch.empty(0, 3, 12, 12), torch.tensor(1.0)]
)
def test_no_images_are_an_error(given):
    with pytest.raises(DataError, match=r"calibration images|no tensor \[n"):
        quantize(build("residual"), given)


@pytest.mark.parametrize("shape", [(4, 1, 12, 12), (3,)])
def test_images_that_do_not_fit_are_an_error(shape):
    with pytest.raises(
        CaptureError, match=rf"Residual with input float32 {list(shape)!r}".replace("[", r"\[")
    ):
        quantize(build("residual"), torch.randn(shape))


def test_batches_of_different_shapes_are_an_error():
    with pytest.raises(DataError):
        quantize(build("residual"), [torch.randn(4, 3, 12, 12), torch.randn(4, 3, 10, 10)])


@pytest.mark.parametrize(
    "given", [["a", "b"], [{"x": 1}], [torch.randint(0, 9, (4, 3, 12, 12)), None]]
)
def test_batches_that_are_no_images_are_an_error(given):
    with pytest.raises(DataError):
        quantize(build("residual"), given)


def test_networks_without_layers_are_an_error():
    with pytest.raises(ModelError, match="no convolution or linear layer"):
        quantize(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.randn(4, 3, 4, 4))


def test_unknown_recipes_and_patterns_are_errors():
    with pytest.raises(RecipeError, match="w5"):
        quantize(build("residual"), images("residual"), "w5")
    with pytest.raises(RecipeError, match="nothing"):
        quantize(
            build("residual"),
            images("residual"),
            load_recipe("w4", ["layers.nothing.skip=true"]),
        )


def test_nan_weights_are_an_error():
    model = build("mobile")
    model.fc.weight.data[0, 0] = torch.nan
    with pytest.raises(NumericsError, match=r"fc\.weight"):
        quantize(model, images("mobile"))
