"""The loop against plain SGD step by step, what it logs, and what its settings do."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from subbyte.data import DataSet, Split
from subbyte.engine.evaluation import evaluate
from subbyte.errors import DataError, RecipeError
from subbyte.exporters.packed import load
from subbyte.graph import tensor_at
from subbyte.learn.training import PACKED, TrainSettings, train
from subbyte.learn.training.batches import Batches
from subbyte.learn.training.loop import split_data
from subbyte.models import lenet
from tests.learn.training.runs import (
    ADAM,
    FILES,
    SMOOTH,
    Normed,
    digits,
    few,
    left_by,
    numbered,
    replace,
    rows,
    run,
    seeded,
    stopping,
)
from tests.reference.training import course, sgd_run
from tests.workplace import names_in

SGD = TrainSettings.of(
    epochs=2, lr=0.05, batch_size=64, optimizer={"name": "sgd", "momentum": 0.0}, log_every=1
)
PLAIN = {
    "sgd": (SGD, {}),
    "momentum": (replace(SGD, optimizer="sgd", lr_schedule="linear"), {"momentum": 0.9}),
    "nesterov": (
        replace(
            SGD,
            optimizer={"name": "sgd", "nesterov": True},
            lr_schedule="constant",
            augment="shift",
        ),
        {"momentum": 0.9, "nesterov": True},
    ),
    "decay": (
        replace(
            SGD,
            optimizer={"name": "sgd", "momentum": 0.5, "weight_decay": 0.02},
            warmup=0.7,
            seed=3,
        ),
        {"momentum": 0.5, "weight_decay": 0.02},
    ),
    "smoothing": (
        replace(
            SGD,
            tasks=[SMOOTH | {"label_smoothing": 0.2}],
            augment="resized",
            validation=300,
            lr_schedule="step",
        ),
        {"smoothing": 0.2},
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_steps_and_logs_are_those_of_plain_sgd(name, tmp_path):
    settings, more = PLAIN[name]
    data = few(digits(), 700)
    split = split_data(data, settings).train
    per_epoch = len(split) // 64
    model, plain = seeded(), seeded().double()
    train(model, data, settings, tmp_path)
    batches = Batches(split, 64, settings.augment, settings.seed)
    first = 1 if settings.warmup else 0  # a warm-up moves from its first step on
    times = [(step + first) / per_epoch for step in range(2 * per_epoch)]
    line = [min(1, time / settings.warmup) if settings.warmup else 1 for time in times]
    rates = [
        0.05 * course(settings.plain()["lr_schedule"]["name"], time, 2) * up
        for time, up in zip(times, line, strict=True)
    ]
    found = sgd_run(
        plain, ((x, y) for epoch in range(2) for x, (y,) in batches.epoch(epoch)), rates, **more
    )
    moved = max(
        float((p - q).detach().abs().max())
        for p, q in zip(plain.parameters(), seeded().parameters(), strict=True)
    )
    for (key, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert float((p - q).detach().abs().max()) < 1e-4 * moved, key
    logged = rows(tmp_path, "steps.csv")
    assert [(int(row["step"]), int(row["epoch"])) for row in logged] == [
        (k + 1, k // per_epoch + 1) for k in range(2 * per_epoch)
    ]
    assert [float(row["lr"]) for row in logged] == pytest.approx(rates, rel=1e-12)
    assert [float(row["train_loss"]) for row in logged] == pytest.approx(
        [loss for loss, _ in found], abs=2e-5
    )
    assert [float(row["train_top1_percent"]) for row in logged] == pytest.approx(
        [100 * r for _, r in found], abs=1e-3
    )


def test_rows_are_means_over_their_steps(tmp_path):
    every, some = (
        run(tmp_path / "every", replace(ADAM, log_every=1)),
        run(tmp_path / "some", replace(ADAM, log_every=4)),
    )
    single, means = rows(every, "steps.csv"), rows(some, "steps.csv")
    # every fourth step of the run, and the last of an epoch
    ends = [0, 4, 8, 11, 12, 16, 20, 22, 24, 28, 32, 33]
    assert [int(row["step"]) for row in means] == ends[1:]
    assert [int(row["epoch"]) for row in means] == [1] * 3 + [2] * 4 + [3] * 4
    for name in ("train_loss", "train_top1_percent"):
        values = [float(row[name]) for row in single]
        assert [float(row[name]) for row in means] == pytest.approx(
            [float(np.mean(values[a:b])) for a, b in pairwise(ends)], abs=2e-4
        )
        for folder in (every, some):
            found = [float(row[name]) for row in rows(folder, "epochs.csv")]
            expected = [float(np.mean(values[11 * k : 11 * k + 11])) for k in range(3)]
            assert found == pytest.approx(expected, abs=2e-4)
    assert [row["lr"] for row in means] == [single[end - 1]["lr"] for end in ends[1:]]
    assert (every / "model.safetensors").read_bytes() == (some / "model.safetensors").read_bytes()


def test_what_is_written_down(tmp_path):
    data, about = few(digits(), 300), {"model": "lenet-digits", "note": "x"}
    model = seeded()
    settings = replace(ADAM, validation=40)
    record = train(model, data, settings, tmp_path / "deep" / "out", about=about)
    out = tmp_path / "deep" / "out"
    assert names_in(out) == FILES
    log, epochs = json.loads((out / "log.json").read_text()), rows(out, "epochs.csv")
    plain = json.loads(json.dumps(settings.plain() | {"processes": 1, "threads": 1} | about))
    assert log["settings"].items() >= plain.items()
    assert plain == json.loads((out / "settings.json").read_text())
    assert (
        [{k: v for k, v in row.items() if v is not None} for row in log["epochs"]] == record.epochs
        and len(epochs) == 3
        and len(record.steps) == len(rows(out, "steps.csv")) == 3
    )
    parts = split_data(data, settings)
    assert parts.validation is not None
    for name, split in (("test", parts.test), ("validation", parts.validation)):
        with torch.no_grad():
            logits = model.eval()(split.images(range(len(split))))
        right = 100 * float((logits.argmax(1) == split.labels).double().mean())
        assert float(epochs[-1][f"{name}_top1_percent"]) == pytest.approx(right, abs=1e-3)
        assert float(epochs[-1][f"{name}_loss"]) == pytest.approx(
            float(F.cross_entropy(logits, split.labels)), abs=1e-5
        )
    assert [(row["epoch"], row["steps"]) for row in epochs] == [("1", "2"), ("2", "4"), ("3", "6")]
    assert all(float(row["seconds"]) >= 0 for row in epochs)
    state = load_file(out / "model.safetensors")
    assert sorted(state) == sorted(model.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_it_learns(tmp_path):
    found = rows(run(tmp_path), "epochs.csv")
    assert float(found[-1]["test_top1_percent"]) > 75 and float(found[0]["train_loss"]) > float(
        found[2]["train_loss"]
    )


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    settings = replace(
        ADAM, optimizer={"name": "qsgd", "rounding": "stochastic"}, lr=0.05, augment="shift-flip"
    )
    first, again = run(tmp_path / "a", settings), run(tmp_path / "b", settings)
    assert left_by(first) == left_by(again)
    other = run(tmp_path / "c", replace(settings, seed=1))
    assert left_by(first)["model.safetensors"] != left_by(other)["model.safetensors"]
    assert left_by(first)["steps.csv"] != left_by(other)["steps.csv"]


def test_what_was_drawn_before_does_not_matter_and_goes_on_after(tmp_path):
    def dropping() -> nn.Module:
        return seeded(lambda: Normed(dropout=0.5))

    torch.manual_seed(5)
    first = run(tmp_path / "a", model=dropping())
    torch.manual_seed(6)
    torch.rand(3)
    before = torch.get_rng_state()
    second = run(tmp_path / "b", model=dropping())
    assert torch.equal(torch.get_rng_state(), before)
    assert left_by(first) == left_by(second)
    without = run(tmp_path / "c", model=seeded(Normed))
    assert left_by(first)["model.safetensors"] != left_by(without)["model.safetensors"]


def test_dropout_differs_from_step_to_step_epoch_to_epoch_and_seed_to_seed(tmp_path):
    masks: list[Tensor] = []

    class Spy(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(torch.ones_like(x))
            if self.training:
                masks.append(y[0] == 0)
            return x * y

    for seed in (0, 1):
        model = seeded(lambda: Normed(dropout=0.5))
        model.dropout = Spy(0.5)
        train(
            model,
            few(digits(), 128),
            replace(ADAM, batch_size=64, seed=seed, epochs=2),
            tmp_path / str(seed),
        )
    assert len(masks) == 8 and all(0.4 < float(mask.float().mean()) < 0.6 for mask in masks)
    assert len({mask.numpy().tobytes() for mask in masks[:4]}) == 4
    assert not torch.equal(masks[0], masks[4])


def test_the_network_is_in_training_mode_for_steps_alone(tmp_path):
    modes: list[tuple[bool, int]] = []

    class Spy(nn.Identity):
        def forward(self, x: Tensor) -> Tensor:
            modes.append((self.training, len(x)))
            return x

    model = seeded(lambda: nn.Sequential(Spy(), lenet(1, 8, 10))).eval()
    train(
        model,
        few(digits(), 128, 20),
        replace(ADAM, batch_size=64, epochs=2, validation=10),
        tmp_path,
    )
    # 118 images fill one batch an epoch
    assert [mode for mode in modes if mode[0]] == [(True, 64)] * 2
    assert [count for training, count in modes if not training][-4:] == [10, 20, 10, 20]


def test_validation_images_are_never_trained_on_and_are_drawn_by_seed(tmp_path):
    used: dict[str, list[int]] = {"train": [], "test": []}

    def spied(name: str, split: Split) -> Split:
        def read(indices: Tensor) -> Tensor:
            used[name].extend(indices.tolist())
            return split.read(indices)

        return Split.labelled(name, split.labels, read)

    small = few(digits(), 100, 20)
    assert small.train is not None
    data = DataSet("d", spied("train", small.train), spied("test", small.test), small.classes, "f")
    settings = replace(ADAM, batch_size=16, epochs=8, validation=30, evaluate_every=100)
    parts = split_data(data, settings)
    assert parts.validation is not None and (len(parts.train), len(parts.validation)) == (70, 30)
    parts.validation.images(range(30))
    apart = set(used["train"])
    used["train"].clear()
    train(seeded(), data, settings, tmp_path)
    # two of each split are looked at before; validation images are measured once, at the end
    trained, validated = used["train"][4:-30], used["train"][-30:]
    assert (
        set(validated) == apart
        and len(apart) == 30
        and sorted(set(trained)) == sorted(set(range(100)) - apart)
    )
    assert len(trained) == 8 * 64 and set(used["test"]) == set(range(20))
    other = split_data(data, replace(settings, seed=1)).validation
    assert other is not None and not torch.equal(other.labels, parts.validation.labels)


def test_accuracies_are_measured_when_asked_and_at_the_end(tmp_path):
    settings = replace(ADAM, epochs=5, evaluate_every=2, validation=20)
    found = rows(run(tmp_path, settings, data=few(digits(), 200)), "epochs.csv")
    names = ("test_loss", "test_top1_percent", "validation_loss", "validation_top1_percent")
    assert [all(row[name] != "" for name in names) for row in found] == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert [any(row[name] != "" for name in names) for row in found] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_without_validation_images_its_columns_are_empty(tmp_path):
    found = rows(run(tmp_path, replace(ADAM, epochs=1)), "epochs.csv")
    assert (
        found[0]["validation_loss"] == found[0]["validation_top1_percent"] == ""
        and found[0]["test_loss"] != ""
    )


COLUMNS = {"resolution_bits", "moved_percent", "saturated_percent", "temperature"}
REPORTED = [
    ({"optimizer": "sgd"}, set()),
    ({"optimizer": "qtadamw"}, COLUMNS - {"saturated_percent"}),
    ({"optimizer": "qsgd-2021"}, {"resolution_bits"}),
    ({"optimizer": "sgd", "qat": "grid"}, COLUMNS),
    ({"optimizer": "sgd", "qat": "lsq"}, set()),
]


@pytest.mark.parametrize(
    ("methods", "filled"), REPORTED, ids=["-".join(methods.values()) for methods, _ in REPORTED]
)
def test_what_the_optimizer_reports_is_logged(methods, filled, tmp_path):
    settings = replace(ADAM, epochs=2, lr=3e-3, **methods)
    out = run(tmp_path, settings, data=few(digits(), 400))
    for file in ("steps.csv", "epochs.csv"):
        for row in rows(out, file):
            assert {column for column in COLUMNS if row[column] != ""} == filled


def test_telemetry_of_a_fixed_lattice(tmp_path):
    settings = replace(ADAM, epochs=2, lr=0.1, lr_schedule="linear", log_every=1, batch_size=100)
    settings = replace(settings, optimizer={"name": "qsgd", "resolution": 6, "schedule": "fixed"})
    out = run(tmp_path, settings, data=few(digits(), 500))
    steps, epochs = rows(out, "steps.csv"), rows(out, "epochs.csv")
    for row in steps:
        assert float(row["resolution_bits"]) == 6
        assert float(row["temperature"]) == pytest.approx(
            1 / (24 * float(row["lr"]) * 4**6), rel=1e-5
        )
    assert (
        len({row["moved_percent"] for row in steps}) > 5
        and 0 < float(steps[0]["moved_percent"]) < 50
    )
    for k, row in enumerate(epochs):
        mean = np.mean([float(step["moved_percent"]) for step in steps[5 * k : 5 * k + 5]])
        assert float(row["moved_percent"]) == pytest.approx(float(mean), abs=1e-4)
        assert row["resolution_bits"] == steps[5 * k + 4]["resolution_bits"]


def test_weights_are_multiples_of_the_lattice_away_from_where_they_began(tmp_path):
    settings = replace(
        ADAM, epochs=2, lr=0.05, optimizer={"name": "qsgd", "resolution": 8, "schedule": "fixed"}
    )
    model, start = seeded(), seeded()
    train(model, digits(), settings, tmp_path)
    pairs = zip(model.parameters(), start.parameters(), strict=True)
    steps = torch.cat([(p - q).detach().flatten() * 2**8 for p, q in pairs])
    assert float((steps - steps.round()).abs().max()) < 1e-3 and float(steps.abs().max()) > 3


def test_the_schedule_epochs_counts_the_steps_of_an_epoch(tmp_path):
    settings = replace(
        ADAM,
        epochs=3,
        log_every=1,
        lr=0.05,
        optimizer={"name": "qsgd", "resolution": 5, "schedule": "epochs"},
    )
    found = [
        float(row["resolution_bits"]) for row in rows(run(tmp_path / "a", settings), "steps.csv")
    ]
    assert found == [4.0 if step / 11 < np.e - 2 else 5.0 for step in range(33)]
    compat = replace(settings, optimizer="qsgd-2023")
    found = [
        float(row["resolution_bits"]) for row in rows(run(tmp_path / "b", compat), "steps.csv")
    ]
    assert found == [18.0 if step / 11 < np.e - 2 else 19.0 for step in range(1, 34)]


def test_bfloat16_runs_stays_finite_and_differs(tmp_path):
    kinds: list[torch.dtype] = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            kinds.append(y.dtype)
            return y

    model = seeded()
    model.fc3 = seeded(lambda: Spy(84, 10))
    settings = replace(ADAM, precision="bfloat16")
    train(model, digits(), settings, tmp_path / "half")
    assert set(kinds) == {torch.bfloat16, torch.float32}  # measured in float32
    assert all(
        p.dtype == torch.float32 and bool(torch.isfinite(p).all()) for p in model.parameters()
    )
    whole = run(tmp_path / "whole")
    half = rows(tmp_path / "half", "epochs.csv")
    assert left_by(whole)["steps.csv"] != left_by(tmp_path / "half")["steps.csv"]
    assert float(half[-1]["test_top1_percent"]) > 75 and all(
        np.isfinite(float(row["train_loss"])) for row in half
    )


def test_progress_is_reported_with_every_row(tmp_path):
    found: list[tuple[str, int, int, str]] = []
    run(tmp_path, progress=lambda *all_: found.append(all_))
    steps = rows(tmp_path, "steps.csv")
    assert [(stage, done, total) for stage, done, total, _ in found] == [
        ("train", int(r["step"]), 33) for r in steps
    ]
    assert all(
        f"epoch {row['epoch']}" in what and f"{float(row['train_loss']):.3f}" in what
        for (_, _, _, what), row in zip(found, steps, strict=True)
    )


def test_layers_exempt_stay_off_the_grid_and_the_rest_stays_on_it(tmp_path):
    qat = {"name": "grid", "bits": 3, "extra_bits": 2}
    settings = replace(ADAM, lr=0.05, optimizer="sgd", qat=qat, float_layers=("conv2",))
    train(seeded(Normed), digits(), settings, tmp_path)
    found = load(tmp_path / PACKED, seeded(Normed, 1))
    codes = {name: len(weight.codes.unique()) for name, weight in found.weights.items()}
    assert codes == {"conv1": 8, "fc": 8}
    layer = found.layer("conv2")
    weight = layer.geometry.to_matrix(tensor_at(found.graph_module, layer.weight))
    assert [len(row.unique()) for row in weight] == [18] * 6
    top1 = evaluate(found, digits().test).top1
    assert top1 == pytest.approx(float(rows(tmp_path, "epochs.csv")[-1]["test_top1_percent"]))


def test_weights_on_and_off_the_grid_have_the_rate_of_the_log(tmp_path):
    out = run(
        tmp_path,
        replace(ADAM, epochs=2, lr=0.05, qat="grid", optimizer="sgd"),
        data=few(digits(), 300),
    )
    groups = torch.load(out / "checkpoint.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["bits"] for group in groups] == [4, None]
    assert [group["lr"] for group in groups] == [float(rows(out, "steps.csv")[-1]["lr"])] * 2


def test_layers_that_are_not_there_are_errors_that_leave_nothing(tmp_path):
    on_grid = replace(ADAM, optimizer="sgd", qat="grid")
    for pattern, message in (
        ("fc9", "pattern 'fc9' matches no layer; layers are conv1, conv2"),
        ("*", "there is no layer to put on a grid"),
    ):
        with pytest.raises(RecipeError, match=message):
            run(tmp_path / "out", replace(on_grid, float_layers=(pattern,)))
        assert not (tmp_path / "out").exists()


def test_data_that_do_not_fit_are_errors_that_leave_nothing(tmp_path):
    data = few(digits(), 100)
    only_test = DataSet("d", None, data.test, data.classes, "f")
    split = numbered(200, size=(1, 12, 12), classes=10)
    wide = DataSet("w", split, split, data.classes, "f")
    cases = [
        (only_test, ADAM, "d has no training images"),
        (
            data,
            replace(ADAM, validation=100),
            "digits: 100 of 100 training images can't be set apart",
        ),
        (data, replace(ADAM, validation=90, batch_size=16), "too few for a batch of 16"),
        (
            data,
            replace(ADAM, batch_size=101),
            "split 'train' has 100 images to train on, too few for a batch of 101",
        ),
        (wide, replace(ADAM, batch_size=50), "the network cannot take images [1, 12, 12]"),
    ]
    for given, settings, message in cases:
        with pytest.raises(DataError) as error:
            run(tmp_path / "out", settings, data=given)
        assert message in str(error.value) and not (tmp_path / "out").exists()


def test_labels_beyond_the_logits_are_an_error_that_leaves_nothing(tmp_path):
    data = few(digits(), 300)
    with pytest.raises(DataError, match="label 9"):
        run(tmp_path / "out", data=data, model=seeded(lambda: lenet(1, 8, 9)))
    assert not (tmp_path / "out").exists()


def test_the_device_is_checked_before_anything_is_written(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="torch finds no GPU here; use cpu"):
        run(tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()


def test_a_report_that_fails_stops_the_run(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, progress=stopping(15, ZeroDivisionError))
    assert [row["epoch"] for row in rows(tmp_path, "epochs.csv")] == ["1"] and names_in(
        tmp_path
    ) == FILES
