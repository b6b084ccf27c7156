"""Evidence for a page: histograms on grids against plain loops, predictions against counting,
pictures as they were.
"""

import base64
import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from subbyte.core import (
    TERNARY,
    Codebook,
    Counts,
    Grid,
    GridSpec,
    Levels,
    PerChannel,
    PerGroup,
    QTensor,
    Uniform,
    Widths,
    share_of,
)
from subbyte.core.levels import apot, odd
from subbyte.engine.evidence import (
    Named,
    activation_distributions,
    confusion,
    distribution,
    gather,
    predictions,
    thumbnails,
    weight_distributions,
)
from subbyte.graph import Samples, tensor_at
from subbyte.ranges import Mse, fit_grid
from subbyte.records import Distribution, Evidence
from tests.networks import build, captured, images, quantized
from tests.reference.grids import positions

ROWS, COLUMNS = 6, 50
SPECS = {
    "asymmetric": GridSpec(Uniform(4, symmetric=False), PerChannel()),
    "one scale": GridSpec(Uniform(3, symmetric=False)),
    "unsigned": GridSpec(Uniform(4, signed=False, symmetric=False)),
    "8 bits": GridSpec(Uniform(8), PerChannel()),
    "6 bits": GridSpec(Uniform(6), PerChannel()),
    "ternary": GridSpec(TERNARY, PerChannel()),
    "wide": GridSpec(Uniform(2, wide=True), PerChannel()),
    "groups": GridSpec(Uniform(2), PerGroup(16)),
    "odd": GridSpec(Levels(odd(2)), PerChannel()),
    "apot": GridSpec(Levels(apot(4)), PerChannel()),
}


def matrix(seed: int = 0, outlier: float = 0.0) -> Tensor:
    """Rows of unlike widths and means."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, COLUMNS, generator=generator)
    x = x * torch.linspace(0.2, 3, ROWS)[:, None] + torch.linspace(-0.3, 0.5, ROWS)[:, None]
    x[2, 3] += outlier
    return x


def placed(x: Tensor, grid: Grid) -> list[float]:
    """Every value's place on the axis of codes or steps, one by one."""
    found = []
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            k = 0 if grid.scale.numel() == 1 else r
            column = c // (grid.spec.share.block or x.shape[1])
            scale = grid.scale.reshape(max(1, grid.scale.shape[0] if grid.scale.ndim else 1), -1)[
                k, column
            ]
            zero = grid.zero_point.reshape(scale_rows(grid), -1)[k, column]
            found.append(float(x[r, c] / scale + zero))
    return found


def scale_rows(grid: Grid) -> int:
    return max(1, grid.scale.shape[0] if grid.scale.ndim else 1)


def counted(places: list[float], found: Distribution) -> tuple[list[int], int, int]:
    counts, below, above = [0] * len(found.counts), 0, 0
    for place in places:
        k = math.floor(
            np.float32(np.float32(place - np.float32(found.start)) / np.float32(found.width))
        )
        if k < 0:
            below += 1
        elif k > len(counts):
            above += 1
        else:
            counts[min(k, len(counts) - 1)] += 1
    return counts, below, above


@pytest.mark.parametrize("outlier", [0.0, 500.0])
@pytest.mark.parametrize("name", SPECS)
def test_histograms_are_those_of_a_plain_loop(name, outlier):
    x = matrix(outlier=outlier)
    grid = fit_grid(Mse(), matrix(), SPECS[name])
    rounded = QTensor.nearest(x, grid)
    found = distribution(x, grid, rounded)
    counts, below, above = counted(placed(x, grid), found)
    assert (found.counts, found.below, found.above) == (counts, below, above)
    assert sum(counts) + below + above == x.numel() and len(counts) <= 81
    assert above == (outlier > 0) and below == 0
    assert len(found.taken) == len(found.levels) == grid.spec.alphabet.count
    for code, count in zip(
        range(grid.spec.alphabet.qmin, grid.spec.alphabet.qmax + 1), found.taken, strict=True
    ):
        assert count == int((rounded.codes == code).sum())
    alphabet = grid.spec.alphabet
    assert found.levels == pytest.approx(positions(alphabet)[0].tolist(), rel=1e-5)
    assert found.unit == ("codes" if alphabet.even else "steps")
    assert found.values == (float(x.min()), float(x.max()))
    scales = sorted(grid.scale.reshape(-1).tolist())
    assert found.scales[0] == pytest.approx(scales[0], rel=1e-5)
    assert found.scales[2] == pytest.approx(float(np.median(scales)), rel=1e-5)
    assert found.scales[4] == pytest.approx(scales[-1], rel=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_clipped_values_are_those_that_rounding_moves_by_more_than_half_a_step(name):
    """Another way to say it: further from what they become than the level next to the end is
    wide.
    """
    x, grid = matrix(1), fit_grid(Mse(), matrix(), SPECS[name])
    found = distribution(x, grid)
    low, high = found.levels[0], found.levels[-1]
    left, right = (found.levels[1] - low) / 2, (high - found.levels[-2]) / 2
    out = [place < low - left or place > high + right for place in placed(x, grid)]
    assert found.clipped_percent == pytest.approx(100 * sum(out) / x.numel(), abs=1e-3)
    assert any(out) and found.taken == []  # nothing was rounded
    ends = torch.cat(
        [
            grid.decode(torch.full_like(grid.encode(x), code))
            for code in (grid.spec.alphabet.qmin, grid.spec.alphabet.qmax)
        ]
    )
    assert found.reach == pytest.approx((float(ends.min()), float(ends.max())), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_levels_lie_in_the_middle_of_a_bin(bits):
    found = distribution(matrix(), fit_grid(Mse(), matrix(), GridSpec(Uniform(bits), PerChannel())))
    for level in found.levels:
        part = (level - found.start) / found.width
        assert part - math.floor(part) == pytest.approx(0.5, abs=1e-6)


def test_rows_of_their_own_levels_have_none_in_common():
    given = Counts((2, 3, 4, 5, 9, 127))
    counts = given.given
    x, scale = matrix(), torch.full((ROWS, 1), 0.25)
    grid = Grid.of(GridSpec(given, PerChannel()), scale)
    rounded = QTensor.nearest(x, grid)
    found = distribution(x, grid, rounded)
    assert (
        found.unit == "steps" and not found.levels and not found.taken and found.zero_points is None
    )
    assert found.reach == (-63 * 0.25, 63 * 0.25)
    ends = counts * 0.25 / 2  # half a step beyond the outermost level
    assert found.clipped_percent == pytest.approx(
        100 * float((x.abs() > ends).double().mean()), abs=1e-3
    )
    assert 0 < found.clipped_percent < 100
    assert found.rounded == counted((rounded.dequantize() / 0.25).reshape(-1).tolist(), found)[0]


def test_rows_of_their_own_widths_have_no_levels_in_common():
    spec = GridSpec(Widths(mean=3.0, bits=8, symmetric=False), PerChannel())
    widths = torch.tensor([0, 1, 2, 3, 4, 8])[:, None]
    x = matrix()
    grid = Grid.of(
        spec, torch.full((ROWS, 1), 0.25), torch.tensor([1, 0, -1, 2, 0, 0])[:, None], own=widths
    )
    rounded = QTensor.nearest(x, grid)
    found = distribution(x, grid, rounded)
    assert found.unit == "steps" and not found.levels and not found.taken
    assert found.rounded == counted((rounded.dequantize() / 0.25).reshape(-1).tolist(), found)[0]
    out = 0
    for r, row in enumerate(rounded.grid.decode(rounded.codes)):
        low, high = (float(end[r, 0] - grid.zero_point[r, 0]) * 0.25 for end in grid.ends)
        assert low <= float(row.min()) and float(row.max()) <= high
        out += int(((x[r] < low - 0.125) | (x[r] > high + 0.125)).sum())
    assert found.clipped_percent == pytest.approx(100 * out / x.numel(), abs=1e-3)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_codebooks_have_their_levels_where_they_are_shared(granularity):
    spec = GridSpec(Codebook(5), share_of(granularity))
    rows = 1 if granularity == "tensor" else ROWS
    codebook = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 2.0]]).repeat(rows, 1)
    codebook[-1, -1] = 2.5
    grid = Grid.of(spec, torch.full((() if rows == 1 else (ROWS, 1)), 0.5), None, codebook)
    rounded = QTensor.nearest(matrix(), grid)
    found = distribution(matrix(), grid, rounded)
    if rows == 1:
        assert found.levels == [-2, -0.5, 0, 0.5, 2.5] and sum(found.taken) == ROWS * COLUMNS
        assert found.taken == torch.bincount(rounded.codes.reshape(-1).long(), minlength=5).tolist()
    else:
        assert not found.levels and sum(found.rounded) == ROWS * COLUMNS
    assert found.reach == (-1, 1.25)


def test_float_values_are_counted_as_they_are():
    found = distribution(matrix(), None)
    assert found.unit == "values" and found.scales is None and found.clipped_percent is None
    assert (
        found.counts == counted(matrix().reshape(-1).tolist(), found)[0]
        and sum(found.counts) == ROWS * COLUMNS
    )
    constant = distribution(torch.full((2, 3), 7.0), None)
    assert sum(constant.counts) == 6 and constant.counts[0] == 6
    one = distribution(torch.zeros(2, 3), Grid.of(GridSpec(Uniform(2)), torch.tensor(1.0)))
    assert one.counts[next(k for k, count in enumerate(one.counts) if count)] == 6


def test_weights_are_those_that_the_walk_saw():
    network, model = captured("residual"), quantized("residual", "w4a4", "layers.fc.skip=true")
    found = weight_distributions(network, model)
    assert list(found) == [layer.name for layer in network.layers]
    assert found["fc"].unit == "values" and not found["fc"].taken
    stem = network.layer("stem")
    weight = tensor_at(network.graph_module, stem.weight)
    assert found["stem"].values == (float(weight.min()), float(weight.max()))
    assert found["stem"].values != (float(build("residual").stem.weight.min()),) * 2
    for layer in network.layers[:-1]:
        codes = model.weights[layer.name].codes
        taken = [int((codes == code).sum()) for code in range(-8, 8)]
        assert found[layer.name].taken == taken and sum(found[layer.name].counts) == codes.numel()


def test_a_shared_weight_is_looked_at_once():
    network = captured("shared")
    found = weight_distributions(network, quantized("shared", "w4"))
    assert set(found) == {layer.name for layer in network.owners} and len(found) == 2


@pytest.mark.parametrize(
    "settings", [(), ("activations.granularity=channel",), ("activations.dynamic=true",)]
)
def test_activations_are_those_of_the_float_network(settings):
    if settings and "dynamic" in settings[0]:
        settings = (*settings, "activations.range=minmax")
    network, model, x = (
        captured("residual"),
        quantized("residual", "w4a4", *settings),
        images("residual")[:20],
    )
    found = activation_distributions(network, model, Samples.of(x))
    assert list(found) == [tap.name for tap in model.plan.taps] and len(found) > 6
    assert (
        found["input"].values == (float(x.min()), float(x.max()))
        and sum(found["input"].counts) == x.numel()
    )
    with torch.no_grad():
        float_model = build("residual")
        first = torch.relu(float_model.bn(float_model.stem(x)))
        logits = float_model(x)
    assert found["stem:out"].values == pytest.approx(
        (float(first.min()), float(first.max())), abs=1e-5
    )
    assert sum(found["stem:out"].counts) + found["stem:out"].above == first.numel()
    assert found["fc:out"].values == pytest.approx(
        (float(logits.min()), float(logits.max())), abs=1e-4
    )
    for tap in model.plan.taps:
        grid = model.instrumented.tap(tap.name).grid
        assert (
            found[tap.name].taken == []
            and (found[tap.name].scales is None) == (grid is None) == tap.dynamic
        )
        if grid is not None:
            assert found[tap.name].scales[2] == pytest.approx(float(grid.scale.median()), rel=0.5)
            assert found[tap.name].levels == list(
                range(grid.spec.alphabet.qmin, grid.spec.alphabet.qmax + 1)
            )


def test_looking_changes_nothing():
    network, model, x = captured("residual"), quantized("residual", "w4a4"), images("residual")
    before, state = model(x), {k: v.clone() for k, v in network.graph_module.state_dict().items()}
    activation_distributions(network, model, Samples.of(x[:4]))
    weight_distributions(network, model)
    assert torch.equal(model(x), before)
    assert all(torch.equal(v, state[k]) for k, v in network.graph_module.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_weights_only_leave_activations_alone(monkeypatch):
    network, model = captured("residual"), quantized("residual", "w2")
    monkeypatch.setattr("subbyte.engine.evidence.instrument", None)  # would be called in vain
    assert activation_distributions(network, model, Samples.of(images("residual"))) == {}


@pytest.fixture
def named():
    """100 images of 3 classes, of which the quantized network names some otherwise; pictures tell
    their number.
    """
    generator = torch.Generator().manual_seed(3)
    before, labels = torch.randn(100, 3, generator=generator), torch.arange(100) % 3
    after = torch.where(torch.rand(100, 1, generator=generator) < 0.5, before.flip(1), before)

    def read(indices):
        return torch.stack([torch.full((1, 4, 4), k / 100) for k in indices])

    return Named(before, after, labels, ("cat", "<b>dog", "cow"), read)


def test_predictions_are_counted(named):
    found = predictions(named, torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4))
    lost = gained = moved = 0
    cells = {"float": {}, "quantized": {}}
    changed = []
    for k in range(100):
        label, a, b = (
            int(named.labels[k]),
            int(named.float[k].argmax()),
            int(named.quantized[k].argmax()),
        )
        cells["float"][label, a] = cells["float"].get((label, a), 0) + 1
        cells["quantized"][label, b] = cells["quantized"].get((label, b), 0) + 1
        lost += a == label != b
        gained += b == label != a
        moved += a != b and label not in (a, b)
        if a != b:
            changed.append(k)
    assert (found.lost, found.gained, found.moved) == (lost, gained, moved) and min(
        lost, gained, moved
    ) > 3
    assert found.float_cells == [(*place, count) for place, count in sorted(cells["float"].items())]
    assert found.quantized_cells == [
        (*place, count) for place, count in sorted(cells["quantized"].items())
    ]
    assert found.labels == [34, 33, 33] and found.classes == ["cat", "<b>dog", "cow"]
    assert len(changed) > 24 == len(found.changed)
    shown = [one.index for one in found.changed]
    assert shown == sorted(set(shown)) and set(shown) <= set(changed)
    places = [changed.index(index) for index in shown]
    gaps = [b - a for a, b in pairwise(places)]
    assert (
        places[0] == 0 and max(gaps) - min(gaps) <= 1 and places[-1] >= len(changed) - max(gaps) - 1
    )
    for one in found.changed:
        k = one.index
        assert one.label == named.labels[k] and one.float_class == named.float[k].argmax()
        share = float(named.quantized[k].softmax(0).max())
        assert one.quantized_sure == pytest.approx(100 * share, abs=0.01)
        assert pixels(one.picture)[0, 0] == round(255 * k / 100)


def pixels(uri: str) -> np.ndarray:
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(start)))))


def test_pictures_are_the_pixels_before_normalization():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (8, 3, 20, 16), generator=generator)
    raw[0, :, 0, 0], raw[1, :, 0, 0] = 0, 255  # both ends are among the calibration images
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    normalized = (raw / 255 - mean) / std
    for picture, image in zip(thumbnails(normalized[4:6], normalized), raw[4:6], strict=True):
        assert np.array_equal(pixels(picture), image.movedim(0, 2).numpy())
    grey = thumbnails(normalized[:1, :1], normalized[:, :1])[0]
    assert np.array_equal(pixels(grey), raw[0, 0].numpy())


def test_large_pictures_shrink_and_what_is_no_picture_has_none():
    large = torch.rand(1, 3, 100, 300)
    assert pixels(thumbnails(large, large)[0]).shape == (21, 64, 3)
    assert pixels(thumbnails(torch.rand(1, 1, 500, 1), torch.rand(2, 1, 500, 1))[0]).shape == (
        64,
        1,
    )
    for other in (torch.rand(2, 8), torch.rand(2, 4, 8, 8), torch.rand(2, 6, 8)):
        assert thumbnails(other, other) == ["", ""]
    flat = torch.full((1, 3, 4, 4), 0.3)
    assert pixels(thumbnails(flat, flat)[0]).max() == 0


def test_of_many_cells_the_rarest_mistakes_are_left_out(monkeypatch):
    monkeypatch.setattr("subbyte.engine.evidence._CELLS", 4)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 2])
    given = torch.tensor([0, 1, 1, 0, 2, 0, 0, 1, 2])
    assert confusion(labels, given) == [(0, 0, 1), (1, 1, 1), (2, 0, 2), (2, 2, 2)]


def test_classes_that_only_the_network_knows_get_names(named):
    wider = torch.cat([named.float, named.float.amax(1, keepdim=True) + 1], 1)
    found = predictions(
        Named(wider, wider, named.labels, named.classes, named.read), torch.rand(2, 1, 4, 4)
    )
    assert found.classes[3:] == ["class 3"] and found.labels[3] == 0 and not found.changed
    assert {cell[1] for cell in found.float_cells} == {3}


def test_all_of_it_comes_back_from_its_file(named):
    network, model = captured("residual"), quantized("residual", "w4a4")
    found = gather(network, model, images("residual"), named)
    assert found.images == 40
    text = found.model_dump_json(exclude_defaults=True)
    assert Evidence.model_validate_json(text) == found and len(text) < 60_000
    assert text == gather(network, model, images("residual"), named).model_dump_json(
        exclude_defaults=True
    )


@pytest.mark.parametrize(
    ("shape", "count"), [((3, 32, 32), 85), ((1, 8, 8), 128), ((3, 224, 224), 16)]
)
def test_as_many_images_are_looked_at_as_is_quick(shape, count, named, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "subbyte.engine.evidence.activation_distributions",
        lambda network, model, samples: seen.append(samples.leaves[0].shape) or {},
    )
    monkeypatch.setattr("subbyte.engine.evidence.weight_distributions", lambda network, model: {})
    many = torch.zeros(1).expand(200, *shape)
    gather(
        None, None, many, Named(named.float, named.float, named.labels, named.classes, named.read)
    )
    assert seen == [(count, *shape)]
