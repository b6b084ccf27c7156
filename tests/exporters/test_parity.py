"""The certificate: right files are kept, wrong ones refused, whatever the outputs look like."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte.errors import ParityError
from subbyte.exporters import export, runner
from subbyte.exporters.parity import Comparison, check_parity
from subbyte.graph import Samples
from tests.exporters.right_and_wrong import FAULTS, KINDS, Heads, samples, spoil
from tests.networks import images, quantized

pytestmark = pytest.mark.usefixtures("long_names")

RECIPES = ["w8a8", "w4a4", "w4", "w2", "ternary"]


@cache
def made(kind: str, recipe: str, seed: int = 1) -> subbyte.QuantizedModel:
    return subbyte.quantize(Heads(kind, seed), samples(), recipe)


def certify(model: subbyte.QuantizedModel, run, x: Tensor):
    return check_parity(model, run, Samples.of(x), "the runtime")


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A function that exports a network once."""

    @cache
    def file(kind: str, recipe: str):
        path = tmp_path_factory.mktemp("right") / "model.onnx"
        return export(made(kind, recipe), path, samples()).path

    return file


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("recipe", ["w8a8", pytest.param("w4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_planted_faults_are_refused(kind, recipe, fault, right):
    wrong = runner(spoil(right(kind, recipe), fault))
    with pytest.raises(ParityError, match="No file was kept"):
        certify(made(kind, recipe), wrong, samples())


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 40))]
)
def test_right_files_are_kept(seed, recipe, tmp_path):
    kind = KINDS[(seed + RECIPES.index(recipe)) % len(KINDS)]
    model = subbyte.quantize(Heads(kind, seed), samples(), recipe)
    found = export(model, tmp_path / "model.onnx", samples(), to="onnx-int8").parity
    assert 0 <= found.ratio <= 1
    assert [one.name for one in found.outputs] == model.output_names


@pytest.mark.parametrize("count", [1, 4, 40])
def test_another_run_with_other_rounding_is_right(count):
    """Deep, of few bits: a value on the border of two codes changes all that follows."""
    model, x = quantized("residual", "w4a4"), images("residual", count)
    for seed in range(100, 120):

        def run(x: Tensor, seed: int = seed) -> Tensor:
            with model.moved(2.0**-21, seed, 1):
                return model(x)

        found = certify(model, run, x)
        assert found.ratio <= 1 and found.samples == count


def test_one_value_of_one_row_off_by_one_step_is_refused():
    model, x = quantized("residual", "w8a8"), images("residual")
    step = model.output_steps[0]

    def run(x: Tensor) -> Tensor:
        y = model(x).clone()
        y[8, 2] += step  # far from a border of codes
        return y

    with pytest.raises(ParityError, match=r"output differs in 1 of 40 rows, most in row 8"):
        certify(model, run, x)


def test_an_error_below_the_noise_of_a_row_is_refused_where_all_rows_have_it():
    """The runtime rounds so coarsely here that every row has values on the other side."""
    model, x = quantized("residual", "w8a8"), images("residual", 1000)

    def compared(factor: float) -> Comparison:
        def run(x: Tensor) -> Tensor:
            with model.moved(2.0**-15, 77, 1), torch.no_grad():
                return factor * model(x)

        return Comparison(model, run, Samples.of(x), 2.0**-14)

    assert not compared(1.0).wrong
    found = compared(1.02)
    assert found.wrong and not found.outputs[0].beyond
    assert "all rows alike" in found.complaint("the runtime")


def test_the_file_of_another_network_with_one_output_is_refused(tmp_path):
    """Its class is always the first, so that classes say nothing."""
    model, other = made("[n, 1]", "w4"), made("[n, 1]", "w4", 2)
    path = export(other, tmp_path / "model.onnx", samples()).path
    with pytest.raises(ParityError):
        certify(model, runner(path), samples())


class Masked(nn.Module):
    """Outputs with -1e9 and -inf, as masks make them, beside small values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x)
        mask = torch.tensor([0.0, -1e9, 0, 0, -torch.inf, 0, 0, 0])
        return y + mask, y.argmax(1)


def test_masks_hide_no_error_and_integers_are_compared_as_they_are(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(50, 6)
    model = subbyte.quantize(Masked().eval(), x, "w4")
    path = export(model, tmp_path / "model.onnx", x).path
    right = runner(path)

    def wrong(part: int, change):
        def run(x: Tensor) -> tuple[Tensor, ...]:
            found = list(right(x))
            found[part] = change(found[part])
            return tuple(found)

        return run

    assert certify(model, right, x).ratio <= 1
    for part, change in (
        (0, lambda y: y * 1.02),
        (0, lambda y: y.clamp_min(-1e30)),
        (1, lambda y: (y + (torch.arange(len(y)) == 3)) % 8),
    ):
        with pytest.raises(ParityError, match=rf"output\.{part} differs"):
            certify(model, wrong(part, change), x)


def test_moving_numbers_leaves_the_network_as_it_was():
    model, x = quantized("residual", "w4a4"), images("residual")
    before, kept = model(x), {k: v.clone() for k, v in model.state_dict().items()}
    with model.moved(2.0**-8, 3, 1):
        up = model(x)
    with model.moved(2.0**-8, 3, -1):
        down = model(x)
    assert not torch.equal(up, before) and not torch.equal(up, down)
    assert torch.equal(model(x), before)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_outputs_of_other_number_or_shape_are_refused():
    model, x = quantized("residual", "w4"), images("residual")
    for run, why in (
        (lambda x: (model(x), model(x)), "has 2 outputs"),
        (lambda x: model(x)[:, :4], r"\[40, 4\], of the torch model"),
    ):
        with pytest.raises(ParityError, match=why):
            certify(model, run, x)


def test_the_certificate_says_what_was_compared(right):
    """In batches, the last of another size; the first axis is not always that of samples."""
    found = certify(made("heads", "w8a8"), runner(right("heads", "w8a8")), samples(130))
    assert found.samples == 130
    rows = {one.name: one.rows for one in found.outputs}
    assert rows == {"output.classes": 130, "output.positions": 2 * 16, "output.tokens": 130 * 16}
    for one in found.outputs:
        assert f"{one.name} differs by" in found.summary
        assert (one.classes is None) == (one.name == "output.classes")
